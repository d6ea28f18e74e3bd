"""A tunnel: two sockets spliced, bytes both ways, each direction waiting for its slower end.

It takes the sockets over from asyncio's streams: a task and a buffer for each direction cost three times the CPU
(`benchmarks/forwarder.py`). A stream still learns that its socket was closed, as its writer is waited for.
"""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from typing import Final, cast

from cdpbridge._concurrency import at_once

from ._dial import CHUNK_BYTES

__all__ = ["HALF_CLOSED_SECONDS", "carry"]

_HIGH_WATER: Final = 128 * 1024
# A peer that ended its direction, while the other one says nothing for so long, has left.
HALF_CLOSED_SECONDS: Final = 60.0

Streams = tuple[StreamReader, StreamWriter]


async def carry(
    near: Streams,
    far: Streams,
    *,
    sent: bytes,
    received: bytes,
    on_sent: Callable[[int], object],
    on_received: Callable[[int], object],
) -> None:
    """Carry bytes both ways until both directions ended, or one of them while the other is silent.

    Args:
        near: The browser's socket.
        far: The other end's.
        sent: What the browser has sent already.
        received: What the other end has sent already.
        on_sent: Called with the number of bytes that come from the browser.
        on_received: Called with the number of bytes that come from the other end.

    Raises:
        OSError: A socket broke. Neither of them is usable then.
    """
    writers = near[1], far[1]
    if any(writer.is_closing() for writer in writers):
        raise ConnectionResetError("the socket was closed")
    for writer in writers:
        _transport(writer).pause_reading()
    # What came since the last read; asyncio offers no other way to learn of it.
    sent += await _buffered(near[0])
    received += await _buffered(far[0])
    if any(writer.is_closing() for writer in writers):
        raise ConnectionResetError("the socket was closed")
    tunnel = _Tunnel()
    ends = _End(tunnel, _transport(near[1]), on_sent), _End(tunnel, _transport(far[1]), on_received)
    try:
        tunnel.join(*ends)
        for end, (reader, _), data in zip(ends, (near, far), (sent, received), strict=True):
            end.begin(data, ended=reader.at_eof())
        await tunnel.done
    finally:
        tunnel.leave()


async def _buffered(reader: StreamReader) -> bytes:
    found = b""
    while not reader.at_eof():
        read = await at_once(reader.read(CHUNK_BYTES))
        if read is None:
            break
        found += read.result()
    return found


def _transport(writer: StreamWriter) -> asyncio.Transport:
    # The transport of uvloop inherits from no asyncio class.
    return cast("asyncio.Transport", writer.transport)


class _Tunnel:
    """What both ends share."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = loop.create_future()
        self.passed = 0
        self._loop = loop
        self._ends: tuple[_End, ...] = ()
        self._timer: asyncio.TimerHandle | None = None

    def join(self, near: _End, far: _End) -> None:
        self._ends = near, far
        near.other, far.other = far, near
        for end in self._ends:
            end.transport.set_write_buffer_limits(_HIGH_WATER)
            end.transport.set_protocol(end)

    def leave(self) -> None:
        """Read no more; what still comes is dropped."""
        self._settle(None)
        if self._timer is not None:
            self._timer.cancel()
        for end in self._ends:
            end.other = None

    def ended(self) -> None:
        """Note that one direction has ended."""
        if all(end.ended for end in self._ends):
            self._settle(None)
        elif self._timer is None:
            self._timer = self._loop.call_later(HALF_CLOSED_SECONDS, self._look, self.passed)

    def lost(self, error: Exception | None) -> None:
        """Note that a socket has closed."""
        self._settle(error or ConnectionResetError("the socket was closed"))

    def _look(self, before: int) -> None:
        if self.passed == before:
            self._settle(None)
        else:
            self._timer = self._loop.call_later(HALF_CLOSED_SECONDS, self._look, self.passed)

    def _settle(self, error: Exception | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class _End(asyncio.Protocol):
    """One end.

    Attributes:
        other: The other one; None when the tunnel is over.
        ended: Nothing more comes from it.
    """

    def __init__(self, tunnel: _Tunnel, transport: asyncio.Transport, count: Callable[[int], object]) -> None:
        self.transport = transport
        self.other: _End | None = None
        self.ended = False
        self._tunnel = tunnel
        self._count = count
        self._streams = transport.get_protocol()

    def begin(self, data: bytes, *, ended: bool) -> None:
        if data:
            self.data_received(data)
        if ended:
            self.eof_received()
        else:
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        size = len(data)
        self._count(size)
        self._tunnel.passed += size
        if self.other is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        self.ended = True
        if self.other is not None:
            if not self.other.transport.is_closing():
                self.other.transport.write_eof()
            self._tunnel.ended()
        return True  # the other direction goes on

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._streams.connection_lost(exc)
        if self.other is not None:
            self.other.other = None  # nothing may be written to a closed socket
            self._tunnel.lost(exc)
