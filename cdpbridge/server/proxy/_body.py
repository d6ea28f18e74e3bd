"""Where the body of an answer ends, by Chromium's rules (net/http/http_stream_parser.cc, http_chunked_decoder.cc). Pure."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["Chunks", "Counted"]

# kMaxLineBufLen of http_chunked_decoder.h.
_MAX_LINE_BYTES: Final = 16384
# ParseChunkSize of http_chunked_decoder.cc: known sites pad the size with blanks.
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]+) *")
_MAX_SIZE: Final = 2**63 - 1
# What RFC 9112 section 7.1 allows.
_REGULAR_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,16}(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_REGULAR_TRAILER: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n")


class Counted:
    """A body of so many bytes; None for one that ends with the connection."""

    regular: Final = True
    broken: Final = False

    def __init__(self, left: int | None) -> None:
        self._left = left

    @property
    def complete(self) -> bool:
        """True if nothing is missing."""
        return self._left == 0

    @property
    def ends_by_closing(self) -> bool:
        """True if the end of the connection is the end of the body."""
        return self._left is None

    def feed(self, data: bytes) -> tuple[int, bytes]:
        """Return how many bytes of `data` belong to the body, and these without framing."""
        if self._left is None:
            return len(data), data
        used = min(len(data), self._left)
        self._left -= used
        return used, data[:used]


class Chunks:
    """A body in chunks.

    Attributes:
        complete: True behind the empty line at its end.
        regular: False once a line was not as RFC 9112 wants it.
        broken: True where Chromium stops with an error.
    """

    ends_by_closing: Final = False

    def __init__(self) -> None:
        self.complete = False
        self.regular = True
        self.broken = False
        self._line = bytearray()
        self._left = 0
        self._after_data = False
        self._last = False

    def feed(self, data: bytes) -> tuple[int, bytes]:
        """See `Counted.feed`."""
        payload: list[bytes] = []
        at = 0
        while at < len(data) and not (self.complete or self.broken):
            if self._left:
                piece = data[at : at + self._left]
                payload.append(piece)
                self._left -= len(piece)
                self._after_data = not self._left
                at += len(piece)
                continue
            end = data.find(b"\n", at) + 1
            self._line += data[at : end or len(data)]
            at = end or len(data)
            if len(self._line) > _MAX_LINE_BYTES:
                self.broken = True
            elif end:
                self._read(bytes(self._line))
                self._line.clear()
        return at, b"".join(payload)

    def _read(self, line: bytes) -> None:
        text = line.removesuffix(b"\n").removesuffix(b"\r")
        if self._last:
            self.complete = not text
            self._expect(line == b"\r\n" or _REGULAR_TRAILER.fullmatch(line) is not None)
        elif self._after_data:
            self._after_data = False
            self.broken = bool(text)
            self._expect(line == b"\r\n")
        else:
            size = _SIZE.fullmatch(text.partition(b";")[0])
            self._left = int(size[1], 16) if size else 0
            self.broken = size is None or self._left > _MAX_SIZE
            self._last = not self._left
            self._expect(_REGULAR_SIZE.fullmatch(line) is not None)

    def _expect(self, regular: bool) -> None:  # a condition, spelled where it is called
        self.regular = self.regular and regular
