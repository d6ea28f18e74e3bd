"""What `_async` needs of its event loop. `_sync_io` has the same names for a thread, written by hand as well."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cdpbridge import _concurrency as _shield
from cdpbridge._embedded import EmbeddedServer, open_server
from cdpbridge.api._httpx import httpx

if TYPE_CHECKING:
    from cdpbridge.api._loopback_http import LoopbackHTTP

    AnyHTTP = httpx.AsyncClient | LoopbackHTTP

__all__ = [
    "CANCELLED",
    "Turns",
    "in_thread",
    "monotonic",
    "own_http",
    "sleep",
    "start_server",
    "stop_server",
    "to_the_end",
    "whole_http",
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
    from cdpbridge.api import _loopback_http  # noqa: F401, PLC0415  # not before the server starts
    from cdpbridge.api._http import prepare_models  # noqa: PLC0415  # as above

    prepare_models()


def own_http(base_url: str, *, is_embedded: bool) -> AnyHTTP:
    """Return a client for the connections to a server.

    Raises:
        ConfigurationError: The environment's proxies or certificates cannot be used.
    """
    from cdpbridge.api._http import http_options, readable_environment  # noqa: PLC0415  # not before the server starts

    if is_embedded:
        from cdpbridge.api._loopback_http import LoopbackHTTP  # noqa: PLC0415  # as above

        return LoopbackHTTP(base_url)
    with readable_environment():
        return httpx.AsyncClient(**http_options(base_url))


async def whole_http(http: AnyHTTP) -> httpx.AsyncClient:
    """Return a client of httpx, for files."""
    from cdpbridge.api._loopback_http import LoopbackHTTP  # noqa: PLC0415  # most programs carry no files

    return await http.whole() if isinstance(http, LoopbackHTTP) else http


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
