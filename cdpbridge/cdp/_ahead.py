"""A socket that is opened ahead: to the host of an address whose rest is still being asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlsplit

from cdpbridge._concurrency import mark_retrieved
from cdpbridge.cdp._endpoint import Progress, dial
from cdpbridge.errors import ConfigurationError, ConnectFailed

__all__ = ["SocketAhead", "TakenOnce"]

T = TypeVar("T")

_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}


class TakenOnce(Generic[T]):
    """What is opened ahead, for one taker.

    Args:
        opening: Opens it.
        abort: Closes it, when no taker comes.
    """

    def __init__(self, opening: Coroutine[Any, Any, T], abort: Callable[[T], object]) -> None:
        self._opening: asyncio.Task[T] | None = asyncio.get_running_loop().create_task(opening)
        self._opening.add_done_callback(mark_retrieved)
        self._abort = abort

    def take(self) -> asyncio.Task[T] | None:
        """Return what opens it, once; it is the caller's."""
        opening, self._opening = self._opening, None
        return opening

    def drop(self) -> None:
        """Close it, unless it was taken."""
        opening = self.take()
        if opening is not None:
            opening.cancel()
            opening.add_done_callback(self._close)

    def _close(self, opening: asyncio.Task[T]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            self._abort(opening.result())


class SocketAhead:
    """One socket, TLS done, for the first connection to its host. Whatever fails, the caller opens another one.

    Args:
        address: `http(s)` or `ws(s)` address; only its scheme and host count.
    """

    def __init__(self, address: str) -> None:
        self._place = _place(address)
        self._dialled = TakenOnce(dial(address, progress=Progress()), lambda transport: transport.abort())

    async def take(self, address: str) -> asyncio.Transport | None:
        """Return the socket, once, if it leads to the host of `address` and is still open; None otherwise."""
        if _place(address) != self._place:
            self.drop()
        dialling = self._dialled.take()
        if dialling is None:
            return None
        try:
            transport = await dialling
        except (ConnectFailed, ConfigurationError):
            return None
        return None if transport.is_closing() else transport

    def drop(self) -> None:
        """Close the socket, unless it was taken."""
        self._dialled.drop()


def _place(address: str) -> tuple[bool, str | None, int | None]:
    url = urlsplit(address)
    return url.scheme in {"https", "wss"}, url.hostname, url.port or _PORTS.get(url.scheme)
