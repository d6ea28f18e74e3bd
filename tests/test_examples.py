"""Every example runs against the demo's site, and says what it promises: on `local()`, or on the server that all tests share."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests import programs
from tests.conftest import RunningServer, clean_environment

ONE_BUILD = pytest.mark.one_build("examples are for whichever build there is")

EXAMPLES = Path(__file__).parents[1] / "examples"
PROMISES = {
    "rent_and_drive.py": [r"Sign in", r"\d responses, first http://127", r"charged 0.05, used 1 min"],
    "playwright_and_cdp.py": [
        r"Playwright sees: Sign in",
        r"CDP sees: Sign in",
        r"reload: 200",
        r"charged 0.05",
    ],
    "playwright_sync.py": [r"Sign in", r"charged 0.05"],
    "pool.py": [r"12 pages, the first is 'Sign in'", r"owner=one owner=other", r"charged 0\.1, used 2 min"],
    "profile_login.py": [
        r"first rental: Sign in",
        r"signed in: Your account",
        r"second rental: Your account",
    ],
    "scrapy_crawl.py": [r"1 pages, 0\.000833 USD"],
    "proxy_country.py": [r"Try ada and lovelace", r"0\.0\d+ MB through the proxy"],
    "two_browsers.py": [
        r"first sees 'owner=first'",
        r"second sees 'owner=second'",
        r"first: charged",
        r"second: charged",
    ],
}


def test_each_example_is_run() -> None:
    assert {file.name for file in EXAMPLES.glob("[!_]*.py")} == set(PROMISES)


def run(
    name: str, *arguments: str, folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return programs.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        cwd=folder,
        env=environment | {"CDPBRIDGE_DATA_DIR": str(folder / "data")},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@ONE_BUILD
@pytest.mark.chromium
@pytest.mark.parametrize("name", PROMISES)
def test_example(name: str, site: str, tmp_path: Path, server: RunningServer) -> None:
    """Those that use this machine run as they are, without an argument, and without the Internet."""
    alone = "local(" in (EXAMPLES / name).read_text() or name == "rent_and_drive.py"
    environment = clean_environment() if alone else server.environment()
    done = run(name, *([] if alone else [site]), folder=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    for promise in PROMISES[name]:
        assert re.search(promise, done.stdout), done.stdout
    assert done.stderr == ""


@ONE_BUILD
@pytest.mark.chromium
def test_a_crawl_that_reads_nothing_says_so(tmp_path: Path, server: RunningServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        closed = listening.getsockname()[1]
    environment = server.environment()
    done = run("scrapy_crawl.py", f"http://127.0.0.1:{closed}/", folder=tmp_path, environment=environment)
    assert done.returncode == 1
    assert "0 pages" in done.stdout
    assert done.stderr.endswith("no page was read; the log above says why\n")
