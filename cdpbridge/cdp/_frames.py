"""One direction of a WebSocket, cut into what passes untouched and the few messages that are read. Pure.

Of a frame that passes, only the header and the first bytes of the payload are looked at. A message that is read is handed
over whole, as it came and unmasked; its fragments are collected. Frames: RFC 6455 section 5.2.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Final, NamedTuple

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without its C extension
    from websockets.utils import apply_mask

__all__ = ["Message", "Sieve", "Verdict", "close_frame", "text_frame"]

_FIN: Final = 0x80
_MASKED: Final = 0x80
_OPCODE: Final = 0x0F
_CONTROL: Final = 0x08
_CLOSE: Final = 0x08
_TEXT: Final = 0x01
_WHOLE_TEXT: Final = _FIN | _TEXT
# Size of a frame's head by its second byte: two bytes, the length's, and the mask's.
_HEAD_BYTES: Final = tuple(
    2 + {126: 2, 127: 8}.get(second & 0x7F, 0) + (4 if second & _MASKED else 0) for second in range(256)
)
# bytes of a browser's message that are judged
_LOOK: Final = 256
# bytes; no longer beginning is looked for
_SURE: Final = 32
# A larger message is no command or event that concerns files: it passes while it comes.
_LARGEST: Final = 16 * 1024 * 1024
# RFC 6455 section 5.5: a control frame carries 125 bytes, and a close frame's code takes two of them.
_MAX_REASON_BYTES: Final = 123


class Message(NamedTuple):
    """A message that is read.

    Attributes:
        raw: Its frames as they came.
        payload: Its text, unmasked.
    """

    raw: bytes
    payload: bytes


Verdict = Callable[[bytes, bool], bool | None]
"""Whether a message is read, by its first bytes and whether these are all; None: more of it has to come to tell."""


class Sieve:
    """Follows one direction through chunks that are cut anywhere.

    Args:
        masked: The direction is the client's. Its messages are judged as a whole, as the order of a command's keys is free.
        verdict: Which messages are read.
        passed: Takes bytes that pass.
        read: Takes messages that are read, in their places between the bytes. What it changes here holds from the next message on.
        usual: What a message of the other direction may begin with that passes without being judged, and what it must not.
        largest: Larger messages pass while they come, bytes.

    Attributes:
        everything: Every text message is read from now on.
        closed: A close frame has passed.
    """

    __slots__ = (
        "_collected",
        "_largest",
        "_masked",
        "_need",
        "_pass",
        "_passing",
        "_payloads",
        "_read",
        "_rest",
        "_size",
        "_skip",
        "_unusual",
        "_usual",
        "_verdict",
        "closed",
        "everything",
    )

    def __init__(
        self,
        *,
        masked: bool,
        verdict: Verdict,
        passed: Callable[[bytes], object],
        read: Callable[[Message], object],
        usual: tuple[tuple[bytes, ...], tuple[bytes, ...]] | None = None,
        largest: int = _LARGEST,
    ) -> None:
        self.everything = False
        self.closed = False
        self._masked = masked
        self._verdict = verdict
        self._pass = passed
        self._read = read
        self._usual, self._unusual = usual or ((), ())
        self._largest = largest
        self._skip = 0  # bytes of a passing frame that have not come yet
        self._passing = False  # within a fragmented message that passes
        self._rest = bytearray()  # of a frame that cannot be judged yet
        self._need = 0  # bytes of `_rest` before that is tried again
        self._collected: list[bytes] = []  # frames of a fragmented message
        self._payloads: list[bytes] = []
        self._size = 0

    @property
    def at_boundary(self) -> bool:
        """True if a data message of ours may follow what has passed."""
        return not self._skip and not self._passing

    @property
    def left(self) -> int:
        """Bytes of the passing frame that have not come yet."""
        return self._skip

    @property
    def holds(self) -> bool:
        """True if bytes were taken that were not handed on yet; what was handed on ends with a frame then."""
        return bool(self._rest or self._collected)

    def feed(self, data: bytes) -> None:
        """Take a chunk, and hand on what it completes."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return
            data = bytes(self._rest)
            self._rest.clear()
        size = len(data)
        start, at = 0, self._skip
        if at:
            self._skip = 0
        while True:
            at, body, end = self._next(data, at)
            if at >= size:
                if at > size:
                    self._skip = at - size
                if start < size:
                    self._pass(data[start:] if start else data)
                return
            read = self._is_read(data, at, body, end) if body <= size else None
            if read is None or (read and end > size):
                whole = read or self._masked or end - body < _LOOK
                self._need = (end if whole else body + _LOOK) - at
                break
            if read:  # or it stands between the fragments of a message that is
                if at > start:
                    self._pass(data[start:at])
                mask = data[body - 4 : body] if data[at + 1] & _MASKED else b""
                self._take(data[at:end], mask, data[body:end])
                start = end
            at = end
        if at > start:
            self._pass(data[start:at])
        self._rest += data[at:]

    def _next(self, data: bytes, at: int) -> tuple[int, int, int]:
        """Skip the frames that certainly pass, which are nearly all.

        Returns:
            Where the next frame, its payload, and what follows it begin. The payload begins behind the chunk when the head is
            not complete; so does the frame when the last one that was skipped is not.
        """
        size, masked, verdict = len(data), self._masked, self._verdict
        usual, unusual = self._usual, self._unusual
        plain = not self.everything and not self._collected
        while size - at >= 2:
            second = data[at + 1]
            body = at + _HEAD_BYTES[second]
            if body > size:
                return at, body, body
            length = second & 0x7F
            if length == 126:
                length = data[at + 2] << 8 | data[at + 3]
            elif length == 127:
                length = int.from_bytes(data[at + 2 : at + 10], "big")
            end = body + length
            if not plain or data[at] != _WHOLE_TEXT:
                return at, body, end
            if masked:
                if end > size or length > self._largest:
                    return at, body, end
                if verdict(apply_mask(data[body:end], data[body - 4 : body]), True):
                    return at, body, end
            elif not (
                size - body >= _SURE <= length
                and data.startswith(usual, body)
                and not data.startswith(unusual, body)
            ):
                return at, body, end
            at = end
        return at, at + 2, at + 2

    def _is_read(self, data: bytes, at: int, body: int, end: int) -> bool | None:
        """Return True if a frame is read, False if it passes, None if more of it has to come to tell."""
        first, length, whole = data[at], end - body, end <= len(data)
        known = min(end, len(data))
        if first & _CONTROL:
            if first & _OPCODE == _CLOSE:
                self.closed = self.closed or whole
            return bool(self._collected)
        if not first & _OPCODE:  # a continuation
            if self._collected:
                return True
            self._passing = not first & _FIN
            return False
        read: bool | None
        if length > self._largest or first & _OPCODE != _TEXT:
            read = False
        elif self._masked:
            if not whole:
                return None
            read = (
                self.everything
                or not first & _FIN
                or self._verdict(apply_mask(data[body:known], data[body - 4 : body]), True) is True
            )
        else:
            all_of_it = whole and length <= _LOOK and bool(first & _FIN)
            read = self.everything or self._verdict(data[body : min(known, body + _LOOK)], all_of_it)
            if not first & _FIN:
                read = read is not False
            elif read is None and whole:
                read = True
        if read is False and not first & _FIN:
            self._passing = True
        return read

    def _take(self, raw: bytes, mask: bytes, payload: bytes) -> None:
        first = raw[0]
        if first & _CONTROL:
            self._pass(raw)
            return
        if mask:
            payload = apply_mask(payload, mask)
        if first & _FIN and not self._collected:
            self._read(Message(raw, payload))
            return
        self._collected.append(raw)
        self._payloads.append(payload)
        self._size += len(payload)
        if first & _FIN or self._size > self._largest:
            whole = Message(b"".join(self._collected), b"".join(self._payloads))
            self._passing = not first & _FIN
            self._collected, self._payloads, self._size = [], [], 0
            if first & _FIN:
                self._read(whole)
            else:
                self._pass(whole.raw)


def text_frame(payload: bytes, *, masked: bool) -> bytes:
    """Encode a whole text message in one frame."""
    bit = _MASKED if masked else 0
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", _FIN | _TEXT, bit | length)
    elif length < 65536:
        head = struct.pack("!BBH", _FIN | _TEXT, bit | 126, length)
    else:
        head = struct.pack("!BBQ", _FIN | _TEXT, bit | 127, length)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + apply_mask(payload, mask)


def close_frame(code: int, reason: str, *, masked: bool) -> bytes:
    """Encode a close frame; a reason that is too long is cut between two characters."""
    text = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore").encode()
    payload = struct.pack("!H", code) + text
    if not masked:
        return struct.pack("!BB", _FIN | _CLOSE, len(payload)) + payload
    mask = os.urandom(4)
    return struct.pack("!BB", _FIN | _CLOSE, _MASKED | len(payload)) + mask + apply_mask(payload, mask)
