"""A test of Chromium that forgets a build stops the run."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests.builds import complaints
from tests.cases import cases

SAMPLE = """
import pytest

@pytest.fixture(params=["shell", "full"])
def browser(request):
    return request.param

@pytest.mark.chromium
def test_of_both(browser):
    pass

@pytest.mark.chromium
@pytest.mark.one_build("the page is the same")
def test_of_one():
    pass

def test_without_a_browser():
    pass
"""
FORGOTTEN = """
@pytest.mark.chromium
def test_that_navigates():
    pass
"""


@pytest.mark.programs
@pytest.mark.parametrize("more", ["", FORGOTTEN])
def test_the_check_stops_a_run(tmp_path, more):
    (tmp_path / "test_sample.py").write_text(SAMPLE + more)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = chromium: a\n    one_build: b\n")
    without = [
        f"-pno:{each}" for each in ("cacheprovider", "playwright", "playwright-asyncio", "schemathesis")
    ]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.builds", *without, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if more:
        assert done.returncode == pytest.ExitCode.USAGE_ERROR
        assert "test_sample.py::test_that_navigates: run it on both builds" in done.stderr
        assert done.stderr.count("::") == 1
    else:
        assert (done.returncode, "4 passed" in done.stdout) == (0, True), done.stdout + done.stderr


def item(*builds, marks=("chromium",), reasons=()):
    """What pytest collects of a test; a case for each build."""
    marked = [SimpleNamespace(args=each, kwargs={}) for each in reasons]
    for build in builds or (None,):
        yield SimpleNamespace(
            nodeid="test_a.py::test" + (f"[{build}-1]" if build else ""),
            callspec=SimpleNamespace(params={"build": build, "other": 1}),
            get_closest_marker=lambda name: name in marks or None,
            iter_markers=lambda _name: marked,
        )


@cases(
    ("items", "whole", "complaint"),
    [
        (item("shell", "full"), True, None),
        (item("shell"), True, "run it on both builds"),
        (item("shell"), False, None),  # `pytest test_a.py::test[shell]`
        (item(), True, "run it on both builds"),
        (item(), False, "run it on both builds"),
        (item("other"), True, "run it on both builds"),
        (item(marks=()), True, None),
        (item(reasons=[("the page is the same",)]), True, None),
        (item("shell", reasons=[("the page is the same",)]), True, None),
        (item(reasons=[()]), True, "needs its reason"),
        (item(reasons=[(" ",)]), True, "needs its reason"),
        (item("shell", "full", reasons=[("the page is the same",)]), True, "it runs on both builds"),
    ],
)
def test_what_is_wrong_is_said(items, whole, complaint):
    found = list(complaints(items, whole=whole))
    assert len(found) == (complaint is not None)
    assert complaint is None or complaint in found[0]
