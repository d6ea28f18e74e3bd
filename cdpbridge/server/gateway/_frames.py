"""Frame boundaries of one direction of a WebSocket (RFC 6455 section 5.2), and the few frames of our own.

Only the first 2 to 10 bytes of each frame are looked at; a mask counts as payload here.
"""

from __future__ import annotations

import os
import struct
from typing import Final

__all__ = ["PING", "FrameScanner", "close_frame", "masked_close_frame"]

PING: Final = b"\x89\x00"

_FIN: Final = 0x80
_MASKED: Final = 0x80
_CONTROL: Final = 0x08
_CLOSE: Final = 0x08
_OPCODE: Final = 0x0F
# RFC 6455 section 5.2: bytes of a frame's head without its mask, by the 7 bits of its length.
_HEAD_BYTES: Final = bytes([2] * 126 + [4, 10])
# RFC 6455 section 5.5: a control frame carries 125 bytes, and a close frame's code takes two of them.
_MAX_REASON_BYTES: Final = 123


class FrameScanner:
    """Follows the frames of one direction through chunks cut anywhere.

    Attributes:
        messages: Data messages begun so far, counted by the frame that ends each.
        closed: A close frame has passed entirely.
    """

    __slots__ = ("_closing", "_head", "_left", "closed", "messages")

    def __init__(self) -> None:
        self.messages = 0
        self.closed = False
        self._left = 0  # bytes of the running frame that have not come yet
        self._head = b""  # a header that was cut by the end of a chunk
        self._closing = False  # the running frame is a close frame

    @property
    def at_boundary(self) -> bool:
        """True if a frame of ours may follow."""
        return not self._left and not self._head

    @property
    def missing(self) -> int:
        """Bytes of the running frame that have not come yet, by its announced length."""
        return self._left

    def feed(self, data: bytes) -> None:
        """Follow a whole chunk."""
        self._walk(data, one=False)

    def feed_one(self, data: bytes) -> int:
        """Follow the running frame only; how many bytes of `data` belong to it."""
        return self._walk(data, one=True)

    def _walk(self, data: bytes, *, one: bool) -> int:
        known = len(self._head)
        if known:
            data = self._head + data
            self._head = b""
        size = len(data)
        at = self._left
        if at:
            if at > size:
                self._left = at - size
                return size
            self._left = 0
            self.closed = self._closing
            if one:
                return at
        while at < size:
            first, second = data[at], data[at + 1] if at + 1 < size else 0
            length = second & 0x7F
            body = at + _HEAD_BYTES[length]
            if body > size:
                self._head = data[at:]
                return size - known
            if length >= 126:
                length = int.from_bytes(data[at + 2 : body], "big")
            at = body + length + (4 if second & _MASKED else 0)
            if first & _CONTROL:
                if first & _OPCODE == _CLOSE:
                    self._closing = True
                    self.closed = self.closed or at <= size
            elif first & _FIN:
                self.messages += 1
            if one:
                break
        self._left = max(at - size, 0)
        return min(at, size) - known


def close_frame(code: int, reason: str) -> bytes:
    """Return a server's close frame; a reason that is too long is cut between two characters."""
    text = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore").encode()
    return struct.pack("!BBH", _FIN | _CLOSE, 2 + len(text), code) + text


def masked_close_frame(code: int) -> bytes:
    """Return a client's close frame without a reason."""
    mask = os.urandom(4)
    payload = bytes(byte ^ key for byte, key in zip(struct.pack("!H", code), mask, strict=False))
    return struct.pack("!BB", _FIN | _CLOSE, _MASKED | 2) + mask + payload
