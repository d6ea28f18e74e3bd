"""`Elsewhere`: what this server does about browsers that another one runs: wait for their start, have them stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final
from uuid import UUID

from cdpbridge._concurrency import mark_retrieved
from cdpbridge._lifecycle import State
from cdpbridge.errors import CDPBridgeError
from cdpbridge.server.store import Browser, Store

from ._starts import ClientLeft

__all__ = ["Elsewhere", "OwnerSilent"]

_POLL_SECONDS: Final = 0.2
# A stop is bounded, and a server that has ended is found in less.
_STOP_SECONDS: Final = 60.0


class OwnerSilent(CDPBridgeError):
    """The server that runs the browser has not done in time what was asked of it."""


class Elsewhere:
    """Browsers of other servers.

    Args:
        store: Open.
        start_within: What a start takes at most, its wait for a turn included.
    """

    def __init__(self, store: Store, *, start_within: timedelta) -> None:
        self._store = store
        self._start_seconds = start_within.total_seconds()

    async def ready(self, browser: Browser, client_left: Callable[[], Awaitable[None]]) -> Browser | None:
        """Return the browser of an earlier request with the same `Idempotency-Key`, once it runs.

        Returns:
            None when it did not start or is being taken back: the key is free, or will be in a moment.

        Raises:
            ClientLeft: The client did not wait.
            OwnerSilent: It took too long.
        """
        if self._store.one_writer:
            return browser
        work = asyncio.ensure_future(self._ready(browser))
        leaving = asyncio.ensure_future(client_left())
        leaving.add_done_callback(mark_retrieved)
        try:
            await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientLeft("the client left before its browser was ready")
            return work.result()
        finally:
            work.cancel()
            leaving.cancel()

    async def _ready(self, browser: Browser) -> Browser | None:
        found: Browser | None = browser
        try:
            async with asyncio.timeout(self._start_seconds):
                while found is not None and found.state == State.STARTING:
                    await asyncio.sleep(_POLL_SECONDS)
                    found = await self._store.rental(browser.id)
        except TimeoutError:
            raise OwnerSilent("the browser of this Idempotency-Key is still starting; try again") from None
        if found is None or found.started_at is None:
            return None
        if found.owner == self._store.server_id:
            return found
        given = await self._store.give_out(browser.id)
        if given is None:
            await asyncio.sleep(_POLL_SECONDS)
        return given

    async def stopped(self, project_id: UUID, browser_id: UUID) -> Browser | None:
        """Have a browser stopped by the server whose it is, and return its record; None when the project has no such browser.

        That server may be this one, which has just taken it over.

        Raises:
            OwnerSilent: It has not stopped in time.
        """
        browser = await self._store.browser(project_id, browser_id)
        if browser is None or self._store.one_writer:
            return browser
        await self._store.ask_stop(browser_id)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                while browser is not None and browser.state != State.STOPPED:
                    await asyncio.sleep(_POLL_SECONDS)
                    browser = await self._store.browser(project_id, browser_id)
        except TimeoutError:
            raise OwnerSilent("the server that runs this browser has not stopped it yet; try again") from None
        return browser
