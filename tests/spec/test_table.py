"""The table of the specification and the tests are in step."""

import ast
import re
from functools import cache
from pathlib import Path

from tests.cases import cases

TESTS = Path(__file__).parents[1]
TABLE = TESTS.parent / "docs" / "specification.md"
COLUMNS = ("place", "says", "held", "tests", "remark")


def rows():
    found = []
    for line in TABLE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == len(COLUMNS) and cells[0] not in {"place", "---"}:
            found.append(dict(zip(COLUMNS, cells, strict=True)))
    return found


def named(row):
    return re.findall(r"`([\w/.]+::\w+)`", row["tests"])


@cache
def functions(file):
    tree = ast.parse((TESTS / file).read_text())
    found = [each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {each.name: ast.get_docstring(each) or "" for each in found if each.name.startswith("test_")}


def places_of_tests():
    for file in sorted(TESTS.glob("spec/test_*.py")):
        if file.name != Path(__file__).name:
            for name, docstring in functions(f"spec/{file.name}").items():
                yield f"spec/{file.name}::{name}", docstring.partition(":")[0]


@cases("row", rows(), ids=lambda row: f"{row['place']} {row['says'][:30]}")
def test_a_row_names_tests_that_exist_or_a_reason(row):
    assert row["held"] in {"yes", "partly", "no", "n/a"}
    if row["held"] in {"yes", "partly"}:
        assert named(row), "a row that is held names its test"
    if row["held"] != "yes":
        assert row["remark"].strip(), "a row that is not wholly held says why"
    for each in named(row):
        file, _, name = each.partition("::")
        assert name in functions(file), each


@cases(("test", "place"), [*places_of_tests()])
def test_each_test_stands_in_the_row_of_its_place(test, place):
    assert test in {each for row in rows() if row["place"] == place for each in named(row)}, place


def test_nothing_of_the_reference_is_missing(spec_document):
    text = TABLE.read_text()
    for path, methods in spec_document["paths"].items():
        for method in methods:
            line = next((each for each in text.splitlines() if path in each and method.upper() in each), None)
            assert line is not None, f"{method.upper()} {path}"
    schemas = spec_document["components"]["schemas"]
    requests = [name for name in schemas if name.endswith("Request")]
    fields = {field for name in requests for field in schemas[name]["properties"]}
    parameters = {
        parameter["name"]
        for methods in spec_document["paths"].values()
        for operation in methods.values()
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "query"
    }
    words = set(re.findall(r"\w+", text))
    assert fields | parameters <= words | {"action", "name"}, sorted((fields | parameters) - words)


def test_there_is_a_row_for_every_obligation():
    assert len(rows()) >= 90
