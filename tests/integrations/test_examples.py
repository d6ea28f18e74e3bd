"""The examples for frameworks, as a user pastes them. browser-use's is run by test_browser_use.py."""

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cdpbridge

EXAMPLES = Path(__file__).parents[2] / "examples" / "frameworks"
RUN_HERE = {"crawlee_titles.py", "selenium_title.py", "puppeteer.cjs", "playwright.spec.cjs", "title.robot"}
pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build("the framework's use of a rental; it does not see the build"),
]


def test_each_example_is_run_and_short():
    assert {file.name for file in EXAMPLES.iterdir() if file.is_file()} == RUN_HERE | {"browser_use_agent.py"}
    for file in EXAMPLES.iterdir():
        if file.is_file():
            lines = [line for line in file.read_text().splitlines() if line.strip()]
            code = [line for line in lines if not re.match(r'"""|//|(from|import) |#', line)]
            assert len(code) <= 15, file.name


def run(command, server, folder, *, status=0, **environment):
    done = subprocess.run(
        command,
        env=server.environment(**environment),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr

    async def active():
        async with cdpbridge.at(server.base_url, server.key) as client:
            return [each async for each in client.browsers.list(status="active")]

    assert asyncio.run(active()) == []
    return done.stdout


def test_crawlee(server, site, tmp_path):
    pytest.importorskip("crawlee")
    text = run([sys.executable, EXAMPLES / "crawlee_titles.py", site], server, tmp_path)
    assert "Sign in" in text
    assert "charged 0.05" in text


@pytest.mark.skipif(shutil.which("chromedriver") is None, reason="no chromedriver on this machine")
def test_selenium(server, site, tmp_path):
    assert run([sys.executable, EXAMPLES / "selenium_title.py", site], server, tmp_path) == "Sign in\n"


def test_robot_framework(server, site, tmp_path):
    pytest.importorskip("Browser", reason="no Robot Framework Browser in this environment")
    journal = {"CDPBRIDGE_JOURNAL": str(tmp_path / "journal.sqlite3")}
    command = [sys.executable, "-m", "robot", "-d", tmp_path, "-v"]
    said = run([*command, f"URL:{site}", EXAMPLES / "title.robot"], server, tmp_path, **journal)
    assert "Sign in" in said
    assert "1 passed" in said
    report = (tmp_path / "output.xml").read_text()
    assert "charged 0.05" in report
    assert "/cdp/" not in "".join(
        file.read_text(errors="replace")
        for file in tmp_path.rglob("*")
        if file.is_file() and "journal" not in file.name
    )


def test_a_robot_suite_that_fails_stops_its_browser(server, tmp_path):
    """The test's own failure is what the run reports; the suite's end stops the browser."""
    pytest.importorskip("Browser", reason="no Robot Framework Browser in this environment")
    options = ["-d", tmp_path, "-v", "URL:about:blank"]  # a page without a title
    command = [sys.executable, "-m", "robot", *options, EXAMPLES / "title.robot"]
    said = run(command, server, tmp_path, status=1, CDPBRIDGE_JOURNAL=str(tmp_path / "journal.sqlite3"))
    assert "1 failed" in said
    assert "charged 0.05" in (tmp_path / "output.xml").read_text()


def test_puppeteer(server, site, tmp_path, node_modules):
    command = ["node", EXAMPLES / "puppeteer.cjs", site]
    assert run(command, server, tmp_path, NODE_PATH=str(node_modules)) == "Sign in\n"


def test_playwright_test(server, site, tmp_path, node_modules):
    (tmp_path / "node_modules").symlink_to(node_modules)
    shutil.copy(EXAMPLES / "playwright.spec.cjs", tmp_path)
    (tmp_path / "playwright.config.cjs").write_text(
        'module.exports = { testMatch: "*.spec.cjs", reporter: "line" };'
    )
    command = ["node", node_modules / "@playwright" / "test" / "cli.js", "test"]
    assert "1 passed" in run(command, server, tmp_path, SITE=site)
