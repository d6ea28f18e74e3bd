"""What kind of document a response has, from its head and first bytes. No browser, no Scrapy."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable
from enum import Enum
from typing import Final
from xml.parsers import expat

__all__ = [
    "HTML",
    "Header",
    "Kind",
    "cut_off",
    "declared_length",
    "ends_early",
    "kind_of",
    "looks_like_html",
    "without_transfer",
]

Header = tuple[str, bytes]

HTML: Final = frozenset({"text/html", "application/xhtml+xml"})
"""Types of which a page is built."""
# Chromium's net/base/mime_sniffer.cc, IsUnknownMimeType: it looks into the body.
_UNKNOWN: Final = frozenset({"", "unknown/unknown", "application/unknown", "*/*"})
# What a browser shows in its window, at least when it is built with everything; the rest it saves.
_SHOWN: Final = re.compile(
    r"(text|image|audio|video|font)/.+|application/(pdf|json|xml|javascript|x-javascript|ecmascript|.+\+(json|xml))"
)
_SAVED_TEXT: Final = frozenset({"text/calendar", "text/csv", "text/vcard", "text/x-vcard"})
# What Chromium takes for the beginning of HTML, each followed by a space or `>`.
_TAGS: Final = re.compile(
    rb"[\t\n\f\r ]*(\xef\xbb\xbf)?[\t\n\f\r ]*(<!--|<(!doctype html|script|html|head|iframe|h1|div|font|table|a|style|title|b|body|br|p)[ >\t\n\f\r])",
    re.IGNORECASE,
)
_OF_A_WORD: Final = string.ascii_letters + string.digits + "+-."
_LONGEST_WORD: Final = 400  # signs of a number: any double has fewer
_PARSED_AT_MOST: Final = 4 * 1024 * 1024  # bytes: what is parsed takes several times its size
_PIECE: Final = 256 * 1024
_CLOSING: Final = {b"{": b"}", b"[": b"]"}
_INSIDE: Final = frozenset(bytes([each]) for each in b'"\\,:[]{}' + _OF_A_WORD.encode())
# Expat's codes for what is well-formed up to its end: no root or an open one, an open token, character or section.
_ENDS: Final = frozenset(
    expat.errors.codes[each]
    for each in (
        expat.errors.XML_ERROR_NO_ELEMENTS,
        expat.errors.XML_ERROR_UNCLOSED_TOKEN,
        expat.errors.XML_ERROR_PARTIAL_CHAR,
        expat.errors.XML_ERROR_UNCLOSED_CDATA_SECTION,
    )
)
_OF_THE_TRANSFER: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})
"""They describe the bytes that came, not the body that is given on."""


class Kind(Enum):
    """What becomes of a response in a browser: a page, a viewer, a file; `UNKNOWN` depends on its body."""

    PAGE = "page"
    SHOWN = "shown"
    SAVED = "saved"
    UNKNOWN = "unknown"


def kind_of(headers: Iterable[Header]) -> Kind:
    """Return what becomes of a response with these headers."""
    given = list(headers)
    for name, value in given:
        if name.lower() == "content-disposition":
            disposition = value.partition(b";")[0].strip().lower()
            if b"=" not in disposition and disposition not in {b"", b"inline"}:
                return Kind.SAVED
    media_type = _media_type(given)
    if media_type in HTML:
        return Kind.PAGE
    sniffed = not any(
        name.lower() == "x-content-type-options" and value.strip().lower() == b"nosniff"
        for name, value in given
    )
    if media_type in _UNKNOWN:
        return Kind.UNKNOWN if sniffed else Kind.SHOWN
    return Kind.SHOWN if _SHOWN.fullmatch(media_type) and media_type not in _SAVED_TEXT else Kind.SAVED


def _media_type(headers: Iterable[Header]) -> str:
    """Return the type in lower case; of several the last, as in Chromium."""
    found = ""
    for name, value in headers:
        if name.lower() == "content-type":
            for each in value.decode("latin-1").split(","):
                one = each.partition(";")[0].strip().lower()
                if "/" in one and one != "*/*":
                    found = one
    return found


def looks_like_html(body: bytes) -> bool:
    """Return True if a browser takes a body without a type for HTML."""
    return _TAGS.match(body[:512]) is not None


def declared_length(headers: Iterable[Header]) -> int | None:
    """Return the `Content-Length` of a response, in bytes; None without a valid one."""
    for name, value in headers:
        if name.lower() == "content-length" and value.strip().isdigit():
            return int(value)
    return None


def cut_off(headers: Iterable[Header], size: int) -> bool:
    """Return True if a body of `size` bytes is shorter than its head says."""
    length = _exact_length(headers)
    return length is not None and size < length


def _exact_length(headers: Iterable[Header]) -> int | None:
    """Return how long the body is that is given on; None for one that came compressed or in chunks."""
    given = list(headers)
    for name, value in given:
        if name.lower() in {"content-encoding", "transfer-encoding"} and value.strip().lower() != b"identity":
            return None
    return declared_length(given)


def ends_early(headers: Iterable[Header], body: bytes) -> bool:
    """Return True if a body of unknown length stops in the middle of its JSON or XML.

    Chromium gives the bytes that came before the connection broke, or before the compressed data were no longer readable, and
    does not say that there should have been more.
    """
    given = list(headers)
    if _exact_length(given) is not None or not body.strip():
        return False
    media_type = _media_type(given)
    if media_type.endswith(("/json", "+json")):
        return _ends_in_json(body)
    return media_type.endswith(("/xml", "+xml")) and _ends_in_xml(body)


def _ends_in_json(body: bytes) -> bool:
    if len(body) > _PARSED_AT_MOST:
        opening, closing = body[:_LONGEST_WORD].lstrip()[:1], body[-_LONGEST_WORD:].rstrip()[-1:]
        return opening in _CLOSING and closing in _INSIDE and closing != _CLOSING[opening]
    try:
        json.loads(body)
    except json.JSONDecodeError as error:
        # The last number or word may be cut as well.
        end = error.doc[-_LONGEST_WORD:]
        start = len(error.doc) - len(end) + len(end.rstrip().rstrip(_OF_A_WORD))
        return error.msg.startswith("Unterminated string") or 0 < start <= error.pos
    except (UnicodeDecodeError, RecursionError):
        return False
    return False


def _ends_in_xml(body: bytes) -> bool:
    parser, view = expat.ParserCreate(), memoryview(body)
    try:
        # In pieces: nothing else runs meanwhile.
        for start in range(0, len(body), _PIECE):
            parser.Parse(view[start : start + _PIECE], start + _PIECE >= len(body))
    except expat.ExpatError as error:
        return error.code in _ENDS
    return False


def without_transfer(headers: Iterable[Header]) -> list[Header]:
    """Return the headers that describe the body as it is given on."""
    return [(name, value) for name, value in headers if name.lower() not in _OF_THE_TRANSFER]
