"""What carries CDP messages: four verbs out, four calls back. Pure: no asyncio, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from cdpbridge.errors import CDPError

__all__ = ["MAX_OUTGOING_BYTES", "Closed", "Receiver", "Transport"]

MAX_OUTGOING_BYTES: Final = 100 * 1024 * 1024
"""Largest message Chromium reads. A bigger one makes it cut the socket without a close frame.

Source: `kReceiveBufferSizeForDevTools` in Chromium's `content/browser/devtools`, for the socket and the pipe alike.
"""


@dataclass(frozen=True, slots=True)
class Closed:
    """How a transport ended.

    Attributes:
        code: WebSocket close code; 1006 when there was no close frame.
        reason: The peer's words, or ours.
        cause: The error to raise instead of a plain `ConnectionClosed`, e.g. `MessageTooBig`.
        unsent: How many of the last messages given to `send` certainly never left.
    """

    code: int
    reason: str = ""
    cause: CDPError | None = None
    unsent: int = 0


class Receiver(Protocol):
    """Who listens to a transport."""

    def received(self, buffer: bytes | bytearray, start: int, end: int, /) -> None:
        """One message, `buffer[start:end]`, valid during the call only.

        A buffer that is all message (0 to its length) belongs to the receiver for good.

        Raises:
            UnicodeDecodeError: The message is no UTF-8; the transport ends with code 1007.
        """

    def pause(self) -> None:
        """The peer reads too slowly: hold back what can wait."""

    def resume(self) -> None:
        """Room again after `pause`."""

    def lost(self, closed: Closed, /) -> None:
        """The end, told exactly once. Nothing is received after it."""


class Transport(Protocol):
    """A two-way stream of CDP messages."""

    def start(self, receiver: Receiver, /) -> None:
        """Begin to deliver; what came before is kept until then."""

    def send(self, message: bytes, /) -> None:
        """Queue one message; it leaves at the end of this loop turn.

        Raises:
            ConnectionClosed: The transport has ended.
        """

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye; `Receiver.lost` follows when the peer has answered."""

    def abort(self) -> None:
        """Let go of the socket or pipe at once."""
