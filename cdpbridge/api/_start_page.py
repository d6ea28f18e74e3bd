"""What a `startUrl` stands for. Pure."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

__all__ = ["MAX_START_URL", "start_page"]

MAX_START_URL: Final = 10_000
"""Characters of a `startUrl`; the reference has no bound."""

_BLANK: Final = "about:blank"
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_HOST: Final = re.compile(r"[\w-]+(\.[\w-]+)*\.?")
_BAD: Final = re.compile(r"[\x00-\x20\x7f\\]")
# Names of a private network, where a certificate is the exception (RFC 6761, RFC 6762, RFC 8375, ICANN's `internal`).
_PRIVATE: Final = (".localhost", ".local", ".test", ".internal", ".lan", ".home.arpa")
_HTTP_PORTS: Final = {80, 8000, 8080}


def start_page(value: str) -> str:
    """Return the address that a browser opens for a `startUrl`.

    An address without a scheme means `https://`, or `http://` where that is usual: IP addresses, `localhost` and other
    names of private networks, names without a dot, ports 80, 8000 and 8080.

    Raises:
        ValueError: It is neither a web page nor `about:blank`. `file:` and its like would show the server's own files.
    """
    text = value.strip()
    if text.lower() == _BLANK:
        return _BLANK
    scheme = _SCHEME.match(text)
    if scheme is None:
        return _with_scheme(text.removeprefix("//"))
    try:
        parts = urlsplit(text)
        fine = scheme[1].lower() in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine or len(text) > MAX_START_URL or _BAD.search(parts.netloc):
        raise ValueError(_problem())
    return text


def _with_scheme(text: str) -> str:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname or "", parts.port
    except ValueError:  # e.g. `javascript:...`, which is no port
        raise ValueError(_problem()) from None
    literal = _is_address(host)
    bare = not literal and "." not in host.rstrip(".") and port is None and host != "localhost"
    odd = "@" in parts.netloc or parts.netloc.endswith(":") or _BAD.search(parts.netloc) is not None
    if odd or bare or not (literal or _HOST.fullmatch(host)) or len(text) > MAX_START_URL:
        raise ValueError(_problem())
    plain = literal or "." not in host or port in _HTTP_PORTS or host.rstrip(".").endswith(_PRIVATE)
    return f"{'http' if plain else 'https'}://{text}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _problem() -> str:
    return "not the address of a web page; write http(s)://..., example.com, or about:blank"
