"""Bytes between a server and a browser's debugging port, passed on unread."""

from __future__ import annotations

import asyncio
from typing import cast

from cdpbridge.server.gateway import Upstream

from ._channel import Channel

__all__ = ["Relay"]

# Before the other end is read no further; a message of a few MiB passes without a stop.
_HIGH_WATER: int = 1024 * 1024


class Relay:
    """A connection to a browser, and the one of the server that it is for."""

    def __init__(self) -> None:
        self._browser, self._server = _End(), _End()
        self._browser.peer, self._server.peer = self._server, self._browser
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._server.ended = self.ended

    async def reach(self, upstream: Upstream) -> None:
        """Connect to the browser.

        Raises:
            OSError: It does not listen.
        """
        (await upstream.open(self._browser)).pause_reading()

    def begin(self, server: Channel) -> None:
        """Pass on what comes from now on; the connection is the relay's.

        Raises:
            OSError: It has ended.
        """
        server.become(self._server)
        self._browser.resume_reading()

    def close(self) -> None:
        """End both connections."""
        self._browser.close()
        self._server.close()


class _End(asyncio.Protocol):
    """One of the two connections; `peer` is the other."""

    peer: _End

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(_HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        if (there := self.peer._transport) is not None:  # noqa: SLF001  # the same class
            there.write(data)

    def pause_writing(self) -> None:
        if (there := self.peer._transport) is not None:  # noqa: SLF001
            there.pause_reading()

    def resume_writing(self) -> None:
        self.peer.resume_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        # What was received before is written first.
        self.peer.close()
        if self.ended is not None and not self.ended.done():
            self.ended.set_result(None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
