"""Crawlee's own crawler and pool on rented browsers."""

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from importlib.util import find_spec

import psutil
import pytest

import cdpbridge
from cdpbridge.errors import ConfigurationError
from tests.conftest import clean_environment
from tests.folders import browsers_folder

# Imported in the tests: every worker of a run reads this file, one runs it.
pytestmark = [
    pytest.mark.skipif(find_spec("crawlee") is None, reason="no crawlee in this environment"),
    pytest.mark.one_build("the framework's use of a rental; it does not see the build"),
    pytest.mark.chromium,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:crawlee"),
]


@pytest.fixture
def client(server):
    return cdpbridge.at(server.base_url, server.key)


@pytest.fixture
def plugin(client):
    from cdpbridge.integrations.crawlee import RentedBrowserPlugin

    return lambda **options: RentedBrowserPlugin(client, **options)


async def active(client):
    async with client.share():
        return [each async for each in client.browsers.list(status="active")]


async def crawl(browser_pool, requests, handle):
    from crawlee import ConcurrencySettings
    from crawlee.crawlers import PlaywrightCrawler
    from crawlee.storage_clients import MemoryStorageClient

    crawler = PlaywrightCrawler(
        browser_pool=browser_pool,
        storage_client=MemoryStorageClient(),
        configure_logging=False,
        max_request_retries=1,
        concurrency_settings=ConcurrencySettings(max_concurrency=3, desired_concurrency=3),
    )
    crawler.router.default_handler(handle)
    return await crawler.run(requests)


async def test_a_crawl_with_a_profile(client, plugin, site):
    from crawlee import Request
    from crawlee.browsers import BrowserPool

    async with cdpbridge.open_browser(client, profile="crawlee") as browser:
        tab = await browser.new_tab(site)
        await tab.evaluate("document.cookie = 'kept=yes; max-age=600'")
    rented = plugin(profile="crawlee", max_open_pages_per_browser=2, timeout=timedelta(minutes=5))
    seen, browsers, pages = [], 0, 0

    async def handle(context):
        nonlocal browsers, pages
        browsers = max(browsers, len(await active(client)))
        # The browser has one blank page of its own from the start.
        opened = [page for page in context.page.context.pages if page.url != "about:blank"]
        pages = max(pages, len(opened))
        seen.append(await context.page.evaluate("document.cookie"))

    statistics = await crawl(
        BrowserPool(plugins=[rented]),
        [Request.from_url(site, unique_key=str(number)) for number in range(6)],
        handle,
    )
    assert statistics.requests_finished == 6
    assert seen == ["kept=yes"] * 6
    assert pages <= 2
    # A page counts until its close is confirmed, so the third request in flight may need a third browser.
    assert 1 <= browsers <= 3
    assert browsers <= len(rented.receipts) <= 3
    assert await active(client) == []


async def test_incognito_pages_start_with_the_profile_and_share_nothing(client, plugin, site):
    from crawlee.browsers import BrowserPool

    async with cdpbridge.open_browser(client, profile="incognito") as browser:
        tab = await browser.new_tab(site)
        await tab.evaluate("document.cookie = 'kept=yes; max-age=600'")
    rented = plugin(profile="incognito", use_incognito_pages=True)
    async with BrowserPool(plugins=[rented]) as pool:
        for number in range(2):
            page = (await pool.new_page()).page
            await page.goto(site)
            assert await page.evaluate("document.cookie") == "kept=yes"
            await page.evaluate(f"document.cookie = 'own={number}'")
    assert await active(client) == []


class Recording:
    """Crawlee's own generator; it remembers which user agents it gave."""

    def __init__(self):
        from crawlee.fingerprint_suite import DefaultFingerprintGenerator

        self.made = DefaultFingerprintGenerator()
        self.agents = []

    def generate(self):
        fingerprint = self.made.generate()
        self.agents.append(fingerprint.navigator.userAgent)
        return fingerprint


@pytest.mark.parametrize("incognito", [False, True])
async def test_a_fingerprint_is_what_pages_have(plugin, site, incognito):
    from crawlee.browsers import BrowserPool

    recording = Recording()
    rented = plugin(use_incognito_pages=incognito, fingerprint_generator=recording)
    async with BrowserPool(plugins=[rented]) as pool:
        pages = [(await pool.new_page()).page for _ in range(2)]
        seen = []
        for page in pages:
            await page.goto(site)
            seen.append(await page.evaluate("navigator.userAgent"))
        assert (pages[0].context is pages[1].context) is not incognito
    assert len(recording.agents) == (2 if incognito else 1)
    assert seen == recording.agents * (1 if incognito else 2)


async def test_options_and_proxies_are_never_left_out_in_silence(client, plugin, site):
    from crawlee.browsers import BrowserPool
    from crawlee.proxy_configuration import ProxyInfo
    from playwright.async_api import Error

    with pytest.raises(ConfigurationError, match="fingerprint_generator needs use_incognito_pages=True"):
        plugin(profile="options", fingerprint_generator=Recording())
    with pytest.raises(ConfigurationError, match="browser_new_context_options needs use_incognito_pages"):
        plugin(profile="options", browser_new_context_options={"locale": "de"})
    proxy = ProxyInfo(
        url="http://127.0.0.1:9", scheme="http", hostname="127.0.0.1", port=9, username="", password=""
    )
    async with BrowserPool(plugins=[plugin(browser_new_context_options={"user_agent": "own"})]) as pool:
        page = (await pool.new_page()).page
        await page.goto(site)
        assert await page.evaluate("navigator.userAgent") == "own"
    async with BrowserPool(plugins=[plugin()]) as pool:
        page = (await pool.new_page(proxy_info=proxy)).page
        with pytest.raises(Error, match="ERR_EMPTY_RESPONSE"):
            await page.goto("http://example.test")
    async with BrowserPool(plugins=[plugin(profile="options")]) as pool:
        with pytest.raises(ConfigurationError, match="a proxy of Crawlee needs use_incognito_pages=True"):
            await pool.new_page(proxy_info=proxy)
        page = (await pool.new_page()).page
        # In Crawlee's own words.
        [controller] = pool.active_browsers
        with pytest.raises(ValueError, match=r"^Cannot close the browser while there are open pages\."):
            await controller.close()
        await page.goto(site)
    assert await active(client) == []


async def test_a_browser_that_ended_is_replaced(client, plugin, site):
    from crawlee.browsers import BrowserPool

    rented = plugin()
    async with BrowserPool(plugins=[rented]) as pool:
        await pool.new_page()
        [first] = await active(client)
        async with client.share():
            await client.browsers.stop(first.id)
        [controller] = pool.active_browsers
        deadline = time.monotonic() + 60
        while controller.is_browser_connected:
            assert time.monotonic() < deadline
            await controller.rental.connection.wait_closed()
        page = (await pool.new_page()).page
        await page.goto(site)
        [second] = await active(client)
        assert second.id != first.id
    assert await active(client) == []
    assert len(rented.receipts) == 2


async def test_a_failed_start_leaves_nothing(client, plugin, monkeypatch):
    from playwright.async_api import Error

    async with plugin() as rented:

        async def refuse(*_args, **_options):
            raise Error("refused")

        monkeypatch.setattr(type(rented._playwright.chromium), "connect_over_cdp", refuse)
        with pytest.raises(Error, match="refused"):
            await rented.new_browser()
        assert await active(client) == []
    with pytest.raises(RuntimeError, match=r"^Playwright browser plugin is not initialized\..* not active"):
        await rented.new_browser()


def test_a_killed_crawl_leaves_nothing(tmp_path, site):
    program = f"""
import asyncio, sys
from crawlee.browsers import BrowserPool
from cdpbridge import local
from cdpbridge.integrations.crawlee import RentedBrowserPlugin

async def main():
    async with BrowserPool(plugins=[RentedBrowserPlugin(local(data_dir={str(tmp_path / "data")!r}))]) as pool:
        await (await pool.new_page()).page.goto({site!r})
        print("ready", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""
    environment = clean_environment(CDPBRIDGE_BROWSER_BUILD="shell", TMPDIR=str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout.readline() == "ready\n"
        folder = browsers_folder(tmp_path / "data")
        assert browsers(folder)
        os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while browsers(folder):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def browsers(folder):
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(folder) in word and "user-data-dir" in word for word in process.cmdline()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found
