"""The application's own WebSockets: uvicorn's protocol, with limits until their first message was accepted."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, Final

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.http11 import Request

from cdpbridge.server.limits import Border

from ._frames import FrameScanner

__all__ = ["viewer_protocol"]

# RFC 6455 section 7.4.1: a message too big to process.
_TOO_BIG: Final = 1009


def viewer_protocol(border: Border) -> type[asyncio.Protocol]:
    """Return the protocol class of the paths that belong to the application.

    The application finds `state["admit"]` in the scope: a function that it calls with the largest message, in bytes, once
    it knows the peer.
    """
    return type("ViewerProtocol", (_ViewerProtocol,), {"_border": border})


class _ViewerProtocol(WebSocketsSansIOProtocol):
    """A WebSocket whose peer has to say who it is, in few bytes; it is dropped when there are too many of its kind."""

    _border: ClassVar[Border]

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(config, server_state, app_state)
        self.conn.debug = False  # the log would show credentials
        # Each frame is held against this as soon as its length was announced; see `data_received`.
        self._most = self._border.limits.hello_bytes
        self._received = 0
        self._scanner = FrameScanner()
        self._admitted = False
        self._unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._border.connections.waits(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._border.connections.served(self)
        if self._unread_timer is not None:
            self._unread_timer.cancel()
        super().connection_lost(exc)

    def drop(self) -> None:
        """Make way for others."""
        self.transport.abort()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.handshake_initiated:
            self.scope.setdefault("state", {})["admit"] = self._admit

    def _admit(self, most: int) -> None:
        self._admitted = True
        self._most = most
        self._received = 0
        self._border.connections.served(self)

    def data_received(self, data: bytes) -> None:
        if self.handshake_initiated and self._is_too_much(data):
            if self.handshake_complete:
                self.conn.fail(_TOO_BIG, "message too big")
                self.handle_parser_exception()
                self._part()
            else:
                self.transport.abort()
            return
        super().data_received(data)

    def _is_too_much(self, data: bytes) -> bool:
        """Return True if a message is too long, by what was received or announced of it; before admission, all of them together."""
        if self.close_sent:
            return False
        messages = self._scanner.messages
        self._scanner.feed(data)
        self._received += len(data)
        if not self._admitted:
            self._border.connections.holds(self, self._received)
        elif self._scanner.messages != messages:
            self._received = 0
        return self._received + self._scanner.missing > self._most

    # --- a peer that does not read --------------------------------------------------------------------------------

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
        self._part()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self._part()

    def _part(self) -> None:
        """Wait at the close for the peer to read what is in the buffer; not for ever."""
        if self._unread_timer is None and not self.disconnected:
            self._unread_timer = self.loop.call_later(
                self._border.limits.unread_seconds, self.transport.abort
            )
