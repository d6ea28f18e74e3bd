"""The examples with files, each as a user starts it, on browsers that see another disk; and what puppeteer sees of the tunnel."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from cdpbridge.tunnel import open_tunnel
from tests import programs
from tests.integrations.conftest import node_modules  # noqa: F401  # a fixture

EXAMPLES = Path(__file__).parents[2] / "examples" / "files"
SAID = "a,b\na,b\n"
RUN_HERE = {"playwright_files.py", "selenium_files.py", "puppeteer_files.cjs"}

pytestmark = pytest.mark.chromium


def run(command, server, **environment):
    options = {"capture_output": True, "text": True, "timeout": 100, "check": False}
    start = programs.run if command[0] == sys.executable else subprocess.run
    done = start(command, env=server.environment(**environment), **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def tunnel(server, *arguments):
    """`cdpbridge tunnel`: the address that it prints."""
    command = [sys.executable, "-m", "cdpbridge", "tunnel", *arguments]
    process = programs.Program(command, env=server.environment(), stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=280)
    assert process.returncode == 130


@pytest.mark.one_build("the tunnel's own work; test_playwright.py has both builds")
def test_each_example_is_run():
    assert {file.name for file in EXAMPLES.iterdir() if file.is_file()} == RUN_HERE


def test_playwright_files(far_server, here):
    assert run([sys.executable, EXAMPLES / "playwright_files.py", here], far_server) == SAID


@pytest.mark.skipif(shutil.which("chromedriver") is None, reason="no chromedriver on this machine")
def test_selenium_files(far_server, here):
    assert run([sys.executable, EXAMPLES / "selenium_files.py", here], far_server) == SAID


async def test_puppeteer_files(far_server, far_session, here, node_modules):  # noqa: F811  # the fixture
    with tunnel(far_server, str(far_session.id), "--ws") as address:
        assert address.startswith("ws://127.0.0.1:")
        assert len(address) > 60
        command = ["node", EXAMPLES / "puppeteer_files.cjs", address, here]
        assert run(command, far_server, NODE_PATH=str(node_modules)) == SAID


SPEC = """
const fs = require("fs");
const { test: base, chromium, expect } = require("@playwright/test");
const { ADDRESS, SITE, BIG } = process.env;
const test = base.extend({ browser: [async ({}, use) => {
  const browser = await chromium.connectOverCDP(ADDRESS, { isLocal: true });
  await use(browser);
  await browser.close();
}, { scope: "worker" }] });
test("files", async ({ page }, info) => {
  await page.goto(SITE);
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#big")]);
  expect(fs.statSync(await download.path()).size).toBe(3000017);
  await download.saveAs(info.outputPath("saved.bin"));
  await page.setInputFiles("#many", [info.outputPath("saved.bin"), BIG]);
  expect(await page.evaluate("[...many.files].map(each => each.size)")).toEqual([3000017, 60000000]);
});
"""


async def test_playwright_test(far_server, far_session, site_url, here, node_modules):  # noqa: F811
    with (here / "big.bin").open("wb") as big:  # Playwright gives a remote browser 50 MB at most
        big.truncate(60_000_000)
    (here / "node_modules").symlink_to(node_modules)
    (here / "files.spec.cjs").write_text(SPEC)
    config = f'module.exports = {{ testMatch: "*.spec.cjs", reporter: "line", outputDir: "{here}/results" }};'
    (here / "playwright.config.cjs").write_text(config)
    command = ["node", node_modules / "@playwright" / "test" / "cli.js", "test", "-c", here]
    async with open_tunnel(far_session, bare=False) as address:
        more = {"ADDRESS": address.cdp_url, "SITE": site_url, "BIG": str(here / "big.bin")}
        said = await asyncio.to_thread(run, command, far_server, **more)
    assert "1 passed" in said


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
