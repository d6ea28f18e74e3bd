"""Starts of browsers. All requests with one `Idempotency-Key` share one; it is cancelled when the last of them leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from uuid import UUID

from cdpbridge._concurrency import mark_retrieved, to_the_end
from cdpbridge.errors import CDPBridgeError
from cdpbridge.server.store import Browser

__all__ = ["ClientLeft", "KeyReused", "Start", "StartWithdrawn", "wait_for"]


class ClientLeft(CDPBridgeError):
    """The client closed its connection before its browser was ready; no one reads the answer."""


class StartWithdrawn(CDPBridgeError):
    """The browser, or the server, was stopped before the browser was ready."""


class KeyReused(CDPBridgeError):
    """An `Idempotency-Key` came back with another body."""


class Start:
    """A browser start in progress.

    Attributes:
        body_hash: Of the body of the request that began it.
        cancelled: `cancel` was called; what was done so far is being rolled back.
        delivered: A request has its answer, so the others may leave without an effect on the browser.
        waiting: Number of requests that wait for it.
        task: Returns the browser, or raises the error for all requests that wait.
    """

    def __init__(self, browser_id: UUID, body_hash: str, work: Coroutine[Any, Any, Browser]) -> None:
        self.browser_id = browser_id
        self.body_hash = body_hash
        self.cancelled = False
        self.delivered = False
        self.waiting = 0
        self._begun = False
        self.task = asyncio.get_running_loop().create_task(self._run(work))
        self.task.add_done_callback(mark_retrieved)

    @property
    def succeeded(self) -> bool:
        """True once the browser is ready."""
        return self.task.done() and not self.task.cancelled() and self.task.exception() is None

    def cancel(self) -> None:
        """Cancel the start and roll it back; requests that still wait get `StartWithdrawn`."""
        self.cancelled = True
        if self._begun:
            self.task.cancel()
        else:  # cancelled before its first step, it would roll nothing back
            asyncio.get_running_loop().call_soon(self.task.cancel)

    async def _run(self, work: Coroutine[Any, Any, Browser]) -> Browser:
        self._begun = True
        return await work


async def wait_for(
    start: Start,
    client_left: Callable[[], Awaitable[None]],
    *,
    discard: Callable[[UUID], Awaitable[None]],
) -> Browser:
    """Return the browser of `start`.

    Args:
        start: Perhaps shared with other requests.
        client_left: Returns when the client has left.
        discard: Stops a browser that is ready but that no client has received, and refunds all of it.

    Raises:
        ClientLeft: The browser is rolled back, unless other requests wait for it.
    """
    start.waiting += 1
    leaving = asyncio.ensure_future(client_left())
    # A failure counts as a client that has left.
    leaving.add_done_callback(mark_retrieved)
    left = True
    try:
        await asyncio.wait({start.task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        left = leaving.done()
    finally:
        start.waiting -= 1
        leaving.cancel()
        if left and not start.waiting:
            if not start.task.done():
                start.cancel()
            elif start.succeeded and not start.delivered:
                await to_the_end(discard(start.browser_id))
    if left:
        await asyncio.wait({start.task})
        raise ClientLeft("the client left before its browser was ready")
    browser = start.task.result()
    start.delivered = True
    return browser
