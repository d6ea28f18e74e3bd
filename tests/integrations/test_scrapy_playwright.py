"""The provider for scrapy-playwright: real Scrapy and Playwright, rented Chromium."""

from __future__ import annotations

import os
import re
import signal
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from importlib.util import find_spec

import pytest

from cdpbridge.errors import ConfigurationError
from cdpbridge.server.hosts._processes import processes_using
from tests.cases import cases
from tests.integrations.test_scrapy import active, crawl, pages, until  # noqa: F401

# Imported in the tests: every worker of a run reads this file, one runs it.
pytestmark = [
    # A tool of the tests, which raises the bounds of what we depend on.
    pytest.mark.skipif(find_spec("scrapy_playwright") is None, reason="no scrapy-playwright here"),
    pytest.mark.chromium,
    pytest.mark.one_build("the framework's use of a rental; it does not see the build"),
]

HANDLER = "scrapy_playwright.handler.ScrapyPlaywrightDownloadHandler"
PROVIDER = "cdpbridge.integrations.scrapy_playwright.RentedBrowserProvider"


def config(**settings):
    from scrapy.settings import Settings
    from scrapy_playwright.handler import Config

    return Config.from_settings(Settings(settings))


@pytest.fixture
def where(server):
    import cdpbridge

    return {"provider": cdpbridge.at(server.base_url, server.key)}


@asynccontextmanager
async def provided(**settings):
    from cdpbridge.integrations.scrapy_playwright import RentedBrowserProvider

    provider = RentedBrowserProvider(config(**settings))
    await provider.start()
    try:
        yield provider
    finally:
        await provider.close()


def test_a_project_on_scrapy_playwright_crawls_with_a_rented_browser(crawl, pages, server):  # noqa: F811
    found = crawl(
        {
            "scripted": {"url": f"{pages}/scripted", "meta": {"playwright": True}},
            "plain": {"url": f"{pages}/scripted"},
        },
        handler=HANDLER,
        PLAYWRIGHT_BROWSER_PROVIDER=PROVIDER,
        PLAYWRIGHT_LAUNCH_OPTIONS={"timeout_minutes": 5},
    )
    assert "<h1>After</h1>" in found["scripted"]["body"]
    assert "<h1>Before</h1>" in found["plain"]["body"]
    assert found["stats"]["playwright/browser_count"] == 1
    assert active(server) == []


async def test_both_handlers_share_one_rental_until_the_last_is_closed(server, where):
    async with provided(PLAYWRIGHT_LAUNCH_OPTIONS=where) as http:
        assert active(server) == []
        async with provided(PLAYWRIGHT_LAUNCH_OPTIONS=where) as https:
            await http.launch_browser()
            browser = await https.launch_browser()
            assert len(active(server)) == 1
            await browser.close()
        assert len(active(server)) == 1
    assert active(server) == []


async def test_a_browser_that_is_lost_is_followed_by_another(server, where):
    async with provided(PLAYWRIGHT_LAUNCH_OPTIONS=where) as provider:
        await provider.launch_browser()
        (first,) = active(server)
        for pid in processes_using(server.folder(first["id"])):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not active(server))
        browser = await provider.launch_browser()
        (second,) = active(server)
        assert second["id"] != first["id"]
        assert (await (await browser.new_context()).new_page()).url == "about:blank"
    assert active(server) == []


async def test_contexts_have_the_profiles_cookies(where, pages, server):  # noqa: F811
    for visit in ("/cookies", "/echo"):
        async with provided(
            PLAYWRIGHT_LAUNCH_OPTIONS=where | {"profile": "contexts of scrapy-playwright"}
        ) as provider:
            browser = await provider.launch_browser()
            own, other = await browser.new_context(), await browser.new_context(locale="de-DE")
            page = await own.new_page()
            await page.goto(pages + visit)
            if visit == "/echo":
                assert '"cookie": "a=1; b=2"' in await page.content()
                page = await other.new_page()
                await page.goto(pages + visit)
                assert '"cookie": "a=1; b=2"' in await page.content()
                assert await page.evaluate("navigator.language") == "de-DE"
            await own.close()
        assert active(server) == []


@cases(
    ("settings", "message"),
    [
        ({"PLAYWRIGHT_CDP_URL": "http://x"}, "PLAYWRIGHT_CDP_URL and PLAYWRIGHT_CONNECT_URL name a browser"),
        ({"PLAYWRIGHT_BROWSER_TYPE": "firefox"}, "rented browsers are Chromium"),
        (
            {"PLAYWRIGHT_LAUNCH_OPTIONS": {"headless": True}},
            "a rented browser has no option 'headless'; it has ",
        ),
        (
            {"PLAYWRIGHT_LAUNCH_OPTIONS": {"timeout": 5}},
            "PLAYWRIGHT_LAUNCH_OPTIONS: timeout is paid time and must be a timedelta, not 5: use timedelta(minutes=5)",
        ),
        ({"PLAYWRIGHT_LAUNCH_OPTIONS": {"timeout_minutes": 10**30}}, "timeout must be 1 to 240 minutes"),
        ({"PLAYWRIGHT_LAUNCH_OPTIONS": {"timeout_minutes": "5"}}, "timeout_minutes must be a whole number"),
        (
            {"PLAYWRIGHT_LAUNCH_OPTIONS": {"timeout_minutes": 5, "timeout": timedelta(minutes=5)}},
            "timeout and timeout_minutes are the same",
        ),
    ],
)
def test_what_a_rented_browser_cannot_do_is_told(settings, message):
    from cdpbridge.integrations.scrapy_playwright import RentedBrowserProvider

    with pytest.raises(ConfigurationError, match=re.escape(message)):
        RentedBrowserProvider(config(**settings))


async def test_a_folder_of_this_machine_is_refused():
    from scrapy.exceptions import NotSupported

    async with provided() as provider:
        with pytest.raises(NotSupported, match="'profile': NAME"):
            await provider.launch_persistent_context({"user_data_dir": "/tmp/x"})
