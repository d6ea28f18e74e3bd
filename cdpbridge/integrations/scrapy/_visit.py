"""A visit and what it brought, as values, and the reading of headers and cookies on the way. No browser, no Scrapy."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from cdpbridge.cdp._http_credentials import HttpCredentials, with_credentials
from cdpbridge.integrations.scrapy._options import PageOptions
from cdpbridge.protocol import Network

__all__ = ["Rendered", "Visit", "cookie_pairs", "header_list", "set_cookie_lines"]

Headers = list[tuple[str, str]]

_OF_THE_TRANSFER: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})
"""They describe the bytes that came, not the body that is given on."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A page to render.

    Attributes:
        headers: Of the main request, besides the browser's own or in their place.
        cookies: That the browser shall have for `url`.
        user_agent: None for the browser's own.
        keep_cookies: Whether to ask the browser for the cookies it has at the end.
    """

    url: str
    options: PageOptions
    method: str = "GET"
    body: bytes = b""
    headers: Headers = field(default_factory=list)
    cookies: Headers = field(default_factory=list)
    referrer: str | None = None
    user_agent: str | None = None
    keep_cookies: bool = True

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
        headers: Of its response, as they came, except for those that describe the transfer.
        html: Whether `body` is the rendered document, in UTF-8, and not what the server sent.
        redirects: Address and status of each hop before.
        blocked: Requests that were not let out.
    """

    url: str
    status: int
    headers: Headers
    body: bytes
    html: bool
    ip_address: str | None = None
    protocol: str | None = None
    redirects: list[tuple[str, int]] = field(default_factory=list)
    script: Any = None
    screenshot: bytes | None = None
    blocked: int = 0


def cookie_pairs(header: str) -> Headers:
    """Return the names and values in a `Cookie` header."""
    pairs = (each.strip().partition("=") for each in header.split(";"))
    return [(name.strip(), value.strip()) for name, equals, value in pairs if equals]


def header_list(headers: Mapping[str, Any] | None) -> Headers:
    """Return Chrome's headers, where repeated ones are one value with line breaks, as a list."""
    return [
        (name, value)
        for name, joined in (headers or {}).items()
        if name.lower() not in _OF_THE_TRANSFER
        for value in str(joined).split("\n")
    ]


def set_cookie_lines(
    headers: Headers, cookies: Iterable[Network.Cookie], *, sent: Headers, requested: str, final: str
) -> Headers:
    """Return the `headers` with a `Set-Cookie` for each cookie that came otherwise: from a redirect, or a script.

    Scrapy puts cookies in its jar as if they came from the address it requested. When the browser ended at another host, a
    cookie without a domain is given one, so that the jar does not take it for the wrong host's.
    """
    host, asked = urlsplit(final).hostname or "", urlsplit(requested).hostname or ""
    known = set()
    lines: Headers = []
    for name, value in headers:
        line = value
        if name.lower() == "set-cookie":
            known.add(value.partition("=")[0].strip())
            if host != asked and "domain=" not in value.lower():
                line = f"{value}; Domain={host}"
        lines.append((name, line))
    for cookie in cookies:
        host_only = not cookie.domain.startswith(".")
        if cookie.name in known or (cookie.name, cookie.value) in sent:
            continue
        if host_only and cookie.domain != asked:
            continue
        lines.append(("Set-Cookie", _set_cookie(cookie, host_only=host_only)))
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
