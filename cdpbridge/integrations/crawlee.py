"""Crawlee on rented browsers: a browser plugin that rents when the pool wants a browser and stops when it closes one.

    plugin = RentedBrowserPlugin(profile="work", max_open_pages_per_browser=8)
    crawler = PlaywrightCrawler(browser_pool=BrowserPool(plugins=[plugin]))

Pages share the browser's own context, which carries the profile; what they change is saved at the stop. Crawlee's sessions
put their cookies into that context too, so crawls whose sessions must not see each other take `use_incognito_pages=True`:
each page has a context of its own then, which starts with the profile's cookies and is not saved.

Options of a context, a fingerprint, and proxies of Crawlee cannot be given to a context that is there already. With one of them,
and without a profile, the pages of a browser share a context that is made for them; with a profile they need
`use_incognito_pages=True`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, Unpack

from crawlee.browsers import PlaywrightBrowserController, PlaywrightBrowserPlugin

from cdpbridge._concurrency import to_the_end
from cdpbridge.api import AsyncClient
from cdpbridge.billing import Receipt
from cdpbridge.browser import Browser
from cdpbridge.browser._open import open_checked
from cdpbridge.errors import ConfigurationError, StopFailed
from cdpbridge.rental._options import RentalOptions, check
from cdpbridge.tunnel._address import local_address, playwright_options

if TYPE_CHECKING:
    from crawlee.fingerprint_suite import FingerprintGenerator
    from crawlee.proxy_configuration import ProxyInfo
    from playwright.async_api import Browser as PlaywrightBrowser
    from playwright.async_api import Page

__all__ = ["RentedBrowserController", "RentedBrowserPlugin"]

logger = logging.getLogger("cdpbridge")

_CONNECT_MS: Final = 30_000
_NEEDS_INCOGNITO: Final = "needs use_incognito_pages=True with a profile: the context of a profile is there before Crawlee can give it options"


class RentedBrowserPlugin(PlaywrightBrowserPlugin):
    """Rents one browser each time the pool wants one.

    Args:
        provider: Where, as of `open_browser`; one client, and with `local()` one server, for all browsers of the pool.
        max_open_pages_per_browser: Pages at once in one browser; the pool rents another one for more.
        use_incognito_pages: A context of its own for each page.
        browser_new_context_options: For contexts; with a `profile` only those of incognito pages.
        fingerprint_generator: As `browser_new_context_options`.
        rental: Arguments of `open_browser`, for each browser. With a `profile` each starts from it, and only the first one that
            runs is saved. A crawl that takes longer than `timeout` gets a new browser.

    Attributes:
        receipts: Of the browsers that have been stopped.

    Raises:
        ConfigurationError: An option of contexts is given with a `profile`, whose context is there already.
    """

    def __init__(
        self,
        provider: AsyncClient | str | None = None,
        *,
        max_open_pages_per_browser: int = 20,
        use_incognito_pages: bool = False,
        browser_new_context_options: dict[str, Any] | None = None,
        fingerprint_generator: FingerprintGenerator | None = None,
        **rental: Unpack[RentalOptions],
    ) -> None:
        super().__init__(
            browser_type="chromium",
            max_open_pages_per_browser=max_open_pages_per_browser,
            use_incognito_pages=use_incognito_pages,
            browser_new_context_options=browser_new_context_options,
            fingerprint_generator=fingerprint_generator,
        )
        if rental.get("profile") is not None and not use_incognito_pages:
            for name, value in (
                ("fingerprint_generator", fingerprint_generator),
                ("browser_new_context_options", browser_new_context_options),
            ):
                if value:
                    raise ConfigurationError(f"{name} {_NEEDS_INCOGNITO}")
        self.receipts: list[Receipt] = []
        self._rental_options = check(provider, rental)
        self._resources = AsyncExitStack()
        self._rented: dict[Browser, AsyncExitStack] = {}

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            await opening.enter_async_context(self._rental_options.client.share())
            await super().__aenter__()
            self._resources = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._resources:
            try:
                await to_the_end(self._stop_rest())
            finally:
                await super().__aexit__(kind, error, trace)

    async def _stop_rest(self) -> None:
        """Stop the rentals of controllers that the pool could not close."""
        stops = (self.stop(rental) for rental in list(self._rented))
        failures = [each for each in await asyncio.gather(*stops, return_exceptions=True) if each is not None]
        for failed in failures[1:]:
            logger.error("%s", failed)
        if failures:
            raise failures[0]

    async def new_browser(self) -> RentedBrowserController:
        """Rent a browser and connect Playwright to it. Cancelled or failed, nothing stays rented.

        Raises:
            RuntimeError: Outside the plugin's block.
            CDPBridgeError: As of `open_browser`.
        """
        if not self.active or self._playwright is None:
            raise RuntimeError(
                "Playwright browser plugin is not initialized. It is not active: use it through BrowserPool, or enter it as a block"
            )
        rental = await open_checked(self._rental_options, holder=None)
        tunnel = self._rented[rental] = AsyncExitStack()
        try:
            place = await tunnel.enter_async_context(local_address(rental))
            connect = self._playwright.chromium.connect_over_cdp
            options = playwright_options(connect, place)
            browser = await connect(place.cdp_url, timeout=_CONNECT_MS, **options)
            state: Any = None
            if self._use_incognito_pages and rental.profile_id is not None:
                state = await browser.contexts[0].storage_state()
        except BaseException:
            await to_the_end(self.stop(rental))
            raise
        headers: dict[str, Any] = {}
        if self._fingerprint_generator is None:
            headers["header_generator"] = None  # the browser's own headers fit it best
        return RentedBrowserController(
            browser,
            plugin=self,
            rental=rental,
            state=state,
            max_open_pages_per_browser=self.max_open_pages_per_browser,
            use_incognito_pages=self._use_incognito_pages,
            fingerprint_generator=self._fingerprint_generator,
            **headers,
        )

    async def stop(self, rental: Browser) -> None:
        """Stop one of its browsers.

        Raises:
            StopFailed: As of `Browser.stop`.
        """
        async with self._rented.get(rental, AsyncExitStack()):
            self.receipts.append(await rental.stop())
        self._rented.pop(rental, None)


class RentedBrowserController(PlaywrightBrowserController):
    """The pages of one rented browser; closing it stops the rental. Made by `RentedBrowserPlugin`."""

    def __init__(
        self,
        browser: PlaywrightBrowser,
        *,
        plugin: RentedBrowserPlugin,
        rental: Browser,
        state: Any,
        **options: Any,
    ) -> None:
        super().__init__(browser, **options)
        self.rental = rental
        self._plugin = plugin
        self._state = state
        self._context_of_profile = self._browser_context

    @property
    def has_free_capacity(self) -> bool:
        """False also when the browser has ended, so that the pool rents another one."""
        return self.is_browser_connected and super().has_free_capacity

    async def new_page(
        self,
        browser_new_context_options: Mapping[str, Any] | None = None,
        proxy_info: ProxyInfo | None = None,
    ) -> Page:
        """See Crawlee.

        Raises:
            ConfigurationError: A proxy or options of a context are given, and the page would be in the profile's context.
        """
        options = dict(browser_new_context_options or {})
        wants_context = bool(options or proxy_info or self._fingerprint_generator)
        if (
            wants_context
            and not self._use_incognito_pages
            and self._browser_context is self._context_of_profile
        ):
            if self.rental.profile_id is not None:
                what = "a proxy of Crawlee" if proxy_info else "browser_new_context_options"
                raise ConfigurationError(f"{what} {_NEEDS_INCOGNITO}")
            self._browser_context = None  # the first page makes the one that they share
        if self._state is not None:
            options.setdefault("storage_state", self._state)
        return await super().new_page(options, proxy_info)

    async def close(self, *, force: bool = False) -> None:
        """Stop the rental, and with it every page.

        Raises:
            ValueError: Pages are open, and `force` is not given.
        """
        if self.pages_count and not force and self.is_browser_connected:
            raise ValueError(
                "Cannot close the browser while there are open pages. Give force=True to close them, too."
            )
        try:
            await self._browser.close()  # disconnects; the profile's context is left as it is, to be saved
        finally:
            try:
                await to_the_end(self._plugin.stop(self.rental))
            except StopFailed as failed:
                logger.error("%s", failed)  # noqa: TRY400  # the plugin tries once more at its end
