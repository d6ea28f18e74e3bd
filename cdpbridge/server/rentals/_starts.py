"""Starts of browsers, each shared by the requests that wait for it, and given up with the last of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from uuid import UUID

from cdpbridge._concurrency import mark_retrieved, to_the_end
from cdpbridge.errors import CDPBridgeError
from cdpbridge.server.store import Browser

__all__ = ["ClientGone", "KeyReused", "Start", "StartWithdrawn", "wait_for"]


class ClientGone(CDPBridgeError):
    """The client left before its browser was ready; nobody reads the answer."""


class StartWithdrawn(CDPBridgeError):
    """The browser was stopped, or the server, before it was ready."""


class KeyReused(CDPBridgeError):
    """An `Idempotency-Key` came back with another body."""


class Start:
    """One browser on its way.

    Attributes:
        body_hash: Of the request that began it.
        given_up: It is being undone.
        delivered: A request has its answer: what happens to the others undoes nothing any more.
        task: Ends with the browser, or with the error for everybody who waits.
    """

    def __init__(self, browser_id: UUID, body_hash: str, work: Coroutine[Any, Any, Browser]) -> None:
        self.browser_id = browser_id
        self.body_hash = body_hash
        self.given_up = False
        self.delivered = False
        self.waiting = 0
        self.task = asyncio.get_running_loop().create_task(work)
        self.task.add_done_callback(mark_retrieved)

    def give_up(self) -> None:
        """Undo it; whoever still waits gets `StartWithdrawn`."""
        self.given_up = True
        self.task.cancel()


async def wait_for(
    start: Start, gone: Callable[[], Awaitable[None]], *, void: Callable[[UUID], Awaitable[None]]
) -> Browser:
    """The browser of `start`.

    Args:
        gone: Returns when the client has left.
        void: Undoes a browser that is ready but that no client has learnt of.

    Raises:
        ClientGone: Then nothing is left of the browser, unless others wait for it as well.
    """
    start.waiting += 1
    leaving = asyncio.ensure_future(gone())
    leaving.add_done_callback(mark_retrieved)  # a failure counts as gone
    left = True
    try:
        await asyncio.wait({start.task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        left = leaving.done()
    finally:
        start.waiting -= 1
        leaving.cancel()
        if left and not start.waiting:
            if not start.task.done():
                start.give_up()
            elif not start.delivered and not start.task.cancelled() and start.task.exception() is None:
                await to_the_end(void(start.browser_id))
    if left:
        await asyncio.wait({start.task})
        raise ClientGone("the client left before its browser was ready")
    browser = start.task.result()
    start.delivered = True
    return browser
