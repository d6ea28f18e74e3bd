"""Playwright on a rented browser, over the same CDP address; both clients may be attached at once.

    async with cdpbridge.open_browser(profile="work") as browser, playwright.connect(browser) as pw:
        page = pw.contexts[0].pages[0]

`contexts[0]` is the browser's own context, the one that carries the profile; contexts made with `new_context()` start empty.
Playwright's `close()` only disconnects: the rental is stopped by `open_browser`.

Downloads and uploads work as with a browser on this machine: where the browser does not see this process's files, Playwright is
connected through a tunnel that carries them (`cdpbridge.tunnel`).

Programs without an event loop:

    with sync.open_browser() as browser, playwright.connect_sync(browser) as pw:
        page = pw.contexts[0].pages[0]
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from cdpbridge._durations import waiting_seconds
from cdpbridge.errors import ConfigurationError
from cdpbridge.tunnel._address import local_address, local_address_sync, playwright_options

if TYPE_CHECKING:
    from playwright.async_api import Browser as AsyncPlaywrightBrowser
    from playwright.sync_api import Browser as SyncPlaywrightBrowser

    from cdpbridge.api import BrowserSession
    from cdpbridge.browser import Browser
    from cdpbridge.sync import Browser as SyncBrowser

__all__ = ["connect", "connect_sync"]

_CONNECT_TIMEOUT: Final = timedelta(seconds=30)


def connect(
    browser: Browser | BrowserSession | str,
    *,
    timeout: float | timedelta = _CONNECT_TIMEOUT,
    tunnel: bool | None = None,
    **options: Any,
) -> AbstractAsyncContextManager[AsyncPlaywrightBrowser]:
    """Connect Playwright's asynchronous `Browser`; leaving the block disconnects it and ends Playwright.

    Args:
        browser: A `Browser` of cdpbridge, a record of the REST API, or a CDP address.
        timeout: For the connection.
        tunnel: True to carry files between the browser's disk and this machine's; None: if the browser does not see this
            process's files.
        options: For Playwright's `connect_over_cdp`, e.g. `slow_mo`, `no_defaults`.

    Raises:
        ConfigurationError: Playwright is not installed, or the browser has no address.
        playwright.async_api.Error: It could not connect.
    """
    _check_installed()
    return _connected(_address(browser), waiting_seconds("timeout", timeout), tunnel, options)


@asynccontextmanager
async def _connected(
    cdp_url: str, seconds: float, tunnel: bool | None, options: dict[str, Any]
) -> AsyncIterator[AsyncPlaywrightBrowser]:
    from playwright.async_api import async_playwright  # noqa: PLC0415  # an extra, and slow to import

    async with local_address(cdp_url, tunnel) as place, async_playwright() as playwright:
        chromium = playwright.chromium
        options = playwright_options(chromium.connect_over_cdp, place) | options
        connected = await chromium.connect_over_cdp(place.cdp_url, timeout=seconds * 1000, **options)
        try:
            yield connected
        finally:
            await connected.close()


def connect_sync(
    browser: SyncBrowser | Browser | BrowserSession | str,
    *,
    timeout: float | timedelta = _CONNECT_TIMEOUT,
    tunnel: bool | None = None,
    **options: Any,
) -> AbstractContextManager[SyncPlaywrightBrowser]:
    """Connect Playwright's synchronous `Browser`; arguments and errors as of `connect`.

    Not inside a running event loop: there Playwright refuses its synchronous API.
    """
    _check_installed()
    return _connected_sync(_address(browser), waiting_seconds("timeout", timeout), tunnel, options)


@contextmanager
def _connected_sync(
    cdp_url: str, seconds: float, tunnel: bool | None, options: dict[str, Any]
) -> Iterator[SyncPlaywrightBrowser]:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  # an extra, and slow to import

    with local_address_sync(cdp_url, tunnel) as place, sync_playwright() as playwright:
        chromium = playwright.chromium
        options = playwright_options(chromium.connect_over_cdp, place) | options
        connected = chromium.connect_over_cdp(place.cdp_url, timeout=seconds * 1000, **options)
        try:
            yield connected
        finally:
            connected.close()


def _check_installed() -> None:
    if find_spec("playwright") is None:
        raise ConfigurationError("Playwright is not installed: pip install 'cdpbridge[playwright]'")


def _address(browser: SyncBrowser | Browser | BrowserSession | str) -> str:
    if isinstance(browser, str):
        return browser
    if not browser.cdp_url:
        raise ConfigurationError(f"browser {browser.id} has no cdpUrl: it is not running")
    return browser.cdp_url
