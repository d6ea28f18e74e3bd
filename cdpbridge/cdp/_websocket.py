"""A WebSocket as a `Transport`: our own reader for the frames that matter, `websockets` for every other byte.

Nearly all that a browser sends is whole, unfragmented, unmasked text frames. Those are cut straight out of the read buffer.
The handshake, control frames, fragments, compressed frames and everything that is wrong go to the Sans-I/O core of
`websockets`, which knows RFC 6455. Both readers work on frame boundaries, so a connection changes between them freely.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Mapping
from typing import Final, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus, PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN

from cdpbridge._clock import Clock, TimerHandle
from cdpbridge.cdp._keepalive import Keepalive, Verdict
from cdpbridge.cdp._transport import Closed, Receiver
from cdpbridge.errors import ConnectFailed, ConnectionClosed, MessageTooBig

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without its C extension
    from websockets.utils import apply_mask

__all__ = ["WebSocketTransport"]

_head_16: Final = struct.Struct("!BBH").pack
_head_64: Final = struct.Struct("!BBQ").pack
_TEXT: Final = 0x81  # FIN and opcode 1, no reserved bit
_SWITCHING: Final = b"HTTP/1.1 101"
_FIRST_BUFFER: Final = 4 * 1024
_LARGEST_BUFFER: Final = 256 * 1024
_HIGH_WATER: Final = 1024 * 1024
_SHORT: Final = 512  # bytes; nearly all commands
_HEADS: Final = tuple(
    bytes((_TEXT, 0x80 | length)) if length < 126 else _head_16(_TEXT, 0x80 | 126, length)
    for length in range(_SHORT)
)
_MASKS: Final = 64  # drawn at a time
_four_each: Final = struct.Struct("4s" * _MASKS).unpack
_MARK: Final = 8  # bytes
_LINGER: Final = 1.0  # seconds the peer has for its half of the closing handshake after we have told our side


class WebSocketTransport(asyncio.BufferedProtocol):
    """The protocol under an asyncio transport, and a `Transport` above it.

    Args:
        core: Sans-I/O protocol, before its handshake.
        max_message_bytes: Larger messages end the connection with code 1009.
    """

    def __init__(self, core: ClientProtocol, max_message_bytes: int) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._core = core
        self._limit = max_message_bytes
        self._transport: asyncio.Transport | None = None
        self._receiver: Receiver | None = None
        # in: buffer[:filled] holds what is not consumed
        self._buffer = bytearray(_FIRST_BUFFER)
        self._view = memoryview(self._buffer)
        self._filled = 0
        self._large: bytearray | None = None  # a message that outgrew the buffer is read into one of its own
        self._large_view = memoryview(b"")
        self._large_filled = 0
        self._for_core = 0  # bytes of the present frame still owed to the core
        self._core_only = True  # during the handshake, and from the first close frame or error on
        self._fragmented = False
        self._fragments: list[bytes | bytearray] = []
        # out
        self._out: list[bytes] = []
        self._flush_due = False
        self._compressing = False
        self._masks: list[bytes] = []
        # the end
        self._closed: Closed | None = None
        self._local_close: tuple[int, str] | None = None
        self._linger: asyncio.TimerHandle | None = None
        # keepalive
        self._keepalive: Keepalive | None = None
        self._clock: Clock = loop
        self._look_timer: TimerHandle | None = None
        self._mark: tuple[bytearray, int, bytes] | None = None
        self._unwritten = 0

    # --- opening --------------------------------------------------------------------------------------------------

    def open(self, transport: asyncio.Transport, headers: Mapping[str, str]) -> None:
        """Take over a connected transport and send the upgrade request; `opened` tells the outcome."""
        self._transport = transport
        transport.set_protocol(self)
        transport.set_write_buffer_limits(_HIGH_WATER)
        request = self._core.connect()
        for name, value in headers.items():
            if name in request.headers:
                del request.headers[name]
            request.headers[name] = value
        self._core.send_request(request)
        self._write_core()

    def start(self, receiver: Receiver, /) -> None:
        self._receiver = receiver
        if self._closed is not None:
            self._loop.call_soon(receiver.lost, self._closed)
            return
        self._core_only = False
        self._parse()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # --- in -------------------------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._large is not None:
            return self._large_view[self._large_filled :]
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        if self._large is not None:
            self._large_filled += nbytes
            if self._large_filled == len(self._large):
                message, self._large = self._large, None
                self._large_view = memoryview(b"")
                self._deliver(message, 0, len(message))
            return
        self._filled += nbytes
        full = self._filled == len(self._buffer)
        if self._receiver is not None:
            self._parse()
        elif not self.opened.done():
            self._handshake()
        if full and (len(self._buffer) < _LARGEST_BUFFER or self._receiver is None):
            self._resize(2 * len(self._buffer))

    def _resize(self, size: int) -> None:
        buffer = bytearray(size)
        buffer[: self._filled] = self._view[: self._filled]
        self._buffer, self._view = buffer, memoryview(buffer)

    def _parse(self) -> None:
        buffer, filled, limit = self._buffer, self._filled, self._limit
        assert self._receiver is not None
        received = self._receiver.received
        at = 0
        try:
            while at < filled:
                if self._core_only or self._for_core:
                    at += self._feed_core(at, filled if self._core_only else min(filled, at + self._for_core))
                    continue
                if not self._fragmented and self._closed is None:
                    # Nearly every message ends in this loop, and 0.4 us of it are saved by looking at nothing else. Nothing
                    # that a handler may do ends it: what it closes or aborts is told in a later turn.
                    try:
                        while filled - at >= 4 and buffer[at] == _TEXT:
                            length = buffer[at + 1]
                            if length < 126:
                                body = at + 2
                            elif length == 126:
                                length = buffer[at + 2] << 8 | buffer[at + 3]
                                body = at + 4
                            else:
                                break
                            end = body + length
                            if end > filled or length > limit:
                                break
                            at = end  # before the call: a handler may raise SystemExit through us
                            received(buffer, body, end)
                    except UnicodeDecodeError as error:
                        self._fail(1007, f"invalid UTF-8: {error.reason}")
                        continue
                if filled - at < 2:
                    break
                length = buffer[at + 1]
                body = at + 2
                if length == 126:
                    body = at + 4
                    if filled < body:
                        break
                    length = buffer[at + 2] << 8 | buffer[at + 3]
                elif length == 127:
                    body = at + 10
                    if filled < body:
                        break
                    length = int.from_bytes(buffer[at + 2 : body], "big")
                elif length > 127:  # masked: wrong for a server, as the core will say
                    body, length = at + 2, 0
                end = body + length
                if buffer[at] == _TEXT and buffer[at + 1] < 128 and not self._fragmented and length <= limit:
                    if end <= filled:
                        at = end  # before the call: a handler may raise SystemExit through us
                        self._deliver(buffer, body, end)
                        continue
                    if end - at > len(buffer):
                        self._large = bytearray(length)
                        self._large_view = memoryview(self._large)
                        self._large_filled = filled - body
                        self._large_view[: filled - body] = self._view[body:filled]
                        at = filled
                    break
                opcode = buffer[at] & 0x0F
                if opcode <= 2:
                    self._fragmented = buffer[at] < 0x80
                self._for_core = end - at
        finally:
            rest = filled - at
            if at and rest:
                buffer[:rest] = buffer[at:filled]
            self._filled = rest

    def _deliver(self, buffer: bytes | bytearray, start: int, end: int) -> None:
        assert self._receiver is not None
        if self._closed is not None:
            return
        try:
            self._receiver.received(buffer, start, end)
        except UnicodeDecodeError as error:
            self._fail(1007, f"invalid UTF-8: {error.reason}")

    def _fail(self, code: int, reason: str) -> None:
        if self._core.state is OPEN:
            self._core.fail(code, reason)
            self._core_only = True
            self._write_core()
        self._finish(Closed(code, reason))

    # --- the Sans-I/O core ----------------------------------------------------------------------------------------

    def _handshake(self) -> None:
        """Give the core its HTTP answer and not one byte of the frames behind it."""
        end = self._filled  # a refusal: all of it, its body tells why
        if _SWITCHING.startswith(bytes(self._view[: min(end, len(_SWITCHING))])):
            end = self._buffer.find(b"\r\n\r\n", 0, end) + 4
            if end < 4:
                if self._filled < _LARGEST_BUFFER:
                    return
                end = self._filled  # absurd: the core will say so
        self._core.receive_data(bytes(self._view[:end]))
        rest = self._filled - end
        self._buffer[:rest] = self._buffer[end : self._filled]
        self._filled = rest
        self._core.events_received()
        self._write_core()
        self._settle_handshake()

    def _settle_handshake(self) -> None:
        if self.opened.done():
            return
        if self._core.handshake_exc is not None:
            self.opened.set_exception(_refusal(self._core.handshake_exc))
        elif self._core.state is OPEN:
            self._compressing = bool(self._core.extensions)
            if self._transport is not None:
                self._transport.pause_reading()
            self.opened.set_result(None)

    def _feed_core(self, start: int, end: int) -> int:
        core = self._core
        core.receive_data(bytes(self._view[start:end]))
        if not self._core_only:
            self._for_core -= end - start
        for event in core.events_received():
            if not isinstance(event, Frame):
                continue
            if event.opcode is Opcode.CLOSE:
                assert core.close_rcvd is not None
                self._write_core()
                self._finish(Closed(core.close_rcvd.code, core.close_rcvd.reason))
            elif event.opcode in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
                self._fragments.append(cast("bytes", event.data))
                if event.fin:
                    message, self._fragments = b"".join(self._fragments), []
                    self._deliver(message, 0, len(message))
        self._write_core()
        if core.state is not OPEN:
            self._core_only = True
        problem = core.parser_exc
        if problem is not None and self._closed is None:
            cause = None
            if isinstance(problem, PayloadTooBig):
                cause = MessageTooBig(
                    f"the browser sent a message over the limit of {self._limit} bytes, "
                    "so the connection was closed (1009); raise max_message_bytes or ask for less",
                    limit_bytes=self._limit,
                )
            code = core.close_sent.code if core.close_sent is not None else 1006
            self._finish(Closed(code, str(problem), cause))
        return end - start

    def _write_core(self) -> None:
        transport = self._transport
        for data in self._core.data_to_send():
            if data:
                self._put(data)
            elif transport is not None and not transport.is_closing():
                self._flush()
                transport.close()

    # --- out ------------------------------------------------------------------------------------------------------

    def send(self, message: bytes, /) -> None:
        if self._closed is not None or self._local_close is not None:
            code, reason = self._local_close or (0, "")
            closed = self._closed or Closed(code, reason)
            raise ConnectionClosed(closed.code, closed.reason, sent=False)
        if self._compressing:
            self._core.send_text(message)
            self._write_core()
            return
        self._out.append(message)
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _put(self, data: bytes) -> None:
        """Bytes of the core, behind the messages that were sent before."""
        if self._out:
            self._flush()
        if self._transport is not None:
            self._transport.write(data)

    def _flush(self) -> None:
        """Frame and mask what was sent in this turn of the loop, and write it at once."""
        self._flush_due = False
        out = self._out
        if not out or self._transport is None:
            return
        masks = self._masks
        while len(masks) < len(out):
            masks += _four_each(os.urandom(4 * _MASKS))
        next_mask = masks.pop
        frames: list[bytes] = []
        for message in out:
            mask = next_mask()
            length = len(message)
            if length < _SHORT:
                head = _HEADS[length]
            elif length < 65536:
                head = _head_16(_TEXT, 0x80 | 126, length)
            else:
                head = _head_64(_TEXT, 0x80 | 127, length)
            frames += (head, mask, apply_mask(message, mask))
        out.clear()
        self._transport.write(b"".join(frames))

    def pause_writing(self) -> None:
        if self._receiver is not None:
            self._receiver.pause()

    def resume_writing(self) -> None:
        if self._receiver is not None:
            self._receiver.resume()

    # --- keepalive ------------------------------------------------------------------------------------------------

    def keep_alive(self, interval: float, timeout: float | None, clock: Clock | None = None) -> None:
        """Ping a peer that is silent, and end the connection when it stays so; seconds.

        Any byte counts as life, an answer that is still on its way too, and so does a peer that takes in what we write.
        """
        self._clock = clock or self._loop
        self._keepalive = Keepalive(interval, timeout, self._clock.time())
        self._leave_mark()
        self._look_timer = self._clock.call_at(self._keepalive.due, self._look)

    def _look(self) -> None:
        keepalive = self._keepalive
        if keepalive is None or self._closed is not None or self._core.state is not OPEN:
            return
        alive = self._mark_overwritten() or self._drains()
        verdict = keepalive.check(self._clock.time(), alive=alive)
        if verdict is Verdict.DEAD:
            self._finish(Closed(1006, "keepalive"))
            self.abort()
            return
        if verdict is Verdict.PING:
            self._core.send_ping(os.urandom(4))
            self._write_core()
        self._leave_mark()
        self._look_timer = self._clock.call_at(keepalive.due, self._look)

    def _leave_mark(self) -> None:
        """Write a random mark where the next bytes from the socket will go: the reader itself then has nothing to note."""
        if self._large is not None:
            buffer, at = self._large, self._large_filled
        else:
            buffer, at = self._buffer, self._filled
        mark = os.urandom(min(_MARK, len(buffer) - at))
        buffer[at : at + len(mark)] = mark
        self._mark = (buffer, at, mark)

    def _mark_overwritten(self) -> bool:
        if self._mark is None:
            return False
        buffer, at, mark = self._mark
        into, filled = (
            (self._buffer, self._filled) if self._large is None else (self._large, self._large_filled)
        )
        return into is not buffer or filled != at or buffer[at : at + len(mark)] != mark

    def _drains(self) -> bool:
        """Whether the peer's side takes what we write: a long upload has no answer before its end."""
        before = self._unwritten
        self._unwritten = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return self._unwritten < before

    # --- the end --------------------------------------------------------------------------------------------------

    def close(self, code: int = 1000, reason: str = "") -> None:
        if self._closed is not None or self._local_close is not None:
            return
        self._local_close = (code, reason)
        if self._core.state is not OPEN:
            self.abort()
            return
        self._core.send_close(code, reason)
        self._write_core()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def eof_received(self) -> None:
        if not self.opened.done():
            self._core.receive_eof()
            self._core.data_to_send()
            self._settle_handshake()
        self._finish(Closed(1006, "the peer ended the connection without a close frame"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self._core.receive_eof()
            self._settle_handshake()
        if not self.opened.done():
            self.opened.set_exception(
                ConnectFailed(
                    f"the server dropped the connection during the upgrade ({exc or 'closed'})",
                    stage="upgrade",
                )
            )
        self._finish(Closed(1006, str(exc) if exc is not None else ""))
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        self._transport = None
        self._out.clear()

    def _finish(self, closed: Closed) -> None:
        """Tell the receiver now; the socket has a moment longer to part in good form."""
        if self._closed is not None:
            return
        if closed.code == 1006 and self._local_close is not None:
            closed = Closed(*self._local_close)
        self._closed = Closed(closed.code, closed.reason, closed.cause, len(self._out))
        if self._look_timer is not None:
            self._look_timer.cancel()
            self._look_timer = None
        if self._transport is not None:
            self._linger = self._loop.call_later(_LINGER, self.abort)
        if self._receiver is not None:
            self._receiver.lost(self._closed)


def _refusal(error: Exception) -> ConnectFailed:
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        body = bytes(error.response.body or b"").decode("utf-8", "replace")[:500]
        text = f"the server refused the WebSocket with HTTP {status}"
        if body.strip():
            text += f": {body.strip()}"
        return ConnectFailed(text, stage="upgrade", status=status, body=body)
    stage = "handshake" if isinstance(error, InvalidHandshake) else "upgrade"
    cause = error.__cause__
    detail = f" ({cause})" if cause is not None else ""
    failure = ConnectFailed(f"the server's upgrade answer is no WebSocket's: {error}{detail}", stage=stage)
    failure.__cause__ = error
    return failure
