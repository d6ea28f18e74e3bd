"""The page with which a browser begins."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Final

from cdpbridge.cdp import Connection
from cdpbridge.errors import CDPError

from ._base import BrowserSpec

__all__ = ["open_first_page", "renew_first_page"]

logger = logging.getLogger("cdpbridge.server")

# A start page that takes longer goes on loading; the browser is handed over all the same.
_TIMEOUT: Final = timedelta(seconds=5)


_RENEWAL_SECONDS: Final = 5.0
_BLANK: Final = "about:blank"


async def renew_first_page(connection: Connection) -> None:
    """Give the first tab of a browser that has waited a new document, whose time begins now. Its history stays one entry long.

    Raises:
        CDPError: The browser has ended, or has not one tab.
        TimeoutError: It does not answer.
    """
    async with asyncio.timeout(_RENEWAL_SECONDS):
        found = await connection.root.send("Target.getTargets")
        pages = [info["targetId"] for info in found["targetInfos"] if info["type"] == "page"]
        if len(pages) != 1:
            raise CDPError(f"a browser that has waited has {len(pages)} tabs and not one")
        session = await connection.attach(pages[0])
        await session.send("Page.enable")
        # The same address again is a reload, for the history. Until it has loaded, who attaches meets a page that is not active.
        async with session.expect("Page.loadEventFired"):
            await session.send("Page.navigate", {"url": _BLANK})
        await session.detach()


async def open_first_page(connection: Connection, spec: BrowserSpec) -> None:
    """Bring the first tab to the start page. A page that is slow or broken is the client's to see, not a failed start."""
    if spec.start_url is None:
        return
    try:
        found = await connection.root.send("Target.getTargets")
        pages = [info["targetId"] for info in found["targetInfos"] if info["type"] == "page"]
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
