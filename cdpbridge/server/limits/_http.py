"""uvicorn's HTTP protocol with limits: what a peer may send before it is served, and how long it may take.

What is read of a connection, and what ends it:

| State   | Meaning                                                     | Ends after                                     |
|---------|-------------------------------------------------------------|------------------------------------------------|
| head    | new, or within a request's head                             | `head_seconds` from its first byte             |
| idle    | answered, no byte of the next request                       | `keep_alive_seconds` (uvicorn's own timer)     |
| body    | the head is complete, the body is not                       | `stall_seconds` without `stall_bytes`          |
| served  | the request is complete, its answer is not                  | only if the peer reads nothing of the answer   |
| rest    | answered before the body was complete; the rest is dropped  | `linger_seconds`                               |
| refused | we have answered an error and read nothing more             | `linger_seconds`                               |
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, ClassVar, Final, cast

from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from ._border import NO_PLACE_TEXT
from ._connections import Connections
from ._limits import Limits

__all__ = ["http_protocol"]

# The parser sees this much at a time, so that no limit is missed by more. A socket delivers 256 KiB at once.
_PIECE: Final = 16 * 1024
# A socket delivers 256 KiB at once: so a refused body takes 5 MiB/s at most.
_DISCARD_PAUSE_SECONDS: Final = 0.05
# What a field costs beside its text: a tuple and two objects.
_FIELD: Final = 4


def http_protocol(limits: Limits, connections: Connections) -> type[asyncio.Protocol]:
    """Return the class to give to uvicorn as `http`.

    Args:
        limits: Of each connection.
        connections: The table of those that wait.
    """
    return type("LimitedHttpProtocol", (_LimitedHttp,), {"_limits": limits, "_table": connections})


class _State(Enum):
    HEAD = auto()
    IDLE = auto()
    BODY = auto()
    SERVED = auto()
    REST = auto()
    REFUSED = auto()


class _Refused(Exception):
    """Ends the parser's run; the answer is in `_LimitedHttp._refusal`."""


class _Flow(FlowControl):
    """Reading goes on with what has been received and not yet parsed."""

    def __init__(self, transport: asyncio.Transport, feed: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._feed = feed

    def resume_reading(self) -> None:
        if self.read_paused and self._feed():
            # And the transport stays paused, until that is parsed.
            self.read_paused = False
        else:
            super().resume_reading()


class _LimitedHttp(HttpToolsProtocol):
    """One connection. uvicorn parses and answers; this class counts, and watches the time."""

    _limits: ClassVar[Limits]
    _table: ClassVar[Connections]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._state = _State.HEAD
        self._timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._refusal: tuple[int, str] | None = None
        self._unparsed = b""
        self._feeding = False
        self._head_bytes = 0
        self._fields = 0
        # Received since the parser last reported something: the part of a line, or of a chunk's head, that it keeps.
        self._silent_bytes = 0
        self._reported = False
        self._progress = 0
        self._discarded = 0

    # --- the socket -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport, self._feed_soon)
        if not self._table.arrived(self):
            self._refuse(503, NO_PLACE_TEXT)
            return
        self._set_timer(self._limits.head_seconds, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._table.served(self)
        self._set_timer(0, None)
        self._stop_unread()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def drop(self) -> None:
        """Make way for others."""
        self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._table.waits(self)
        self._watch_unread()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_unread()
        if self._state is _State.SERVED:
            self._table.served(self)

    def shutdown(self) -> None:
        super().shutdown()
        if self.transport.is_closing():
            self._watch_unread()

    def _watch_unread(self) -> None:
        if self._unread_timer is None:
            self._unread_timer = self.loop.call_later(self._limits.unread_seconds, self.transport.abort)

    def _stop_unread(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _set_timer(self, seconds: float, then: Callable[[], object] | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if then is None else self.loop.call_later(seconds, then)

    # --- what comes in --------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._state is _State.REFUSED:
            self._discarded += len(data)
            if self._discarded > self._limits.discard_bytes and not self._answering:
                self.transport.abort()
            elif len(data) > _PIECE:  # a peer that sends at full speed, for nothing: others go first
                self.transport.pause_reading()
                self.loop.call_later(_DISCARD_PAUSE_SECONDS, self._discard_more)
            return
        if self._unparsed:
            self._unparsed += data
            return
        if len(data) <= _PIECE:
            self._parse(data)
        else:
            self._unparsed = data
            self._feed()
        self._after()

    def _discard_more(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def _feed_soon(self) -> bool:
        if self._unparsed and not self._feeding:
            self._feeding = True
            self.loop.call_soon(self._feed_rest)
        return self._feeding

    def _feed_rest(self) -> None:
        self._feeding = False
        if self.transport.is_closing() or self._state is _State.REFUSED:
            self._unparsed = b""
            return
        self._feed()
        self._after()
        if not self._unparsed and not self.flow.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    def _feed(self) -> None:
        """Parse until there is nothing more, or until the application has to take something first."""
        data, at = self._unparsed, 0
        while at < len(data) and not self.flow.read_paused and self._parser_runs():
            self._parse(data[at : at + _PIECE])
            at += _PIECE
        self._unparsed = data[at:] if self._parser_runs() else b""

    def _parser_runs(self) -> bool:
        # None after the connection was lost, or handed over by an upgrade.
        parser: Any = self.parser
        return parser is not None and self._state is not _State.REFUSED

    @property
    def _answering(self) -> bool:
        """True while a request is being answered."""
        cycle: Any = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete and not cycle.disconnected

    def _parse(self, piece: bytes) -> None:
        self._reported = False
        if self._state is _State.IDLE:
            self._state = _State.HEAD
        super().data_received(piece)
        self._silent_bytes = 0 if self._reported else self._silent_bytes + len(piece)
        if self._head_bytes + self._silent_bytes > self._limits.head_bytes and self._parser_runs():
            self._refuse(431, self._too_long())

    def _after(self) -> None:
        """Start what watches an incomplete request. A request that comes whole needs no timer."""
        if not self._parser_runs() or self.transport.is_closing():
            return
        if self._state is _State.HEAD:
            if self._timer is None:
                self._set_timer(self._limits.head_seconds, self._head_is_late)
            self._table.holds(self, self._head_bytes + self._silent_bytes + len(self._unparsed))
        elif self._state is _State.BODY:
            if self._timer is None:
                self._set_timer(self._limits.stall_seconds, self._body_is_late)
            self._table.holds(self, len(self.cycle.body) + len(self._unparsed))

    # --- the parser tells -----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._reported = True
        self._head_bytes = self._fields = 0
        if self._state is not _State.REFUSED:
            self._state = _State.HEAD
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + _FIELD)
        self._fields += 1
        if self._fields > self._limits.head_fields:
            self._refusal = 431, f"the request has more than {self._limits.head_fields} headers"
            raise _Refused
        if self._state is _State.HEAD:  # a trailer is no header, whatever it is called
            super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._reported = True
        self._head_bytes += size
        if self._head_bytes > self._limits.head_bytes:
            self._refusal = 431, self._too_long()
            raise _Refused

    def on_headers_complete(self) -> None:
        self._reported = True
        self._head_bytes = self._fields = self._progress = 0
        self._set_timer(0, None)
        if len(self.pipeline) >= self._limits.pipelined:
            self._refuse_after_answers()
            raise _Refused
        self._state = _State.BODY
        self._table.waits(self)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._reported = True
        self._progress += len(body)
        if self._state is _State.REST and self._progress > self._limits.linger_bytes:
            self._stop_answering()
            raise _Refused
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._reported = True
        self._head_bytes = self._fields = 0
        self._set_timer(0, None)
        if self._state is _State.REST:
            self._be_idle()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        else:
            self._state = _State.SERVED
            self._table.served(self)
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        if self._answering:
            # The answer would become part of the WebSocket.
            self._refuse_after_answers()
            return
        self._set_timer(0, None)
        self._unset_keepalive_if_required()
        self._table.served(self)
        super().handle_websocket_upgrade()
        self.parser = cast("Any", None)  # what follows belongs to the other protocol

    # --- the application answers ----------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_unread()
        elif not self.cycle.response_complete:
            pass  # another request came behind it
        elif self._state is _State.SERVED:
            self._be_idle()
        elif self._state is _State.BODY:
            self._state = _State.REST
            self._progress = 0
            self._set_timer(self._limits.linger_seconds, self.transport.abort)
        elif self._state is _State.HEAD:
            self._table.waits(self)

    def _be_idle(self) -> None:
        self._state = _State.IDLE
        self._table.waits(self)
        self._table.holds(self, 0)

    # --- the peer is late -----------------------------------------------------------------------------------------

    def _head_is_late(self) -> None:
        self._timer = None
        if self._answering:
            self._refuse_after_answers()
        elif self._head_bytes or self._silent_bytes:
            self._refuse(408, f"the request's head did not come within {self._limits.head_seconds:g} s")
        else:
            self.transport.abort()  # it has said nothing

    def _body_is_late(self) -> None:
        self._timer = None
        if self._state is not _State.BODY:
            return
        if self.flow.read_paused or self._unparsed:
            pass  # we are late
        elif self._progress < self._limits.stall_bytes:
            self._refuse(408, f"the request's body stopped for {self._limits.stall_seconds:g} s")
            return
        else:
            self._table.waits(self)
        self._progress = 0
        self._set_timer(self._limits.stall_seconds, self._body_is_late)

    # --- refusals -------------------------------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        """Answer for uvicorn when the parser fails, which it also does when one of our callbacks raises."""
        if self._state is not _State.REFUSED:
            self._refuse(*(self._refusal or (400, msg)))

    def _too_long(self) -> str:
        return f"the request's head has more than {self._limits.head_bytes} bytes"

    def _refuse(self, status: int, detail: str) -> None:
        """Answer, unless an answer is on its way, and read nothing more."""
        is_earlier = self._state is not _State.BODY or len(self.pipeline) > 0
        if self._answering and (is_earlier or self.cycle.response_started):
            self._refuse_after_answers()
            return
        body = json.dumps({"detail": detail}).encode()
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\ncache-control: no-store\r\n"
            b"x-content-type-options: nosniff\r\nconnection: close\r\n\r\n%s"
            % (status, HTTPStatus(status).phrase.encode(), len(body), body)
        )
        self._stop_answering()

    def _stop_answering(self) -> None:
        """Discard what comes for a moment: to close at once would take our answer from the peer as well."""
        self._state = _State.REFUSED
        self._unparsed = b""
        self._unset_keepalive_if_required()
        self._table.waits(self)
        self._table.holds(self, 0)
        if self._answering:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.transport.resume_reading()
        self._set_timer(self._limits.linger_seconds, self.transport.abort)

    def _refuse_after_answers(self) -> None:
        """Read nothing more; the requests before are answered, and the last of them ends the connection."""
        self._state = _State.REFUSED
        self._unparsed = b""
        self._set_timer(0, None)
        last = self.pipeline[0][0] if self.pipeline else self.cycle
        last.keep_alive = False
