"""A tab of our own for the time of a block."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from cdpbridge.browser import Tab
from cdpbridge.cdp import Connection

__all__ = ["own_tab"]


@asynccontextmanager
async def own_tab(connection: Connection, context_id: str | None = None) -> AsyncGenerator[Tab]:
    """Open a tab, by default in the browser's own context; leaving the block closes it, if it is still there."""
    tab = Tab(await connection.new_tab(browser_context_id=context_id))
    try:
        yield tab
    finally:
        if tab.session.closed is None:
            await tab.close()
