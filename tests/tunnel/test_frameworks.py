"""Frameworks carry files by themselves where the browser sees another disk."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

import cdpbridge
from tests import programs
from tests.tunnel.file_site import content

pytestmark = [
    pytest.mark.one_build("the tunnel's own work; test_playwright.py has both builds"),
    pytest.mark.chromium,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:crawlee"),
]

SUITE = """
def test_files(page, tmp_path):
    page.goto({url!r})
    with page.expect_download() as info:
        page.click("#big")
    assert info.value.path().stat().st_size == 3000017
    page.set_input_files("#one", info.value.path())
    assert page.evaluate("one.files[0].size") == 3000017
"""


@pytest.mark.parametrize(
    "options", [pytest.param([], marks=pytest.mark.slow), ["-n", "2", "--cdpbridge-shared"]]
)
def test_the_pytest_plugin(far_shell, site_url, here, options):
    (here / "test_it.py").write_text(SUITE.format(url=site_url))
    (here / "pytest.ini").write_text("[pytest]\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:playwright-asyncio",
        "-p",
        "no:schemathesis",
        "test_it.py",
        *options,
    ]
    done = subprocess.run(
        [*command, f"--cdpbridge={far_shell.base_url}"],
        cwd=here,
        env=far_shell.environment(PYTEST_XDIST_WORKER="gw0"),  # as under the workers of a run around it
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert "left by" not in done.stdout


async def test_crawlee(far_shell, site_url, here):
    pytest.importorskip("crawlee")
    from crawlee.browsers import BrowserPool
    from crawlee.crawlers import PlaywrightCrawler
    from crawlee.storage_clients import MemoryStorageClient

    from cdpbridge.integrations.crawlee import RentedBrowserPlugin

    plugin = RentedBrowserPlugin(cdpbridge.at(far_shell.base_url, far_shell.key))
    crawler = PlaywrightCrawler(
        browser_pool=BrowserPool(plugins=[plugin]),
        storage_client=MemoryStorageClient(),
        configure_logging=False,
        max_request_retries=0,
    )

    @crawler.router.default_handler
    async def handle(context):
        async with context.page.expect_download() as info:
            await context.page.click("#report")
        await (await info.value).save_as(here / "report.csv")

    await crawler.run([site_url])
    assert (here / "report.csv").read_bytes() == content("märz.csv", 4)
    assert len(plugin.receipts) == 1


async def test_scrapy_playwright(far_shell, site_url, here):
    pytest.importorskip("scrapy_playwright")
    from cdpbridge.integrations.scrapy_playwright import RentedBrowserProvider

    config = SimpleNamespace(
        cdp_url=None,
        connect_url=None,
        browser_type_name="chromium",
        launch_options={"provider": cdpbridge.at(far_shell.base_url, far_shell.key)},
        cdp_kwargs={},
    )
    provider = RentedBrowserProvider(config)
    await provider.start()
    try:
        browser = await provider.launch_browser()
        page = await (await browser.new_context()).new_page()
        await page.goto(site_url)
        async with page.expect_download() as info:
            await page.click("#report")
        await (await info.value).save_as(here / "report.csv")
        assert (here / "report.csv").read_bytes() == content("märz.csv", 4)
        await page.set_input_files("#one", here / "report.csv")
        assert await page.evaluate("one.files[0].size") == 4
    finally:
        await provider.close()


ROBOT = """
*** Settings ***
Library    Browser    enable_playwright_debug=disabled
Library    cdpbridge.integrations.robot.RentedBrowser

*** Test Cases ***
Files
    Open Rented Browser
    New Page    {url}
    ${{promise}}=    Promise To Wait For Download    {folder}/report.csv
    Click    id=report
    Wait For    ${{promise}}
    Upload File By Selector    id=one    {folder}/big.bin
    ${{size}}=    Evaluate JavaScript    id=one    (element) => element.files[0].size
    Should Be Equal As Integers    ${{size}}    60000000
"""


def test_robot_framework(far_shell, site_url, here):
    pytest.importorskip("Browser", reason="no Robot Framework Browser in this environment")
    with (here / "big.bin").open("wb") as big:  # Playwright gives a remote browser 50 MB at most
        big.truncate(60_000_000)
    (here / "files.robot").write_text(ROBOT.format(url=site_url, folder=here))
    done = programs.run(
        [sys.executable, "-m", "robot", "-d", here, here / "files.robot"],
        env=far_shell.environment(CDPBRIDGE_JOURNAL=str(here / "journal.sqlite3")),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (here / "report.csv").read_bytes() == content("märz.csv", 4)
