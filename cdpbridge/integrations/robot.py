"""Robot Framework's Browser library on rented browsers.

    *** Settings ***
    Library    Browser    enable_playwright_debug=disabled
    Library    cdpbridge.integrations.robot.RentedBrowser

    *** Test Cases ***
    Title
        Open Rented Browser    profile=work    timeout=5 minutes
        New Page    https://example.com
        Get Title    ==    Example Domain

The browser is stopped when the suite that opened it ends, however its tests end, and the report shows what it cost. Robot Framework
turns Ctrl-C and SIGTERM into such an end; what a killed run leaves, `cdpbridge reap` stops.

Without `enable_playwright_debug=disabled` the Browser library writes the browser's address into `playwright-log.txt`, where it is a
secret until the browser is stopped.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from robot.api.deco import keyword, library
from robot.libraries.BuiltIn import BuiltIn

from cdpbridge.api import server_default
from cdpbridge.errors import ConfigurationError, redact_url
from cdpbridge.sync import Browser, open_browser
from cdpbridge.tunnel._address import Place, local_address_sync

__all__ = ["RentedBrowser"]

_LOCAL: Final = Path(__file__).with_name("_robot_local.cjs")
_LOCAL_MARK: Final = "#cdpbridge-local"
logger = logging.getLogger("cdpbridge")  # Robot Framework puts it into the suite's log


@library(scope="SUITE")
class RentedBrowser:
    """Rents browsers for Robot Framework's Browser library.

    = Arguments =

    ``provider``: as of ``open_browser``: "local", "cloud" or a server's address; by default what the environment says.

    ``library``: the name under which the suite has imported the Browser library.
    """

    def __init__(self, provider: str | None = None, library: str = "Browser") -> None:
        self.ROBOT_LIBRARY_LISTENER = self
        self._provider = provider
        self._library = library
        self._rentals = ExitStack()
        self._browsers: list[Browser] = []

    @keyword
    def open_rented_browser(
        self, profile: str | None = None, proxy_country: str | None = None, timeout: timedelta | None = None
    ) -> str:
        """Rent a browser and connect the Browser library to it; return the Browser library's id of it.

        ``profile``: name or id of a profile; it is saved when the browser is stopped.

        ``proxy_country``: two letters, e.g. ``de``, or ``none`` for no proxy; by default the server's.

        ``timeout``: after which the browser ends by itself; what is not used of it is refunded.

        Its address is a secret, and is never logged.
        """
        country: Any = server_default if proxy_country is None else proxy_country
        if isinstance(country, str) and country.lower() == "none":
            country = None
        driver = BuiltIn().get_library_instance(self._library)
        if not hasattr(driver, "connect_to_browser"):
            raise ConfigurationError(
                f"the library {self._library!r} is not Robot Framework's Browser library"
            )
        with ExitStack() as opened:
            browser = opened.enter_context(
                open_browser(self._provider, profile=profile, proxy_country=country, timeout=timeout)
            )
            place = opened.enter_context(local_address_sync(browser.cdp_url))
            identifier = _connect(driver, place)
            opened.callback(_disconnect, driver, identifier)
            self._rentals.push(opened.pop_all())
        self._browsers.append(browser)
        logger.info("browser %s is rented", browser.id)
        return identifier

    @keyword
    def close_rented_browsers(self) -> None:
        """Stop what this suite has rented; the end of the suite does it too."""
        self._rentals.close()

    def end_suite(self, _data: Any, result: Any) -> None:
        """Stop the browsers of a suite at its end, and put their costs into the report. Called by Robot Framework."""
        try:
            self._rentals.close()
        finally:
            receipts = [str(browser.receipt) for browser in self._browsers if browser.receipt is not None]
            if receipts:
                result.metadata["Rented browsers"] = "\n".join(receipts)
            self._browsers.clear()


def _connect(driver: Any, place: Place) -> str:
    """Connect without Robot Framework in between, which would log the address."""
    from Browser import SupportedBrowsers  # noqa: PLC0415  # it is installed, as the driver is from it

    address = place.cdp_url
    marked = f"{address}{_LOCAL_MARK}" if place.local and _can_be_local(driver) else address
    try:
        return str(driver.connect_to_browser(marked, SupportedBrowsers.chromium, use_cdp=True))
    except AssertionError as error:
        text = str(error).replace(address, redact_url(address))
        raise AssertionError(f"the Browser library cannot connect to the rented browser: {text}") from None


def _can_be_local(driver: Any) -> bool:
    """Have Playwright take a marked address for that of a local browser; False: this Browser library has no way to do so.

    The limits of remote browsers, 50 MB for an upload, do not hold then.
    """
    try:
        driver.init_js_extension(_LOCAL)
    except Exception as error:  # noqa: BLE001  # gRPC's, or an AttributeError
        logger.warning(
            "the Browser library takes the browser for a remote one, uploads have 50 MB at most: %s", error
        )
        return False
    return True


def _disconnect(driver: Any, identifier: str) -> None:
    try:
        driver.close_browser(identifier)
    except Exception as error:  # noqa: BLE001  # it has ended before us, or lost its browser: there is nothing to disconnect
        logger.debug("browser %s of the Browser library: %s", identifier, type(error).__name__)
