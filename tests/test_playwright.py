"""Playwright on a rented browser: asynchronous, synchronous, and beside our own client."""

import asyncio
import signal
import sys

import pytest

import cdpbridge
from cdpbridge import playwright, sync
from cdpbridge.errors import ConfigurationError
from tests import programs

pytestmark = [pytest.mark.chromium, pytest.mark.one_build("connecting Playwright; its suites drive pages")]


@pytest.fixture
def client(server):
    return cdpbridge.at(server.base_url, server.key)


async def sign_in(page, site):
    await page.goto(site)
    await page.fill("[name=user]", "ada")
    await page.fill("[name=password]", "lovelace")
    await page.click("button")
    await page.wait_for_selector("body[data-ready]")


async def test_the_default_context_carries_the_profile(client, site):
    async with client:
        async with (
            cdpbridge.open_browser(client, profile="playwright") as browser,
            playwright.connect(browser) as connected,
        ):
            await sign_in(await connected.contexts[0].new_page(), site)
        async with cdpbridge.open_browser(client, profile="playwright") as browser:
            async with playwright.connect(browser) as connected:
                page = await connected.contexts[0].new_page()
                await page.goto(site)
                assert await page.inner_text("h1") == "Welcome, ada"
                await page.wait_for_selector("body[data-ready]")
                assert await page.inner_text("#visits") == "2"  # localStorage was kept as well
                other = await (await connected.new_context()).new_page()
                await other.goto(site)
                assert await other.inner_text("h1") == "Sign in"
            assert not browser.connection.closed  # Playwright's end is not the rental's


async def test_both_clients_at_once(client, site):
    async with cdpbridge.open_browser(client) as browser, playwright.connect(browser) as connected:
        page = await connected.contexts[0].new_page()
        await page.goto(site)
        [tab] = [tab for tab in await browser.tabs() if await tab.current_url() == page.url]
        await tab.evaluate("document.title = 'changed over CDP'")
        assert await page.title() == "changed over CDP"
        mine = await browser.new_tab(site)
        await page.close()
        assert await mine.title() == "Sign in"
        await asyncio.gather(*(mine.evaluate("1") for _ in range(50)), connected.contexts[0].new_page())


async def test_an_address_or_a_record_will_do(client):
    async with cdpbridge.open_browser(client) as browser:
        for address in (browser.record, browser.cdp_url, browser.cdp_url.replace("http://", "ws://")):
            async with playwright.connect(address) as connected:
                assert connected.is_connected()
        stopped = browser.record.model_copy(update={"cdp_url": None})
        with pytest.raises(ConfigurationError, match="has no cdpUrl"):
            async with playwright.connect(stopped):
                pass


async def test_playwright_notices_the_end_of_the_rental(client):
    gone = asyncio.Event()
    async with cdpbridge.open_browser(client) as browser, playwright.connect(browser) as connected:
        connected.on("disconnected", lambda _browser: gone.set())
        await browser.stop()
        await asyncio.wait_for(gone.wait(), 60)


async def test_fault_a09_go_back_works(client, site):
    """With the back-forward cache on, Playwright's `go_back` hangs."""
    async with cdpbridge.open_browser(client) as browser, playwright.connect(browser) as connected:
        page = await connected.contexts[0].new_page()
        await page.goto(site)
        await page.goto(f"{site}/nowhere")
        await page.go_back(timeout=30_000)
        assert await page.title() == "Sign in"


def test_synchronous(client, site, nobody):
    with sync.open_browser(client) as browser, playwright.connect_sync(browser) as connected:
        page = connected.contexts[0].new_page()
        page.goto(site)
        assert page.title() == "Sign in"
        with pytest.raises(Exception, match="ERR_EMPTY_RESPONSE"):  # as the server's forwarder stands between
            page.goto(nobody)
    assert browser.receipt.billed_minutes == 1
    assert browser.receipt.difference == 0


def test_synchronous_and_the_block_fails(client, server):
    with (
        pytest.raises(KeyError, match="mine"),
        sync.open_browser(client) as browser,
        playwright.connect_sync(browser),
    ):
        raise KeyError("mine")
    assert browser.receipt is not None


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_synchronous_and_a_signal(server, client, number, status):
    program = f"""
import os, time
from cdpbridge import playwright, sync

with sync.open_browser() as browser, playwright.connect_sync(browser):
    print(browser.id, flush=True)
    os.kill(os.getpid(), {int(number)})
    time.sleep(60)
"""
    done = programs.run(
        [sys.executable, "-c", program],
        env=server.environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == status, done.stderr

    async def record():
        async with client:
            return await client.browsers.get(done.stdout.strip())

    assert asyncio.run(record()).status == "stopped"


async def test_without_playwright(monkeypatch):
    monkeypatch.setattr("cdpbridge.playwright.find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'cdpbridge\[playwright\]'"):
        async with playwright.connect("http://127.0.0.1:9"):
            pass
