"""The page with which a browser begins."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Final

from cdpbridge.cdp import CDPSession, Connection
from cdpbridge.errors import CDPError

from ._base import BrowserSpec

__all__ = ["hold_first_page", "open_first_page", "renew_first_page"]

logger = logging.getLogger("cdpbridge.server")

# A start page that takes longer goes on loading; the browser is handed over all the same.
_TIMEOUT: Final = timedelta(seconds=5)
_RENEWAL_SECONDS: Final = 5.0
_BLANK: Final = "about:blank"


async def hold_first_page(connection: Connection) -> CDPSession:
    """Attach to the first tab of a browser that will wait for an order, so that `renew_first_page` need not.

    Raises:
        CDPError: The browser has ended, or has not one tab.
        TimeoutError: It does not answer.
    """
    async with asyncio.timeout(_RENEWAL_SECONDS):
        session = await connection.attach(await _only_page(connection))
        await session.send("Page.enable")
    return session


async def renew_first_page(connection: Connection, held: CDPSession) -> None:
    """Give the first tab of a browser that has waited a new document, whose time begins now. Its history stays one entry long.

    Args:
        held: From `hold_first_page`; detached.

    Raises:
        CDPError: The browser has ended, or has not one tab.
        TimeoutError: It does not answer.
    """
    async with asyncio.timeout(_RENEWAL_SECONDS):
        # The same address again is a reload, for the history. Until it has loaded, who attaches meets a page that is not active.
        async with held.expect("Page.loadEventFired"):
            await asyncio.gather(held.send("Page.navigate", {"url": _BLANK}), _only_page(connection))
        await held.detach()


async def _only_page(connection: Connection) -> str:
    pages = await _pages(connection)
    if len(pages) != 1:
        raise CDPError(f"a browser that waits for an order has {len(pages)} tabs and not one")
    return pages[0]


async def _pages(connection: Connection) -> list[str]:
    found = await connection.root.send("Target.getTargets")
    return [info["targetId"] for info in found["targetInfos"] if info["type"] == "page"]


async def open_first_page(connection: Connection, spec: BrowserSpec) -> None:
    """Bring the first tab to the start page. A page that is slow or broken is the client's to see, not a failed start."""
    if spec.start_url is None:
        return
    try:
        pages = await _pages(connection)
        if not pages:
            await connection.root.send("Target.createTarget", {"url": spec.start_url})
            return
        session = await connection.attach(pages[0])
        try:
            await session.send("Page.navigate", {"url": spec.start_url}, timeout=_TIMEOUT)
        finally:
            await session.detach()
    except CDPError as error:
        logger.info("browser %s: its start page has not answered yet: %s", spec.id, error)
