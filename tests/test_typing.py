"""Type checks of the public surface, by mypy and by pyright.

`tests/typing/*_accepted.py` pass, each marked line of `*_rejected.py` fails; the mark names mypy's code, pyright's are others.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.programs

ROOT = Path(__file__).parents[1]
FOLDER = Path(__file__).with_name("typing")
EXPECTATION = re.compile(r"# expect: ([a-z-]+)$")
ERROR = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+): error: .*\[(?P<code>[a-z-]+)\]$")

Finding = tuple[str, int, str]


@pytest.fixture(scope="module")
def findings() -> set[Finding]:
    """File, line and code of every error mypy reports in the folder; one run for all files."""
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--no-pretty", "--hide-error-context"]
    files = sorted(str(file.relative_to(ROOT)) for file in FOLDER.glob("*.py"))
    done = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = set()
    for line in done.stdout.splitlines():
        if ": note: " not in line:
            match = ERROR.match(line)
            assert match, line
            found.add((Path(match["file"]).name, int(match["line"]), match["code"]))
    return found


@pytest.mark.timeout(300)  # without a cache, mypy reads the whole package and its libraries first
@pytest.mark.parametrize("file", sorted(FOLDER.glob("*_accepted.py")), ids=lambda file: file.stem)
def test_accepted(file: Path, findings: set[Finding]) -> None:
    assert [finding for finding in findings if finding[0] == file.name] == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("file", sorted(FOLDER.glob("*_rejected.py")), ids=lambda file: file.stem)
def test_rejected(file: Path, findings: set[Finding]) -> None:
    expected = {
        (file.name, number, match[1])
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        if (match := EXPECTATION.search(line))
    }
    assert expected
    assert {finding for finding in findings if finding[0] == file.name} == expected


@pytest.fixture(scope="module")
def by_pyright() -> set[tuple[str, int]]:
    """File and line of every error pyright reports in the folder."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(
        [*command, "--project", str(FOLDER)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    problems = json.loads(done.stdout[done.stdout.index("{") :])["generalDiagnostics"]
    return {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1)
        for each in problems
        if each["severity"] == "error"
    }


@pytest.mark.slow  # the second checker; `make check` runs it on what is accepted
@pytest.mark.timeout(300)
def test_pyright_says_the_same(by_pyright: set[tuple[str, int]]) -> None:
    marked = {
        (file.name, number)
        for file in FOLDER.glob("*_rejected.py")
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        if EXPECTATION.search(line)
    }
    assert by_pyright == marked


def test_every_file_is_checked() -> None:
    names = {file.name for file in FOLDER.glob("*.py")}
    assert names
    assert all(name.endswith(("_accepted.py", "_rejected.py")) for name in names)
