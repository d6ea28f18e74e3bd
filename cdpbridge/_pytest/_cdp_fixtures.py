"""Fixtures for tests over CDP: `cdp_browser` and `cdp_tab`.

The rented browser is shared by all tests of the process that want the same profile and proxy country. Each test has a
connection of its own, in its own event loop, and, unless it asked for a profile, a browser context of its own, so that
cookies and storage of one test are not seen by the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from cdpbridge._pytest._run import Run
    from cdpbridge.browser._tab import Tab
    from cdpbridge.cdp import Connection
    from cdpbridge.rental import RentalOptions

__all__ = ["CDPBrowser", "cdp_browser", "cdp_tab"]


class CDPBrowser:
    """A rented browser as one test sees it.

    Attributes:
        cdp_url: Its address, for other clients; a password.
        connection: The test's own connection to it.
    """

    def __init__(self, cdp_url: str, connection: Connection, context_id: str | None) -> None:
        self.cdp_url = cdp_url
        self.connection = connection
        self._context_id = context_id
        self._tabs: list[Tab] = []

    async def new_tab(self, url: str | None = None) -> Tab:
        """Open a page in the test's context, and load `url` in it if given.

        Raises:
            NavigationError: It could not be loaded.
        """
        from cdpbridge.browser._tab import Tab  # noqa: PLC0415  # this module is loaded by runs that need no browser

        tab = Tab(await self.connection.new_tab(browser_context_id=self._context_id))
        self._tabs.append(tab)
        if url is not None:
            await tab.goto(url)
        return tab

    async def end(self) -> None:
        """Close what the test has opened."""
        if self._context_id is not None:
            await self.connection.root.send(
                "Target.disposeBrowserContext", {"browserContextId": self._context_id}
            )
            return
        for tab in self._tabs:
            await tab.close()


@pytest_asyncio.fixture
async def cdp_browser(request: pytest.FixtureRequest) -> AsyncIterator[CDPBrowser]:
    """Connect to a rented browser over CDP.

    `@pytest.mark.cdpbridge(profile=..., proxy_country=...)`, or indirect parametrization with such a dict, says which.
    """
    from cdpbridge._pytest._run import run_of  # noqa: PLC0415  # as above
    from cdpbridge.cdp import connect  # noqa: PLC0415  # as above

    run = run_of(request.config)
    options = _options(request, run)
    cdp_url = await asyncio.to_thread(run.cdp_url, options)
    async with connect(cdp_url, reconnect=True) as connection:
        context_id = None
        if options.get("profile") is None:
            reply = await connection.root.send("Target.createBrowserContext", {"disposeOnDetach": True})
            context_id = str(reply["browserContextId"])
        browser = CDPBrowser(cdp_url, connection, context_id)
        yield browser
        if not connection.closed:
            await browser.end()


@pytest_asyncio.fixture
async def cdp_tab(cdp_browser: CDPBrowser) -> Tab:
    """Open a blank page of `cdp_browser`."""
    return await cdp_browser.new_tab()


def _options(request: pytest.FixtureRequest, run: Run) -> RentalOptions:
    given: Any = {}
    marker = request.node.get_closest_marker("cdpbridge")
    if marker is not None:
        if marker.args:
            raise pytest.UsageError("the marker `cdpbridge` takes profile= and proxy_country= by name")
        given |= marker.kwargs
    given |= getattr(request, "param", None) or {}
    unknown = given.keys() - {"profile", "proxy_country"}
    if unknown:
        raise pytest.UsageError(
            f"cdp_browser knows profile and proxy_country, not {', '.join(sorted(unknown))}"
        )
    asked: RentalOptions = {**run.options, **given}
    return asked
