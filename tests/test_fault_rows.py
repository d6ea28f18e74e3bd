"""Names of tests and rows of FAULTS.md belong together."""

import re
from pathlib import Path

HERE = Path(__file__).parent
TABLE = (HERE / "FAULTS.md").read_text()
NAME = re.compile(r"^\s*(?:async )?def test_fault_((?:[a-e]\d\d_)+)", re.MULTILINE)


def cited():
    """Rows that names of tests cite, with the files."""
    found = {}
    for file in sorted(HERE.rglob("test_*.py")):
        for rows in NAME.findall(file.read_text()):
            for row in rows.upper().split("_")[:-1]:
                found.setdefault(row, set()).add(str(file.relative_to(HERE)))
    return found


def rows():
    return [cells.split("|")[1].strip() for cells in TABLE.splitlines() if re.match(r"\| [A-E]\d", cells)]


def test_each_name_has_a_row_and_each_row_a_test():
    found = cited()
    assert len(found) > 100
    assert {row: files for row, files in found.items() if row not in rows()} == {}
    assert [row for row in rows() if row not in found] == []


def test_rows_are_whole_and_in_order():
    assert rows() == sorted(set(rows()))
    for line in TABLE.splitlines():
        if re.match(r"\| [A-E]\d", line):
            assert len([cell for cell in line.split("|") if cell.strip()]) == 3, line
