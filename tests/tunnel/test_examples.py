"""The examples with files, each as a user starts it, on browsers that see another disk; and what puppeteer sees of the tunnel."""

import json
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

import cdpbridge
from tests.integrations.conftest import node_modules  # noqa: F401  # a fixture

EXAMPLES = Path(__file__).parents[2] / "examples" / "files"
SAID = "a,b\na,b\n"
RUN_HERE = {"playwright_files.py", "selenium_files.py", "puppeteer_files.cjs"}

pytestmark = pytest.mark.chromium


def run(command, server, **environment):
    done = subprocess.run(
        command,
        env=server.environment(**environment),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def tunnel(server, *arguments):
    """`cdpbridge tunnel`: the address that it prints."""
    command = [sys.executable, "-m", "cdpbridge", "tunnel", *arguments]
    process = subprocess.Popen(command, env=server.environment(), stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=100)
    assert process.returncode == 130


@pytest.mark.one_build("the tunnel's own work; test_playwright.py has both builds")
def test_each_example_is_run():
    assert {file.name for file in EXAMPLES.iterdir() if file.is_file()} == RUN_HERE


def test_playwright_files(far_server, here):
    assert run([sys.executable, EXAMPLES / "playwright_files.py", here], far_server) == SAID


@pytest.mark.skipif(shutil.which("chromedriver") is None, reason="no chromedriver on this machine")
def test_selenium_files(far_server, here):
    assert run([sys.executable, EXAMPLES / "selenium_files.py", here], far_server) == SAID


async def test_puppeteer_files(far_server, here, node_modules):  # noqa: F811  # the fixture
    async with cdpbridge.open_browser(cdpbridge.at(far_server.base_url, far_server.key)) as browser:
        with tunnel(far_server, str(browser.id), "--ws") as address:
            assert address.startswith("ws://127.0.0.1:")
            assert len(address) > 60
            command = ["node", EXAMPLES / "puppeteer_files.cjs", address, here]
            assert run(command, far_server, NODE_PATH=str(node_modules)) == SAID


SEES = """
const puppeteer = require("puppeteer-core");
const [address, file, folder] = process.argv.slice(2);
(async () => {
  const browser = await puppeteer.connect({ browserURL: address });
  const counts = { targets: 0, downloads: 0 };
  for (const event of ["targetcreated", "targetdestroyed"]) browser.on(event, () => counts.targets++);
  const session = await browser.target().createCDPSession();
  session.on("Browser.downloadWillBegin", () => counts.downloads++);
  await session.send("Browser.setDownloadBehavior", { behavior: "allow", downloadPath: folder, eventsEnabled: true });
  const page = await browser.newPage();
  await page.setContent("<input type=file>");
  await (await page.$("input")).uploadFile(file);
  counts.size = await page.evaluate("document.querySelector('input').files[0].size");
  counts.pages = (await browser.pages()).length;
  counts.contexts = browser.browserContexts().length;
  await browser.disconnect();
  console.log(JSON.stringify(counts));
})();
"""


async def test_puppeteer_sees_nothing_of_the_tunnels_own(bare_address, server, here, node_modules):  # noqa: F811
    """The browser is of no server of ours, so that the tunnel has a page of its own in it."""
    (here / "a.txt").write_text("12345")
    (here / "sees.cjs").write_text(SEES)
    with tunnel(server, bare_address) as address:
        command = ["node", here / "sees.cjs", f"http://{address}", here / "a.txt", here / "got"]
        seen = json.loads(run(command, server, NODE_PATH=str(node_modules)))
    assert seen == {"targets": 1, "downloads": 0, "size": 5, "pages": 2, "contexts": 1}
