"""A visit and what it brought, as values, and the reading of headers and cookies on the way. No browser, no Scrapy."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from cdpbridge.cdp._http_credentials import HttpCredentials, with_credentials
from cdpbridge.integrations.scrapy._documents import Header, without_transfer
from cdpbridge.integrations.scrapy._intake import Limits
from cdpbridge.integrations.scrapy._options import PageOptions
from cdpbridge.protocol import Network

__all__ = ["Rendered", "Visit", "cookie_pairs", "header_list", "set_cookie_lines", "utf8"]

Pairs = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Visit:
    """A page to render.

    Attributes:
        headers: Of the main request, besides the browser's own or in their place.
        cookies: That the browser shall have for `url`.
        user_agent: None for the browser's own.
        keep_cookies: Whether to ask the browser for the cookies it has at the end.
        limits: Of what is no page.
    """

    url: str
    options: PageOptions
    method: str = "GET"
    body: bytes = b""
    headers: Pairs = field(default_factory=list)
    cookies: Pairs = field(default_factory=list)
    referrer: str | None = None
    user_agent: str | None = None
    keep_cookies: bool = True
    limits: Limits = field(default_factory=Limits)

    @property
    def http_credentials(self) -> list[HttpCredentials]:
        """Those of its `Authorization` header, which Scrapy makes of `http_user`, or of its address; for the origin of `url`."""
        _, found = with_credentials(self.url, None)
        for name, value in self.headers:
            scheme, _, encoded = value.partition(" ")
            if name.lower() == "authorization" and scheme.lower() == "basic":
                with suppress(ValueError):  # the header goes as it is all the same
                    user, _, password = (
                        base64.b64decode(encoded, validate=True).decode("latin-1").partition(":")
                    )
                    return with_credentials(self.url, HttpCredentials(user, password))[1]
        return found

    @property
    def repeatable(self) -> bool:
        """True if it may be repeated without asking (RFC 9110, 9.2.2)."""
        return self.method in {"GET", "HEAD", "OPTIONS"}


@dataclass(slots=True)
class Rendered:
    """What a visit brought.

    Attributes:
        url: Of the document in the end, after redirects, also by scripts.
        headers: Of its response, byte by byte, except for those that describe the transfer.
        html: Whether `body` is the rendered document, in UTF-8, and not what the server sent.
        redirects: Address and status of each hop before.
        blocked: Requests that were not let out.
        cut_off: The body ended before its end.
    """

    url: str
    status: int
    headers: list[Header]
    body: bytes
    html: bool
    ip_address: str | None = None
    protocol: str | None = None
    redirects: list[tuple[str, int]] = field(default_factory=list)
    script: Any = None
    screenshot: bytes | None = None
    blocked: int = 0
    cut_off: bool = False


def cookie_pairs(header: str) -> Pairs:
    """Return the names and values in a `Cookie` header."""
    pairs = (each.strip().partition("=") for each in header.split(";"))
    return [(name.strip(), value.strip()) for name, equals, value in pairs if equals]


def utf8(text: str) -> bytes:
    """Return text in UTF-8; half of a surrogate pair, which a script can leave in a document, becomes U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def header_list(headers: Mapping[str, Any] | None) -> list[Header]:
    """Return Chrome's headers, where repeated ones are one value with line breaks, as a list.

    Each byte of a value is a character of Chrome's text.
    """
    return without_transfer(
        (name, _bytes(value)) for name, joined in (headers or {}).items() for value in str(joined).split("\n")
    )


def _bytes(value: str) -> bytes:
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:  # not from the network, e.g. of a service worker
        return utf8(value)


def set_cookie_lines(
    headers: list[Header], cookies: Iterable[Network.Cookie], *, sent: Pairs, requested: str, final: str
) -> list[Header]:
    """Return the `headers` with a `Set-Cookie` for each cookie that came otherwise: from a redirect, or a script.

    Scrapy puts cookies in its jar as if they came from the address it requested. When the browser ended at another host, a
    cookie without a domain is given one, so that the jar does not take it for the wrong host's.
    """
    host, asked = urlsplit(final).hostname or "", urlsplit(requested).hostname or ""
    known = set()
    lines: list[Header] = []
    for name, value in headers:
        line = value
        if name.lower() == "set-cookie":
            known.add(value.partition(b"=")[0].strip().decode("utf-8", "replace"))
            if host != asked and b"domain=" not in value.lower():
                line = value + f"; Domain={host}".encode()
        lines.append((name, line))
    for cookie in cookies:
        host_only = not cookie.domain.startswith(".")
        if cookie.name in known or (cookie.name, cookie.value) in sent:
            continue
        if host_only and cookie.domain != asked:
            continue
        lines.append(("Set-Cookie", _set_cookie(cookie, host_only=host_only).encode()))
    return lines


def _set_cookie(cookie: Network.Cookie, *, host_only: bool) -> str:
    parts = [f"{cookie.name}={cookie.value}", f"Path={cookie.path}"]
    if not host_only:
        parts.append(f"Domain={cookie.domain}")
    if not cookie.session:
        parts.append(
            f"Expires={datetime.fromtimestamp(cookie.expires, UTC).strftime('%a, %d %b %Y %H:%M:%S GMT')}"
        )
    if cookie.secure:
        parts.append("Secure")
    if cookie.http_only:
        parts.append("HttpOnly")
    return "; ".join(parts)
