"""A rented browser under scrapy-playwright: `PLAYWRIGHT_BROWSER_PROVIDER = "cdpbridge.integrations.scrapy_playwright.RentedBrowserProvider"`.

`PLAYWRIGHT_LAUNCH_OPTIONS` says what is rented: `provider`, and what `cdpbridge.open_browser` takes, e.g. `profile`,
`proxy_country`, `timeout` (a timedelta), or `timeout_minutes` for settings in JSON. `PLAYWRIGHT_CDP_KWARGS` goes to Playwright's `connect_over_cdp`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from playwright.async_api import async_playwright
from scrapy.exceptions import NotSupported

from cdpbridge._concurrency import to_the_end
from cdpbridge.browser import Browser
from cdpbridge.browser._open import open_checked
from cdpbridge.errors import ConfigurationError, StopFailed
from cdpbridge.rental._options import CheckedOptions, RentalOptions, check
from cdpbridge.tunnel._address import Place, local_address, playwright_options

if TYPE_CHECKING:
    from playwright.async_api import Browser as PlaywrightBrowser
    from playwright.async_api import BrowserContext, Playwright
    from scrapy_playwright.handler import Config

__all__ = ["RentedBrowserProvider"]

logger = logging.getLogger("cdpbridge")

_ALIVE_TIMEOUT: Final = timedelta(seconds=5)
_MINUTES: Final = "timeout_minutes"
_TOO_MANY_MINUTES: Final = 10_000  # refused as any number above the API's limit, and a timedelta all the same


class RentedBrowserProvider:
    """Rents the browser of a crawl: one for both of scrapy-playwright's handlers, and another when it was lost or expired.

    With a profile, the first context made without options is the browser's own, so that what the pages do is kept in the
    profile; each other one starts with the profile's cookies and local storage.

    Args:
        config: Of scrapy-playwright.

    Raises:
        ConfigurationError: A launch option means nothing for a rented browser, or an address is set as well.
    """

    def __init__(self, config: Config) -> None:
        if config.cdp_url or config.connect_url:
            raise ConfigurationError(
                "PLAYWRIGHT_CDP_URL and PLAYWRIGHT_CONNECT_URL name a browser, RentedBrowserProvider rents one: leave one out"
            )
        if config.browser_type_name != "chromium":
            raise ConfigurationError(
                f"rented browsers are Chromium: PLAYWRIGHT_BROWSER_TYPE cannot be {config.browser_type_name!r}"
            )
        self._rental_options = _checked(config.launch_options)
        self._key = dict(config.launch_options)
        self._connect_options: dict[str, Any] = dict(config.cdp_kwargs)
        self._playwright: Playwright | None = None
        self._rental: _Rental | None = None

    async def start(self) -> None:
        """Rent nothing yet: the handler of a scheme that the crawl does not meet shall cost nothing."""
        self._rental = _shared(self._key, self._rental_options)

    async def launch_browser(self) -> _Launched:
        """Connect to the crawl's browser, which is rented now if there is none that runs.

        Raises:
            APIError: None can be rented.
            playwright.async_api.Error: It could not be connected to.
        """
        if self._rental is None:
            raise RuntimeError("start() must be awaited before launch_browser()")
        if self._playwright is None:
            self._playwright = await async_playwright().start()
        browser, place = await self._rental.browser()
        connect = self._playwright.chromium.connect_over_cdp
        options = playwright_options(connect, place) | self._connect_options
        connected = await connect(place.cdp_url, **options)
        return _Launched(connected, profiled=browser.profile_id is not None)

    async def launch_persistent_context(self, context_kwargs: dict[str, Any]) -> BrowserContext:
        """Refuse: a rented browser does not see a folder of this machine.

        Raises:
            NotSupported: Always.
        """
        raise NotSupported(
            f"a rented browser has no user_data_dir ({context_kwargs.get('user_data_dir')!r}): "
            "set PLAYWRIGHT_LAUNCH_OPTIONS = {'profile': NAME} instead"
        )

    async def close(self) -> None:
        """End Playwright, and with the last handler the rental."""
        playwright, self._playwright = self._playwright, None
        rental, self._rental = self._rental, None
        try:
            if playwright is not None:
                await playwright.stop()
        finally:
            if rental is not None:
                await to_the_end(rental.release())


class _Launched:
    """Playwright's `Browser`, except that its contexts have the profile's state."""

    def __init__(self, connected: PlaywrightBrowser, *, profiled: bool) -> None:
        self._connected = connected
        self._profiled = profiled
        self._own_taken = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connected, name)

    async def new_context(self, **options: Any) -> BrowserContext:
        """Return a context of the browser; see `RentedBrowserProvider`."""
        if not self._profiled:
            return await self._connected.new_context(**options)
        own = self._connected.contexts[0]
        if not options and not self._own_taken:
            self._own_taken = True
            return own
        options.setdefault("storage_state", await own.storage_state())
        return await self._connected.new_context(**options)


class _Rental:
    """The browser that the handlers of a crawl share.

    Attributes:
        key: The launch options it was made for.
        users: How many handlers use it.
    """

    def __init__(self, key: dict[str, Any], options: CheckedOptions) -> None:
        self.key = key
        self.users = 0
        self._options = options
        self._browser: Browser | None = None
        self._place: Place
        self._tunnel = AsyncExitStack()
        self._renting = asyncio.Lock()

    async def browser(self) -> tuple[Browser, Place]:
        """Return a browser that runs, and where Playwright finds it."""
        async with self._renting:
            if self._browser is not None and not await self._browser.connection.is_alive(_ALIVE_TIMEOUT):
                logger.info("browser %s is lost or expired; another one is rented", self._browser.id)
                await self._stop()
            if self._browser is None:
                self._browser = await open_checked(self._options, holder=None)
                self._place = await self._tunnel.enter_async_context(local_address(self._browser))
            return self._browser, self._place

    async def release(self) -> None:
        """Count one user less; stop the browser after the last one."""
        self.users -= 1
        if self.users == 0:
            _rentals[asyncio.get_running_loop()].remove(self)
            async with self._renting:
                await self._stop()

    async def _stop(self) -> None:
        browser, self._browser = self._browser, None
        if browser is None:
            return
        try:
            async with self._tunnel:
                logger.info("browser %s: %s", browser.id, await browser.stop())
        except StopFailed as failed:
            logger.error("%s", failed)  # noqa: TRY400  # the message is meant for the user


_rentals: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, list[_Rental]]] = WeakKeyDictionary()


def _shared(key: dict[str, Any], options: CheckedOptions) -> _Rental:
    """Return the rental in this event loop for those launch options: of their crawl, providers see no more than these."""
    rentals = _rentals.setdefault(asyncio.get_running_loop(), [])
    rental = next((each for each in rentals if each.key == key), None)
    if rental is None:
        rental = _Rental(key, options)
        rentals.append(rental)
    rental.users += 1
    return rental


def _checked(options: Mapping[str, Any]) -> CheckedOptions:
    known = {"provider", _MINUTES, *RentalOptions.__annotations__} - {"on_progress", "on_handler_error"}
    unknown = options.keys() - known
    if unknown:
        raise ConfigurationError(
            f"PLAYWRIGHT_LAUNCH_OPTIONS: a rented browser has no option {min(unknown)!r}; it has {', '.join(sorted(known))}"
        )
    rental: Any = {name: value for name, value in options.items() if name not in {"provider", _MINUTES}}
    if _MINUTES in options:
        if "timeout" in options:
            raise ConfigurationError(
                f"PLAYWRIGHT_LAUNCH_OPTIONS: timeout and {_MINUTES} are the same: leave one out"
            )
        minutes = options[_MINUTES]
        if not isinstance(minutes, int) or isinstance(minutes, bool):
            raise ConfigurationError(
                f"PLAYWRIGHT_LAUNCH_OPTIONS: {_MINUTES} must be a whole number, not {minutes!r}"
            )
        rental["timeout"] = timedelta(minutes=min(max(minutes, -1), _TOO_MANY_MINUTES))
    try:
        return check(options.get("provider"), rental)
    except ConfigurationError as error:
        raise ConfigurationError(f"PLAYWRIGHT_LAUNCH_OPTIONS: {error}") from error
