"""Each framework is killed in the midst of a page, on a server that lives on; `cdpbridge reap` then leaves nothing rented."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from tests.integrations.test_browser_use import python, quiet  # noqa: F401

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build("the framework's use of a rental; it does not see the build"),
]

SCRAPY_PLAYWRIGHT = """
import sys
from scrapy import Request, Spider
from scrapy.crawler import AsyncCrawlerProcess

HANDLER = "scrapy_playwright.handler.ScrapyPlaywrightDownloadHandler"

class One(Spider):
    name = "one"
    custom_settings = {
        "DOWNLOAD_HANDLERS": {"http": HANDLER},
        "PLAYWRIGHT_BROWSER_PROVIDER": "cdpbridge.integrations.scrapy_playwright.RentedBrowserProvider",
        "LOG_LEVEL": "ERROR",
    }

    async def start(self):
        yield Request(sys.argv[1], meta={"playwright": True})

process = AsyncCrawlerProcess()
process.crawl(One)
process.start()
"""
PYTEST = """
def test_open(page):
    page.goto({url!r})
"""
BROWSER_USE = """
import asyncio, sys
from cdpbridge.integrations.browser_use import session

async def main():
    async with session() as browser_session:
        await browser_session.start()
        await browser_session.navigate_to(sys.argv[1])
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.fixture
def silent():
    """Address of a page that never comes, and a function that waits until it was asked for."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60)
        asked, over = threading.Event(), []

        def accept():
            try:
                over.append(listening.accept()[0])
            except OSError:
                return
            asked.set()

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/page", asked.wait
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in over:
            connection.close()


def crawlee(url, _folder, _server):
    pytest.importorskip("crawlee")
    return [sys.executable, EXAMPLES / "frameworks" / "crawlee_titles.py", url]


def robot(url, folder, _server):
    pytest.importorskip("Browser", reason="no Robot Framework Browser in this environment")
    return [
        sys.executable,
        "-m",
        "robot",
        "-d",
        folder,
        "-v",
        f"URL:{url}",
        EXAMPLES / "frameworks" / "title.robot",
    ]


def suite(url, folder, server):
    test = folder / "test_open.py"
    test.write_text(PYTEST.format(url=url))
    (folder / "pytest.ini").write_text("[pytest]\n")
    return [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:playwright-asyncio",
        "-p",
        "no:schemathesis",
        f"--cdpbridge={server.base_url}",
        test,
    ]


COMMANDS = {
    "scrapy": lambda url, *_: [sys.executable, EXAMPLES / "scrapy_crawl.py", url],
    "scrapy-playwright": lambda url, *_: [sys.executable, "-c", SCRAPY_PLAYWRIGHT, url],
    "crawlee": crawlee,
    "robot": robot,
    "pytest": suite,
}


def rented(server, status):
    headers = {"X-Browser-Use-API-Key": server.key}
    answer = httpx.get(
        f"{server.base_url}/browsers?filterBy={status}&pageSize=100", headers=headers
    ).raise_for_status()
    return {each["id"] for each in answer.json()["items"]}


def kill_and_reap(server, command, environment, silent, folder):
    url, asked = silent
    before = rented(server, "active")
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen(
            command(url), env=environment, cwd=folder, stdout=said, stderr=said, start_new_session=True
        )
        try:
            assert asked(60), (folder / "said.txt").read_text()
            [ours] = rented(server, "active") - before
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(100)
    assert ours in rented(server, "active"), "it was stopped without us"
    reap = [sys.executable, "-m", "cdpbridge", "reap"]
    done = subprocess.run(reap, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ours in rented(server, "stopped")
    assert rented(server, "active") == before


# Frameworks differ in how they rent; what a kill leaves is the same.
@pytest.mark.parametrize(
    "framework",
    [
        name if name in {"scrapy", "pytest"} else pytest.param(name, marks=pytest.mark.slow)
        for name in COMMANDS
    ],
)
def test_a_killed_framework_is_reaped(framework, server, silent, tmp_path):
    environment = server.environment(CDPBRIDGE_JOURNAL=str(tmp_path / "journal.sqlite3"))
    kill_and_reap(
        server, lambda url: COMMANDS[framework](url, tmp_path, server), environment, silent, tmp_path
    )


def test_a_killed_browser_use_is_reaped(python, server, silent, tmp_path):  # noqa: F811
    environment = server.environment(**quiet(tmp_path), CDPBRIDGE_JOURNAL=str(tmp_path / "journal.sqlite3"))
    kill_and_reap(server, lambda url: [python, "-c", BROWSER_USE, url], environment, silent, tmp_path)
