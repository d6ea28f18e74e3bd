"""A tab of our own for the time of a block."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from cdpbridge.browser import Tab
from cdpbridge.cdp import Connection

__all__ = ["own_tab"]


@asynccontextmanager
async def own_tab(connection: Connection) -> AsyncGenerator[Tab]:
    """Open a tab; leaving the block closes it, if it is still there."""
    tab = Tab(await connection.new_tab())
    try:
        yield tab
    finally:
        if tab.session.closed is None:
            await tab.close()
