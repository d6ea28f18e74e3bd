"""A transport without a connection: the test is the browser."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from cdpbridge.cdp import Closed, Receiver
from cdpbridge.errors import ConnectionClosed

__all__ = ["MemoryTransport"]


class MemoryTransport:
    """A `Transport` that keeps what is sent and delivers what it is given.

    Args:
        answer: Called with each command; what it returns is delivered at once. None: no answer.

    Attributes:
        sent: The messages given to `send`, decoded.
    """

    def __init__(self, answer: Callable[[dict[str, Any]], Mapping[str, Any] | None] | None = None) -> None:
        self.sent: list[dict[str, Any]] = []
        self._answer = answer
        self._receiver: Receiver | None = None
        self._early: list[bytes] = []
        self._closed: Closed | None = None

    # --- the transport --------------------------------------------------------------------------------------------

    def start(self, receiver: Receiver, /) -> None:
        self._receiver = receiver
        early, self._early = self._early, []
        for message in early:
            self.deliver(message)
        if self._closed is not None:
            receiver.lost(self._closed)

    def send(self, message: bytes, /) -> None:
        if self._closed is not None:
            raise ConnectionClosed(self._closed.code, self._closed.reason, sent=False)
        command = json.loads(message)
        self.sent.append(command)
        reply = self._answer(command) if self._answer is not None else None
        if reply is not None:
            self.deliver(reply)

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.lose(code, reason)

    def abort(self) -> None:
        self.lose(1006)

    # --- the test's side ------------------------------------------------------------------------------------------

    def deliver(self, message: Mapping[str, Any] | str | bytes) -> None:
        """Let the receiver get one message: a mapping is encoded, text and bytes go as they are."""
        if isinstance(message, Mapping):
            message = json.dumps(message, separators=(",", ":"))
        data = message.encode() if isinstance(message, str) else message
        if self._receiver is None:
            self._early.append(data)
        elif self._closed is None:
            try:
                self._receiver.received(data, 0, len(data))
            except UnicodeDecodeError as error:
                self.lose(1007, f"invalid UTF-8: {error.reason}")

    def event(self, method: str, params: Mapping[str, Any] | None = None, session_id: str = "") -> None:
        """Deliver an event in the shape Chromium gives it."""
        message: dict[str, Any] = {"method": method, "params": dict(params or {})}
        if session_id:
            message["sessionId"] = session_id
        self.deliver(message)

    def lose(self, code: int = 1006, reason: str = "", *, unsent: int = 0) -> None:
        """End the transport, as the other side would."""
        if self._closed is None:
            self._closed = Closed(code, reason, None, unsent)
            if self._receiver is not None:
                self._receiver.lost(self._closed)

    def pause(self) -> None:
        """Report that the other side does not read."""
        if self._receiver is not None:
            self._receiver.pause()

    def resume(self) -> None:
        """Report that the other side reads again."""
        if self._receiver is not None:
            self._receiver.resume()
