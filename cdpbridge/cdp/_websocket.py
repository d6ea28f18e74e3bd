"""A WebSocket as a `Transport`: our own reader for the frames that matter, `websockets` for every other byte.

`_frame_reader` cuts the messages out of what is received. The handshake, control frames, fragments, compressed frames and
everything that is wrong go to the Sans-I/O core of `websockets`, which knows RFC 6455.

    CONNECTING ──upgrade accepted──> OPEN ──close()──> CLOSING
        │                             │                   │
        │                             └─────────┬─────────┘
        └─refused, socket lost─> CLOSED <───────┘ close frame, violation, no pong, end of the socket

    state       `send`    messages     bytes are read by
    CONNECTING  -         kept         the core, up to the end of its HTTP answer
    OPEN        queued    delivered    the frame reader, and the core for each frame that this leaves
    CLOSING     refused   delivered    the core alone, which waits for the peer's close frame
    CLOSED      refused   dropped      the core alone, which answers the peer's close frame until the socket is closed

The receiver is notified of the end on the way to CLOSED, once.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Mapping
from enum import Enum
from typing import Final, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus, PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN as CORE_OPEN

from cdpbridge._clock import Clock, TimerHandle
from cdpbridge.cdp._frame_reader import LARGEST_BUFFER, FrameReader
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
# FIN and opcode 1, no reserved bit
_TEXT: Final = 0x81
_SWITCHING: Final = b"HTTP/1.1 101"
_HIGH_WATER: Final = 1024 * 1024
# bytes; nearly all commands
_SHORT: Final = 512
_HEADS: Final = tuple(
    bytes((_TEXT, 0x80 | length)) if length < 126 else _head_16(_TEXT, 0x80 | 126, length)
    for length in range(_SHORT)
)
# drawn at a time
_MASKS: Final = 64
_four_each: Final = struct.Struct("4s" * _MASKS).unpack
# bytes
_MARK: Final = 8
# seconds that the peer has to finish the closing handshake once the receiver knows of the end
_LINGER: Final = 1.0


class State(Enum):
    """Where a connection stands; the table is in the module's docstring."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


# as globals they take a third of the time
_CONNECTING, _OPEN, _CLOSING, _CLOSED = State


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
        self._state = _CONNECTING
        self._transport: asyncio.Transport | None = None
        self._receiver: Receiver | None = None
        # in
        self._frames = FrameReader(max_message_bytes)
        self._fragments: list[bytes | bytearray] = []
        # out
        self._out: list[bytes] = []
        self._compressing = False
        self._masks: list[bytes] = []
        # the end: our close frame, what the receiver was notified of, and the wait for the peer
        self._sent_close: Closed | None = None
        self._end: Closed | None = None
        self._linger: asyncio.TimerHandle | None = None
        # keepalive
        self._keepalive: Keepalive | None = None
        self._clock: Clock = loop
        self._check_timer: TimerHandle | None = None
        self._unwritten = 0

    # --- opening --------------------------------------------------------------------------------------------------

    def open(self, transport: asyncio.Transport, headers: Mapping[str, str]) -> None:
        """Take over a connected transport and send the upgrade request; `opened` gets the outcome."""
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
        if self._end is not None:
            self._loop.call_soon(receiver.lost, self._end)
            return
        self._parse()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # --- in -------------------------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._frames.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        frames = self._frames
        large = frames.add(nbytes)
        if large is not None:
            self._deliver(large, 0, len(large))
            return
        full = frames.full
        if self._receiver is not None:
            self._parse()
        elif self._state is _CONNECTING:
            self._handshake()
        if full and (self._receiver is None or not frames.at_limit):
            frames.grow()

    def _parse(self) -> None:
        frames = self._frames
        assert self._receiver is not None
        received = self._receiver.received
        while frames.filled:
            if self._state is not _OPEN:
                self._feed_core(frames.take(frames.filled))
            elif frames.for_core:
                self._feed_core(frames.take(frames.for_core))
            else:
                try:
                    if not frames.read(received):
                        break
                except UnicodeDecodeError as error:
                    self._fail(1007, f"invalid UTF-8: {error.reason}")

    def _deliver(self, buffer: bytes | bytearray, start: int, end: int) -> None:
        assert self._receiver is not None
        if self._state is _CLOSED:
            return
        try:
            self._receiver.received(buffer, start, end)
        except UnicodeDecodeError as error:
            self._fail(1007, f"invalid UTF-8: {error.reason}")

    def _fail(self, code: int, reason: str) -> None:
        if self._core.state is CORE_OPEN:
            self._core.fail(code, reason)
            self._write_core()
        self._finish(Closed(code, reason))

    # --- the Sans-I/O core ----------------------------------------------------------------------------------------

    def _handshake(self) -> None:
        """Give the core its HTTP answer and not one byte of the frames behind it."""
        data = self._frames.peek()
        end = len(data)  # a refusal: all of it, its body says why
        if _SWITCHING.startswith(data[: len(_SWITCHING)]):
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                if len(data) < LARGEST_BUFFER:
                    return
                end = len(data)  # absurd: the core will say so
        self._core.receive_data(data[:end])
        self._frames.drop(end)
        self._core.events_received()
        self._write_core()
        self._settle_handshake()

    def _settle_handshake(self) -> None:
        if self.opened.done():
            return
        if self._core.handshake_exc is not None:
            self.opened.set_exception(_refusal(self._core.handshake_exc))
        elif self._core.state is CORE_OPEN:
            self._state = _OPEN
            self._compressing = bool(self._core.extensions)
            if self._transport is not None:
                self._transport.pause_reading()
            self.opened.set_result(None)

    def _feed_core(self, data: bytes) -> None:
        core = self._core
        core.receive_data(data)
        self._frames.for_core = max(0, self._frames.for_core - len(data))
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
        problem = core.parser_exc
        if problem is not None and self._state is not _CLOSED:
            cause = None
            if isinstance(problem, PayloadTooBig):
                cause = MessageTooBig(
                    f"the browser sent a message over the limit of {self._limit} bytes, "
                    "so the connection was closed (1009); raise max_message_bytes or ask for less",
                    limit_bytes=self._limit,
                )
            code = core.close_sent.code if core.close_sent is not None else 1006
            self._finish(Closed(code, str(problem), cause))

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
        if self._state is not _OPEN:
            closed = self._end or self._sent_close or Closed(1006, "not open")
            raise ConnectionClosed(closed.code, closed.reason, sent=False)
        if self._compressing:
            self._core.send_text(message)
            self._write_core()
            return
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(message)

    def _put(self, data: bytes) -> None:
        """Write bytes of the core, behind the messages that were sent before."""
        if self._out:
            self._flush()
        if self._transport is not None:
            self._transport.write(data)

    def _flush(self) -> None:
        """Frame and mask what was sent in this turn of the loop, and write it at once."""
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
        self._frames.leave_mark(os.urandom(_MARK))
        self._check_timer = self._clock.call_at(self._keepalive.due, self._check)

    def _check(self) -> None:
        keepalive = self._keepalive
        if keepalive is None or self._state is not _OPEN:
            return
        alive = self._frames.mark_overwritten() or self._drains()
        verdict = keepalive.check(self._clock.time(), alive=alive)
        if verdict is Verdict.DEAD:
            self._finish(Closed(1006, "keepalive"))
            self.abort()
            return
        if verdict is Verdict.PING:
            self._core.send_ping(os.urandom(4))
            self._write_core()
        self._frames.leave_mark(os.urandom(_MARK))
        self._check_timer = self._clock.call_at(keepalive.due, self._check)

    def _drains(self) -> bool:
        """Return True if the peer takes what we write: a long upload has no answer before its end."""
        before = self._unwritten
        self._unwritten = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return self._unwritten < before

    # --- the end --------------------------------------------------------------------------------------------------

    def close(self, code: int = 1000, reason: str = "") -> None:
        if self._state in {_CLOSING, _CLOSED}:
            return
        opened, self._state = self._state is _OPEN, _CLOSING
        self._sent_close = Closed(code, reason)
        if not opened:
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
        """Notify the receiver now; the socket stays open briefly to finish the closing handshake."""
        if self._state is _CLOSED:
            return
        self._state = _CLOSED
        if closed.code == 1006 and self._sent_close is not None:
            closed = self._sent_close
        self._end = Closed(closed.code, closed.reason, closed.cause, len(self._out))
        if self._check_timer is not None:
            self._check_timer.cancel()
            self._check_timer = None
        if self._transport is not None:
            self._linger = self._loop.call_later(_LINGER, self.abort)
        if self._receiver is not None:
            self._receiver.lost(self._end)


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
