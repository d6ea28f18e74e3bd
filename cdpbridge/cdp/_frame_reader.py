"""The read buffer of a WebSocket client, and the messages in it. Pure: no asyncio, no I/O.

Nearly all that a browser sends is whole, unfragmented, unmasked text frames. They are cut straight out of the buffer. Any other
frame is left to a full implementation of RFC 6455, which `for_core` asks for. Both read from one frame boundary to the next, so
they take turns freely. Frames: RFC 6455 section 5.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["LARGEST_BUFFER", "FrameReader"]

LARGEST_BUFFER: Final = 256 * 1024
_FIRST_BUFFER: Final = 4 * 1024
# FIN and opcode 1, no reserved bit
_TEXT: Final = 0x81
_FIN: Final = 0x80
_OPCODE: Final = 0x0F
_LAST_DATA_OPCODE: Final = 2
_NO_FRAME: Final = -1
_NOTHING: Final = memoryview(b"")
# Stands for the length of a masked frame, which is wrong for a server, as the core will say; no frame is that long.
_MASKED_LENGTH: Final = 1 << 64
# Bytes behind the buffer, so that the longest head can be read before it is known to be complete.
_SPARE: Final = 10


class FrameReader:
    """Bytes that were received and are not consumed.

    Args:
        limit: Larger messages are left to the core, which refuses them, bytes.

    Attributes:
        filled: Number of unconsumed bytes, from the buffer's start.
        full: The last read has filled the buffer, and could have been larger.
        for_core: Bytes of the present frame still to be fed to the core.
    """

    __slots__ = (
        "_buffer",
        "_fragmented",
        "_large",
        "_large_filled",
        "_large_view",
        "_limit",
        "_mark",
        "_size",
        "_view",
        "filled",
        "for_core",
        "full",
    )

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._buffer = bytearray()
        self._view = _NOTHING
        self.filled = 0
        self.full = False
        self.for_core = 0
        self._fragmented = False
        # a message that outgrew the buffer is read into one of its own
        self._large: bytearray | None = None
        self._large_view = _NOTHING
        self._large_filled = 0
        self._mark: tuple[bytearray, int, bytes] | None = None
        self._resize(_FIRST_BUFFER)

    # --- bytes in -------------------------------------------------------------------------------------------------

    def get_buffer(self) -> memoryview:
        """Return where the next bytes go."""
        if self._large is not None:
            return self._large_view[self._large_filled :]
        return self._view[self.filled :]

    def add(self, size: int) -> bytearray | None:
        """Count bytes that were written there; return the large message that they complete."""
        large = self._large
        if large is None:
            self.filled = filled = self.filled + size
            self.full = filled == self._size
            return None
        self.full = False
        self._large_filled += size
        if self._large_filled < len(large):
            return None
        self._large = None
        self._large_view = _NOTHING
        return large

    @property
    def at_limit(self) -> bool:
        """True if the buffer has its largest size."""
        return self._size >= LARGEST_BUFFER

    def grow(self) -> None:
        """Double the buffer."""
        self._resize(2 * self._size)

    def _resize(self, size: int) -> None:
        buffer = bytearray(size + _SPARE)
        view = memoryview(buffer)[:size]
        view[: self.filled] = self._view[: self.filled]
        self._buffer, self._view, self._size = buffer, view, size

    # --- messages out ---------------------------------------------------------------------------------------------

    def read(self, received: Callable[[bytes | bytearray, int, int], None]) -> bool:
        """Deliver the whole text frames at the start of the buffer, up to the first frame that is another.

        Returns:
            True if that frame is for the core; False if more bytes are needed.
        """
        # Nearly every message ends in this loop, and 0.4 us of it are saved by looking at nothing else. Nothing that a handler
        # may do ends it: what it closes or aborts is reported in a later turn.
        buffer, filled, limit = self._buffer, self.filled, self._limit
        text = _NO_FRAME if self._fragmented else _TEXT
        at = 0
        try:
            while filled - at >= 2:
                length = buffer[at + 1]
                if length < 126:
                    body = at + 2
                elif length == 126:
                    length = buffer[at + 2] << 8 | buffer[at + 3]
                    body = at + 4
                else:
                    body, length = _long_head(buffer, at)
                end = body + length
                if end > filled or buffer[at] != text or length > limit:
                    return self._other(at, body, end)
                # before the call: a handler may raise SystemExit through us
                at = end
                received(buffer, body, end)
            return False
        finally:
            if at:
                # what an unfinished message or the core is to have moves to the start, as in `drop`
                rest = self.filled - at
                if rest > 0:
                    buffer[:rest] = buffer[at:filled]
                    self.filled = rest
                else:
                    self.filled = 0

    def _other(self, at: int, body: int, end: int) -> bool:
        """Decide about a frame that is no whole text."""
        buffer, filled = self._buffer, self.filled
        if body > filled:
            return False
        first = buffer[at]
        if end - body == _MASKED_LENGTH:
            end = body
        elif first == _TEXT and not self._fragmented and end - body <= self._limit:
            if end - at > self._size:
                self._begin_large(body, end)
            return False
        if first & _OPCODE <= _LAST_DATA_OPCODE:
            self._fragmented = first < _FIN
        self.for_core = end - at
        return True

    def _begin_large(self, body: int, end: int) -> None:
        self._large = bytearray(end - body)
        self._large_view = memoryview(self._large)
        self._large_filled = self.filled - body
        self._large_view[: self._large_filled] = self._view[body : self.filled]
        # all of the buffer is taken
        self.filled = 0

    def take(self, size: int) -> bytes:
        """Remove and return the first bytes, for the core."""
        data = bytes(self._view[: min(size, self.filled)])
        self.drop(len(data))
        return data

    def peek(self) -> bytes:
        """Return all bytes, which stay."""
        return bytes(self._view[: self.filled])

    def drop(self, size: int) -> None:
        """Remove the first bytes."""
        rest = self.filled - size
        if size and rest > 0:
            self._buffer[:rest] = self._buffer[size : self.filled]
        self.filled = max(rest, 0)

    # --- signs of life --------------------------------------------------------------------------------------------

    def leave_mark(self, mark: bytes) -> None:
        """Write random bytes where the next ones from the socket will go, so that reading itself has nothing to note."""
        buffer, at, size = self._place()
        mark = mark[: size - at]
        buffer[at : at + len(mark)] = mark
        self._mark = (buffer, at, mark)

    def mark_overwritten(self) -> bool:
        """Return True if bytes have come since the mark was left."""
        if self._mark is None:
            return False
        buffer, at, mark = self._mark
        into, filled, _ = self._place()
        return into is not buffer or filled != at or buffer[at : at + len(mark)] != mark

    def _place(self) -> tuple[bytearray, int, int]:
        if self._large is not None:
            return self._large, self._large_filled, len(self._large)
        return self._buffer, self.filled, self._size


def _long_head(buffer: bytearray, at: int) -> tuple[int, int]:
    """Return where the body of a frame begins, and its length, when the head has more than a 16-bit length."""
    if buffer[at + 1] == 127:
        body = at + 10
        return body, int.from_bytes(buffer[at + 2 : body], "big")
    return at + 2, _MASKED_LENGTH
