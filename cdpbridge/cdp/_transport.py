"""What carries CDP messages: four methods, four callbacks. Pure: no asyncio, no I/O."""

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
        reason: The reason that the peer gave, or we.
        cause: The error to raise instead of a plain `ConnectionClosed`, e.g. `MessageTooBig`.
        unsent: How many of the last messages given to `send` certainly never left.
    """

    code: int
    reason: str = ""
    cause: CDPError | None = None
    unsent: int = 0


class Receiver(Protocol):
    """The owner of a transport, which gets its messages."""

    def received(self, buffer: bytes | bytearray, start: int, end: int, /) -> None:
        """Take one message, `buffer[start:end]`, valid during the call only.

        A buffer that is all message (0 to its length) belongs to the receiver for good.

        Raises:
            UnicodeDecodeError: The message is no UTF-8; the transport ends with code 1007.
        """

    def pause(self) -> None:
        """Hold back what can wait: the peer reads too slowly."""

    def resume(self) -> None:
        """Send again, after `pause`."""

    def lost(self, closed: Closed, /) -> None:
        """Take note of the end. Called exactly once; nothing is received after it."""


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
        """Send the close frame; `Receiver.lost` follows when the peer has answered."""

    def abort(self) -> None:
        """Close the socket or pipe at once."""
