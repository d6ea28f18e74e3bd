"""The address under which a client of this machine uses a browser: the browser's own, or a tunnel's where files must be carried."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cdpbridge._concurrency import LoopThread

from ._find import find_browser
from ._tunnel import browser_address, open_tunnel_to, shared_by

if TYPE_CHECKING:
    from cdpbridge.api import BrowserSession
    from cdpbridge.browser import Browser

__all__ = ["Place", "local_address", "local_address_sync", "playwright_options"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a client finds a browser.

    Attributes:
        cdp_url: Its address; a password.
        local: The browser, or the tunnel for it, sees this process's files.
    """

    cdp_url: str = field(repr=False)
    local: bool


@asynccontextmanager
async def local_address(
    browser: Browser | BrowserSession | str, tunnel: bool | None = None
) -> AsyncIterator[Place]:
    """Give clients of this process an address of a browser, with this process's files where that is possible. A block.

    Args:
        browser: A `Browser` of ours, a record of the REST API, or a CDP address.
        tunnel: Open a tunnel; None: if the browser does not see this process's files.

    Raises:
        ConfigurationError: The browser has no address: it is not running.
        ConnectFailed: It cannot be reached.
    """
    address = browser if isinstance(browser, str) else browser.cdp_url or ""
    async with AsyncExitStack() as stack:
        if tunnel is False:
            yield Place(address, local=False)
            return
        found = await find_browser(browser_address(browser), client_comes=True)
        if tunnel is True or shared_by(found) is False:
            opened = await stack.enter_async_context(open_tunnel_to(found, bare=False))
            yield Place(opened.cdp_url, local=True)
        else:
            await found.close()
            yield Place(address, local=shared_by(found) is True)


@contextmanager
def local_address_sync(
    browser: Browser | BrowserSession | str, tunnel: bool | None = None
) -> Iterator[Place]:
    """Do as `local_address`, for programs without an event loop; the tunnel runs in a thread of its own."""
    with LoopThread() as loop:
        block = local_address(browser, tunnel)
        place = loop.run(_entered(block))
        try:
            yield place
        finally:
            loop.run(_left(block))


async def _entered(block: Any) -> Place:
    place: Place = await block.__aenter__()
    return place


async def _left(block: Any) -> None:
    await block.__aexit__(None, None, None)


def playwright_options(connect: Callable[..., object], place: Place) -> dict[str, Any]:
    """Return what Playwright's `connect_over_cdp` must be given for a place, if its version can be."""
    known = "is_local" in inspect.signature(connect).parameters
    return {"is_local": True} if known and place.local else {}
