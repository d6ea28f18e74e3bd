"""Answers of web servers, read by Chromium's rules: what Chromium takes passes, and what it refuses it gets as it came.

Chromium's parser is lenient (net/http/http_stream_parser.cc, http_util.cc, http_response_headers.cc), and a page that it shows must
not break because a stricter parser stands in between. So the bytes are kept; they are read only to find where the answer ends.

Two readers may disagree about that where an answer is not regular (RFC 9112). So behind an answer that is not regular, no other answer
travels on the same connection, on either side: a disagreement then gains nothing. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from ._body import Chunks, Counted

__all__ = ["Answer", "AnswerReader", "Body", "HeaderLine"]

HeaderLine = tuple[bytes, bytes, bytes]
"""Name in lower case (empty where Chromium skips the line), value, and the line as it came, its folded parts joined."""

Framing = Literal["none", "length", "chunked", "close"]

# kMaxHeaderBufSize of http_stream_parser.h.
_MAX_HEAD_BYTES: Final = 256 * 1024
# LocateStartOfStatusLine of http_util.cc: up to four other bytes may stand before "HTTP".
_START: Final = re.compile(rb".{0,4}?(?=http)", re.IGNORECASE | re.DOTALL)
_ENOUGH_FOR_START: Final = 8
_END_OF_HEAD: Final = re.compile(rb"\n\r?\n")
_VERSION: Final = re.compile(rb"http/([0-9])\.([0-9])", re.IGNORECASE)
_STATUS: Final = re.compile(rb"[^ ]* +([0-9]+)")
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BLANKS: Final = b" \t"
# What RFC 9112 allows, with the bytes of obs-text.
_REGULAR_HEAD: Final = re.compile(
    rb"HTTP/1\.[01] [0-9]{3}(?: [\t\x20-\x7e\x80-\xff]*)?\r\n"
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n"
)
_LENGTH: Final = re.compile(rb"[0-9]+")
_MAX_LENGTH: Final = 2**63 - 1
# CalculateResponseBodySize of http_stream_parser.cc.
_WITHOUT_BODY: Final = frozenset({204, 205, 304})


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of an answer.

    Attributes:
        status: HTTP status; 200 where the server has forgotten it.
        status_line: As it came, without its end.
        lines: The header lines.
        framing: How the end of the body is found.
        length: Bytes of the body where `framing` is "length".
        regular: True if every reader finds the same end.
        keep_alive: True if the server keeps its connection open.
    """

    status: int
    status_line: bytes
    lines: list[HeaderLine]
    framing: Framing
    length: int
    regular: bool
    keep_alive: bool

    @property
    def informational(self) -> bool:
        """True if another answer follows."""
        return self.status // 100 == 1

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of the header `name`, which is in lower case."""
        return [value for each, value, _ in self.lines if each == name]


@dataclass(frozen=True, slots=True)
class Body:
    """A piece of the body.

    Attributes:
        raw: As it came.
        payload: Without the framing of chunks.
    """

    raw: bytes
    payload: bytes


class AnswerReader:
    """Reads the answer to one request.

    Attributes:
        complete: True once the body has ended where its framing says.
        regular: True until something was read that another reader could read in another way.
        passing: True where the rest is for Chromium to judge, as it came: it is no HTTP, or none that Chromium takes.
    """

    def __init__(self, method: bytes) -> None:
        self.complete = False
        self.regular = True
        self.passing = False
        self._method = method
        self._buffer = bytearray()
        self._searched = 0
        self._body: Chunks | Counted | None = None

    @property
    def left(self) -> bytes:
        """Bytes that came behind the answer, or behind the head of a 101."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> list[Answer | Body]:
        """Return what `data` brings; empty `data` is the end of the connection."""
        if not data:
            return list(self._end())
        self._buffer += data
        found: list[Answer | Body] = []
        while self._body is None and not self.passing and (answer := self._head()) is not None:
            found.append(answer)
            if answer.status == 101:
                return found  # what follows is another protocol, for a client that has asked for it
        if self.passing or self._body is not None:
            found += self._piece()
        return found

    def pass_rest(self) -> list[Body]:
        """Return what is in the buffer, and from now on everything as it comes."""
        self.regular = False
        self.passing = True
        return self._piece()

    def _piece(self) -> list[Body]:
        data = bytes(self._buffer)
        self._buffer.clear()
        if self.passing:
            return [Body(data, data)] if data else []
        assert self._body is not None
        used, payload = self._body.feed(data)
        self.complete = self._body.complete
        self.regular = self.regular and self._body.regular
        if self._body.broken:
            # Chromium stops at the same place.
            self.regular, self.passing, used = False, True, len(data)
        self._buffer += data[used:]
        return [Body(data[:used], payload)] if used else []

    def _end(self) -> list[Body]:
        if self._body is not None:
            self.complete = self.complete or self._body.ends_by_closing
            return []
        # Over plain HTTP, Chromium shows what a head that broke off has said.
        return self.pass_rest() if self._buffer else []

    def _head(self) -> Answer | None:
        """Take the next head out of the buffer; None when it is not complete, or, with `passing` set, when it is none."""
        data = self._buffer
        start = _START.match(data)
        if start is None:
            self.passing = len(data) >= _ENOUGH_FOR_START
        else:
            end = _END_OF_HEAD.search(data, max(start.end(), self._searched - 2))
            self._searched = len(data)
            size = len(data) if end is None else end.end()
            if size >= _MAX_HEAD_BYTES or (end is not None and data.find(0, 0, size) >= 0):
                self.passing = True
            elif end is not None:
                head = bytes(data[:size])
                del data[:size]
                self._searched = 0
                return self._begin(_read_head(head, start.end(), self._method))
        self.regular = self.regular and not self.passing
        return None

    def _begin(self, answer: Answer) -> Answer:
        self.regular = self.regular and answer.regular
        if not answer.informational:
            self._body = Chunks() if answer.framing == "chunked" else Counted(_bytes_of(answer))
            self.complete = self._body.complete
        return answer


def _bytes_of(answer: Answer) -> int | None:
    if answer.framing == "close":
        return None
    return answer.length if answer.framing == "length" else 0


def _read_head(head: bytes, start: int, method: bytes) -> Answer:
    status_line, *rest = re.split(rb"[\r\n]+", head[start:].rstrip(b"\r\n"))
    lines = _unfolded(rest)
    version, status = _version(status_line), 200
    if (match := _STATUS.match(status_line)) is not None:
        status = int(match[1][:9])  # whatever has more digits is no status at all
    names = [name for name, _, _ in lines]
    chunked = version >= (1, 1) and b"chunked" in _options(lines, b"transfer-encoding")
    length = _length(lines)
    regular = _REGULAR_HEAD.fullmatch(head) is not None and status >= 100
    framing: Framing
    if status // 100 == 1 or status in _WITHOUT_BODY or method in {b"HEAD", b"CONNECT"}:
        framing = "none"
        # Other readers look for a body here (RFC 9112 section 6.3).
        announced = b"transfer-encoding" in names or length not in {0, None}
        regular = regular and not (announced and status in {204, 205}) and (status != 205 or length == 0)
    elif chunked:
        framing = "chunked"
        regular = regular and [value.lower() for name, value, _ in lines if name == b"transfer-encoding"] == [
            b"chunked"
        ]
        regular = regular and b"content-length" not in names
    else:
        framing = "close" if length is None else "length"
        given = [value for name, value, _ in lines if name == b"content-length"]
        regular = regular and b"transfer-encoding" not in names
        regular = regular and (not given or (len(given) == 1 and _LENGTH.fullmatch(given[0]) is not None))
        if len({piece for value in given for piece in _pieces(value)}) > 1:
            framing = "close"  # Chromium refuses it: ERR_RESPONSE_HEADERS_MULTIPLE_CONTENT_LENGTH
    return Answer(
        status,
        head[:start] + status_line,
        lines,
        framing,
        length or 0,
        regular,
        keep_alive=regular and version >= (1, 1) and b"close" not in _options(lines, b"connection"),
    )


def _version(status_line: bytes) -> tuple[int, int]:
    match = _VERSION.match(status_line)
    return (int(match[1]), int(match[2])) if match else (1, 0)


def _unfolded(segments: list[bytes]) -> list[HeaderLine]:
    """Join folded lines, as AssembleRawHeaders of http_util.cc does, and split names from values."""
    joined: list[bytes] = []
    continuable = False
    for segment in segments:
        if continuable and segment[:1] in (b" ", b"\t"):
            joined[-1] += b" " + segment.lstrip(_BLANKS)
            continue
        joined.append(segment)
        name, colon, _ = segment.partition(b":")
        # IsLineSegmentContinuable of http_util.cc; blanks before the colon make no difference.
        continuable = bool(colon and name) and name.lstrip(_BLANKS) == name
    return [_line(each) for each in joined]


def _line(text: bytes) -> HeaderLine:
    name, colon, value = text.partition(b":")
    spelled = name.rstrip(_BLANKS)
    if not colon or name[:1] in (b" ", b"\t") or not _TOKEN.fullmatch(spelled):
        return b"", b"", text
    return spelled.lower(), value.strip(_BLANKS), text


def _pieces(value: bytes) -> list[bytes]:
    return [piece.strip(_BLANKS) for piece in value.split(b",")]


def _options(lines: list[HeaderLine], name: bytes) -> set[bytes]:
    return {piece.lower() for each, value, _ in lines if each == name for piece in _pieces(value)}


def _length(lines: list[HeaderLine]) -> int | None:
    """Return the length that Chromium takes; None where the body ends with the connection."""
    first = next((value for name, value, _ in lines if name == b"content-length"), b"")
    digits = next((piece for piece in _pieces(first) if piece), b"")
    if not _LENGTH.fullmatch(digits) or len(digits.lstrip(b"0")) > len(str(_MAX_LENGTH)):
        return None
    return length if (length := int(digits)) <= _MAX_LENGTH else None
