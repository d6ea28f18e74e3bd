"""The trials of `benchmarks/leaks.py`: twenty of the thousand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "leaks.py"


@pytest.mark.slow
@pytest.mark.chromium
@pytest.mark.timeout(1800)
def test_twenty_trials_leak_nothing(environment):
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--trials", "20"],
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((PROGRAM.parent / "results" / "leaks.json").read_text())
    assert len(report["rows"]) == 20
    assert sum(row["rentals"] for row in report["rows"]) >= 20
