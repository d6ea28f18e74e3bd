"""Playwright on a rented browser, over the same CDP address; both clients may be attached at once.

    async with cdpbridge.open_browser(profile="work") as browser, playwright.connect(browser) as pw:
        page = pw.contexts[0].pages[0]

`contexts[0]` is the browser's own context, the one that carries the profile; contexts made with `new_context()` start empty.
Playwright's `close()` only disconnects: the rental is stopped by `open_browser`.

Downloads and uploads work as with a browser on this machine: where the browser does not see this process's files, Playwright is
connected through a tunnel that carries them (`cdpbridge.tunnel`).

Programs without an event loop use `open_browser_sync`, which rents and connects under one `with`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from cdpbridge._durations import waiting_seconds
from cdpbridge._sync_rental import rented
from cdpbridge.browser import Browser
from cdpbridge.errors import ConfigurationError
from cdpbridge.rental._shutdown import exit_on_signals
from cdpbridge.tunnel._address import local_address, local_address_sync, playwright_options

if TYPE_CHECKING:
    from playwright.async_api import Browser as AsyncPlaywrightBrowser
    from playwright.sync_api import Browser as SyncPlaywrightBrowser

    from cdpbridge.api import BrowserSession

__all__ = ["RentedBrowser", "connect", "connect_sync", "open_browser_sync"]

_CONNECT_TIMEOUT: Final = timedelta(seconds=30)


@asynccontextmanager
async def connect(
    browser: Browser | BrowserSession | str,
    *,
    timeout: float | timedelta = _CONNECT_TIMEOUT,
    tunnel: bool | None = None,
    **options: Any,
) -> AsyncIterator[AsyncPlaywrightBrowser]:
    """Playwright's asynchronous `Browser`, connected; leaving the block disconnects it and ends Playwright.

    Args:
        browser: A `Browser` of ours, a record of the REST API, or a CDP address.
        timeout: For the connection.
        tunnel: Carry files between the browser's disk and this machine's; None: if the browser does not see this process's files.
        options: For Playwright's `connect_over_cdp`, e.g. `slow_mo`, `no_defaults`.

    Raises:
        ConfigurationError: Playwright is not installed, or the browser has no address.
        playwright.async_api.Error: It could not connect.
    """
    limit_ms = waiting_seconds("timeout", timeout) * 1000
    _check_installed()
    from playwright.async_api import async_playwright  # noqa: PLC0415  # an extra, and slow to import

    async with local_address(_address(browser), tunnel) as place, async_playwright() as playwright:
        chromium = playwright.chromium
        options = playwright_options(chromium.connect_over_cdp, place) | options
        connected = await chromium.connect_over_cdp(place.cdp_url, timeout=limit_ms, **options)
        try:
            yield connected
        finally:
            await connected.close()


@contextmanager
def connect_sync(
    browser: Browser | BrowserSession | str,
    *,
    timeout: float | timedelta = _CONNECT_TIMEOUT,
    tunnel: bool | None = None,
    **options: Any,
) -> Iterator[SyncPlaywrightBrowser]:
    """Playwright's synchronous `Browser`, connected; arguments and errors as of `connect`.

    Not inside a running event loop: there Playwright refuses its synchronous form.
    """
    limit_ms = waiting_seconds("timeout", timeout) * 1000
    _check_installed()
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  # an extra, and slow to import

    with local_address_sync(_address(browser), tunnel) as place, sync_playwright() as playwright:
        chromium = playwright.chromium
        options = playwright_options(chromium.connect_over_cdp, place) | options
        connected = chromium.connect_over_cdp(place.cdp_url, timeout=limit_ms, **options)
        try:
            yield connected
        finally:
            connected.close()


@dataclass(frozen=True, slots=True)
class RentedBrowser:
    """A rented browser in a program without an event loop.

    Attributes:
        rental: Ours: its id, dates and, after the block, its receipt.
        playwright: Playwright's `Browser`, connected to it.
    """

    rental: Browser
    playwright: SyncPlaywrightBrowser


def open_browser_sync(*arguments: Any, **options: Any) -> AbstractContextManager[RentedBrowser]:
    """Rent a browser and connect Playwright's synchronous API to it; leaving the block stops the rental.

    Arguments and errors as of `cdpbridge.open_browser`.
    """
    return _opened_sync(rented(*arguments, **options))


@contextmanager
def _opened_sync(renting: AbstractContextManager[Browser]) -> Iterator[RentedBrowser]:
    with exit_on_signals(), renting as rental, connect_sync(rental) as connected:
        yield RentedBrowser(rental, connected)


def _check_installed() -> None:
    if find_spec("playwright") is None:
        raise ConfigurationError("Playwright is not installed: pip install 'cdpbridge[playwright]'")


def _address(browser: Browser | BrowserSession | str) -> str:
    if isinstance(browser, str):
        return browser
    if not browser.cdp_url:
        raise ConfigurationError(f"browser {browser.id} has no cdpUrl: it is not running")
    return browser.cdp_url
