"""A socket that is opened ahead: to the host of an address whose rest is still being asked for."""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import urlsplit

from cdpbridge._concurrency import mark_retrieved
from cdpbridge.cdp._endpoint import Progress, dial
from cdpbridge.errors import ConfigurationError, ConnectFailed

__all__ = ["SocketAhead"]

_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}


class SocketAhead:
    """One socket, TLS done, for the first connection to its host. Whatever fails, the caller opens another one.

    Args:
        address: `http(s)` or `ws(s)` address; only its scheme and host count.
    """

    def __init__(self, address: str) -> None:
        self._place = _place(address)
        self._dialling: asyncio.Task[asyncio.Transport] | None
        self._dialling = asyncio.get_running_loop().create_task(dial(address, progress=Progress()))
        self._dialling.add_done_callback(mark_retrieved)

    async def take(self, address: str) -> asyncio.Transport | None:
        """Return the socket, once, if it leads to the host of `address` and is still open; None otherwise."""
        if self._dialling is None or _place(address) != self._place:
            self.drop()
            return None
        dialling, self._dialling = self._dialling, None
        try:
            transport = await dialling
        except (ConnectFailed, ConfigurationError):
            return None
        return None if transport.is_closing() else transport

    def drop(self) -> None:
        """Close the socket, unless it was taken."""
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.cancel()
            dialling.add_done_callback(_abort)


def _place(address: str) -> tuple[bool, str | None, int | None]:
    url = urlsplit(address)
    return url.scheme in {"https", "wss"}, url.hostname, url.port or _PORTS.get(url.scheme)


def _abort(dialling: asyncio.Task[asyncio.Transport]) -> None:
    if not dialling.cancelled() and dialling.exception() is None:
        dialling.result().abort()
