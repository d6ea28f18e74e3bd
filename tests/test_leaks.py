"""The trials of `benchmarks/leaks.py`: four, a hundred of the thousand, or forty of a cluster."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import machines, postgres

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "leaks.py"
VICTIMS = {"client", "server", "chromium", "network"}
OF_A_CLUSTER = VICTIMS | {
    *("frozen server", "cable of a server", "clock of a server"),
    *("worker", "frozen worker", "cable of a worker"),
    *("database", "frozen database", "cable of the database"),
}

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build("the harness counts processes and folders, whichever the build"),
]


def trials(*options, seconds, victims=VICTIMS, results="leaks"):
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *options], capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr  # the seeds are in it
    rows = json.loads((PROGRAM.parent / "results" / f"{results}.json").read_text())["rows"]
    assert {row["victim"] for row in rows} == victims
    assert not any(row["leaks"] for row in rows)
    assert sum(row["rentals"] for row in rows) >= len(rows)
    return rows


@pytest.mark.slow  # every run kills each of them once: b05 and b13 in server/, a77 in cdp/, a80 in rental/
def test_a_kill_of_each_victim_leaks_nothing(environment):
    assert len(trials("--each", "1", "--worlds", "1", seconds=110)) == 4


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_trials_leak_nothing(environment):
    assert len(trials("--trials", "100", seconds=1700)) == 100


@machines.POSSIBLE
@postgres.INSTALLED
@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_forty_trials_of_a_cluster_leak_nothing(environment):
    # That seed strikes each at least twice.
    options = "--cluster", "--trials", "40", "--seed", "35"
    assert len(trials(*options, seconds=2300, victims=OF_A_CLUSTER, results="leaks_cluster")) == 40
