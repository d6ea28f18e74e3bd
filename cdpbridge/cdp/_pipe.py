"""Chromium's debugging pipe as a `Transport`: JSON messages, each ended by a NUL byte, over two file descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from typing import Final, cast

from cdpbridge.cdp._transport import Closed, Receiver
from cdpbridge.errors import ConnectionClosed, MessageTooBig

__all__ = ["PipeTransport", "open_pipe"]

_END: Final = b"\0"
_HIGH_WATER: Final = 1024 * 1024


class PipeTransport(asyncio.Protocol):
    """The protocol of the reading end, and the `Transport` over both.

    Args:
        max_message_bytes: A larger message ends the connection.
    """

    def __init__(self, max_message_bytes: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = max_message_bytes
        self._reader: asyncio.ReadTransport | None = None
        self._writer: asyncio.WriteTransport | None = None
        self._receiver: Receiver | None = None
        # what came before `start`: uvloop delivers although reading is paused
        self._early = b""
        # the beginning of a message that is not complete
        self._tail = bytearray()
        self._out: list[bytes] = []
        self._flush_due = False
        self._closed: Closed | None = None
        self._local_close: tuple[int, str] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._reader = cast("asyncio.ReadTransport", transport)  # uvloop's does not inherit from it
        self._reader.pause_reading()

    def writer_made(self, transport: asyncio.WriteTransport) -> None:
        """Take the other end, which is ready too."""
        self._writer = transport
        transport.set_write_buffer_limits(_HIGH_WATER)

    def start(self, receiver: Receiver, /) -> None:
        self._receiver = receiver
        early, self._early = self._early, b""
        if early:
            self.data_received(early)
        if self._closed is not None:
            self._loop.call_soon(receiver.lost, self._closed)
        elif self._reader is not None:
            self._reader.resume_reading()

    # --- in -------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._receiver is None:
            self._early += data
            return
        start, size = 0, len(data)
        while start < size:
            end = data.find(_END, start)
            if end < 0:
                if len(self._tail) + size - start > self._limit:
                    self._too_big()
                    return
                self._tail += data[start:] if start else data
                return
            if self._tail:
                message, self._tail = self._tail, bytearray()
                message += data[start:end]
                if len(message) > self._limit:
                    self._too_big()
                    return
                self._deliver(message, 0, len(message))
            elif end - start > self._limit:
                self._too_big()
                return
            else:
                self._deliver(data, start, end)
            if self._closed is not None:
                return
            start = end + 1

    def _deliver(self, buffer: bytes | bytearray, start: int, end: int) -> None:
        assert self._receiver is not None
        try:
            self._receiver.received(buffer, start, end)
        except UnicodeDecodeError as error:
            self._finish(Closed(1007, f"invalid UTF-8: {error.reason}"))
            self.abort()

    def _too_big(self) -> None:
        cause = MessageTooBig(
            f"the browser sent a message over the limit of {self._limit} bytes, so the connection was closed; "
            "raise max_message_bytes or ask for less",
            limit_bytes=self._limit,
        )
        self._finish(Closed(1009, "message too big", cause))
        self.abort()

    # --- out ------------------------------------------------------------------------------------------------------

    def send(self, message: bytes, /) -> None:
        if self._closed is not None or self._local_close is not None:
            code, reason = self._local_close or (0, "")
            closed = self._closed or Closed(code, reason)
            raise ConnectionClosed(closed.code, closed.reason, sent=False)
        self._out += (message, _END)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._out and self._writer is not None:
            data = b"".join(self._out)
            self._out.clear()
            self._writer.write(data)

    def pause_writing(self) -> None:
        if self._receiver is not None:
            self._receiver.pause()

    def resume_writing(self) -> None:
        if self._receiver is not None:
            self._receiver.resume()

    # --- the end --------------------------------------------------------------------------------------------------

    def close(self, code: int = 1000, reason: str = "") -> None:
        if self._closed is not None or self._local_close is not None:
            return
        self._local_close = (code, reason)
        self._flush()
        if self._writer is not None:
            self._writer.close()  # what is queued goes out first
        if self._reader is not None:
            self._reader.close()

    def abort(self) -> None:
        self._out.clear()
        writer, self._writer = self._writer, None
        if writer is not None and (writer.get_write_buffer_size() or not writer.is_closing()):
            writer.abort()  # asyncio breaks when it aborts a pipe that is closed
        if self._reader is not None:
            self._reader.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(Closed(1006, str(exc) if exc is not None else "the pipe was closed"))
        self._reader = None
        if self._writer is not None:
            self._writer.close()

    def writer_lost(self, exc: Exception | None) -> None:
        """End: the peer has closed its reading end, which for a browser means that it has exited."""
        self._writer = None
        self._finish(Closed(1006, str(exc) if exc is not None else "the pipe was closed"))
        if self._reader is not None:
            self._reader.close()

    def _finish(self, closed: Closed) -> None:
        if self._closed is not None:
            return
        if closed.code == 1006 and self._local_close is not None:
            closed = Closed(*self._local_close)
        self._closed = Closed(closed.code, closed.reason, closed.cause, len(self._out) // 2)
        if self._receiver is not None:
            self._receiver.lost(self._closed)


class _Writer(asyncio.Protocol):
    """Passes the events of the writing end on."""

    def __init__(self, pipe: PipeTransport) -> None:
        self._pipe = pipe
        self.pause_writing = pipe.pause_writing  # type: ignore[method-assign]  # one call less each
        self.resume_writing = pipe.resume_writing  # type: ignore[method-assign]  # as above
        self.connection_lost = pipe.writer_lost  # type: ignore[method-assign]  # as above


def _check_pipe(descriptor: int) -> None:
    """Refuse what is no pipe, as asyncio does; uvloop aborts the whole process."""
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
        raise ValueError(f"descriptor {descriptor} is no pipe")


class _Descriptor:
    """A descriptor as a loop wants it, closed once.

    uvloop has libuv close it, and then calls `close` of what it was given (uvloop/handles/handle.pyx, `UVSocketHandle._close`). A
    file object closes the number again, which in between another thread may have got for a file of its own: a database, say.
    """

    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self._number = number
        self._closed_by_loop = type(loop).__module__.partition(".")[0] == "uvloop"

    def fileno(self) -> int:
        return self._number

    def close(self) -> None:
        number, self._number = self._number, -1
        if number >= 0 and not self._closed_by_loop:
            os.close(number)


async def open_pipe(read_fd: int, write_fd: int, *, max_message_bytes: int) -> PipeTransport:
    """Open a transport over two descriptors, which belong to it from this call on, also when it fails."""
    loop = asyncio.get_running_loop()
    try:
        for descriptor in (read_fd, write_fd):
            _check_pipe(descriptor)
    except BaseException:
        for descriptor in (read_fd, write_fd):
            with contextlib.suppress(OSError):  # it may be the one that is bad
                os.close(descriptor)
        raise
    reader, writer = _Descriptor(read_fd, loop), _Descriptor(write_fd, loop)
    pipe = PipeTransport(max_message_bytes)
    try:
        await loop.connect_read_pipe(lambda: pipe, reader)
    except BaseException:
        pipe.abort()
        reader.close()
        os.close(write_fd)
        raise
    try:
        transport, _ = await loop.connect_write_pipe(lambda: _Writer(pipe), writer)
    except BaseException:
        pipe.abort()
        writer.close()
        raise
    pipe.writer_made(transport)
    return pipe
