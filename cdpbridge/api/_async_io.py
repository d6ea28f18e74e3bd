"""What `_async` needs of its event loop. `_sync_io` has the same names for a thread, written by hand as well."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from cdpbridge import _concurrency as _shield
from cdpbridge._embedded import EmbeddedServer, open_server
from cdpbridge.api._http import prepare_http

__all__ = [
    "CANCELLED",
    "Turns",
    "in_thread",
    "monotonic",
    "sleep",
    "start_server",
    "stop_server",
    "to_the_end",
]

T = TypeVar("T")

CANCELLED: Final = asyncio.CancelledError
"""How a caller is cancelled."""

monotonic = time.monotonic


async def sleep(seconds: float) -> None:
    """Wait."""
    await asyncio.sleep(seconds)


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Return the result of a function that waits for a disk."""
    return await asyncio.to_thread(function, *arguments)


async def to_the_end(work: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    """Return the result of `work`, which runs to its end however often the caller is cancelled; then raise the cancellation."""
    return await _shield.to_the_end(work(*arguments))


async def start_server(settings: Mapping[str, Any]) -> EmbeddedServer:
    """Join or start an embedded server; it is ready."""
    return await open_server(settings, meanwhile=_prepare)


def _prepare() -> None:
    """Import what the first request needs, in a thread that has time for it."""
    prepare_http()
    import anyio  # noqa: PLC0415  # httpx has loaded it

    # Its half for asyncio is imported by the first connection. Any loop will do.
    anyio.run(anyio.sleep, 0)


async def stop_server(server: EmbeddedServer) -> None:
    """Leave it, or end it; what was rented here is stopped first."""
    await server.stop()


class Turns:
    """One task at a time. A lock belongs to a loop, and the client may be opened in another one later."""

    def __init__(self) -> None:
        self._lock: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    def lock(self) -> asyncio.Lock:
        """Return the lock of the running loop."""
        loop = asyncio.get_running_loop()
        if self._lock is None or self._lock[0] is not loop:
            self._lock = loop, asyncio.Lock()
        return self._lock[1]
