"""Pure: a task's `allowedDomains`, as browser-use spells them, as rules for the connections of its browser.

A connection has a host and a port, and no path. So whatever limits more than these is refused in words, never widened.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import idna

__all__ = ["AllowedDomain", "allowed_domains", "outside", "secret_pages"]

_PORTS: Final = {"http": 80, "https": 443}
_ANY_SCHEME: Final = frozenset({"*", "http*", "http?", "http(s)"})
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_MAX_DOMAINS: Final = 1000
_WRITE: Final = "write example.com, *.example.com, https://example.com or 192.0.2.1, if you like with a port: example.com:8443"
# Pages without a host: what they hold came from an allowed page or from the agent.
_HOSTLESS: Final = frozenset({"about", "blob", "data"})


@dataclass(frozen=True, slots=True)
class AllowedDomain:
    """One entry.

    Attributes:
        scheme: `"http"`, `"https"`, `"http*"` for both, or empty when none was written, which means both, too.
        host: Name in lower case (punycode) or address; empty for every host.
        below: Every name below `host`, too.
        port: None for every port.
    """

    scheme: str
    host: str
    below: bool
    port: int | None

    @property
    def rule(self) -> str:
        """The entry as the forwarding proxy takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        pattern = host if not self.below else f"*.{host}" if host else "*"
        return pattern if self.port is None else f"{pattern}:{self.port}"

    @property
    def pages(self) -> str:
        """The entry as browser-use takes it as a key of secrets, where a name without a scheme means https alone."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        pattern = host if not self.below else f"*.{host}" if host else "*"
        return f"{self.scheme}://{pattern}" if self.scheme else pattern

    def matches(self, host: str, port: int) -> bool:
        """Return True if a connection to `host`, spelled as `_canonical` does, belongs to this entry."""
        if self.port is not None and self.port != port:
            return False
        if self.below:
            return not self.host or host == self.host or host.endswith(f".{self.host}")
        return host == self.host


def allowed_domains(given: Sequence[str]) -> tuple[AllowedDomain, ...]:
    """Return the entries of a request; a name with one dot stands for its `www.` too, as in browser-use.

    Raises:
        ValueError: An entry that cannot be enforced; with the reason, as a text for the client.
    """
    if len(given) > _MAX_DOMAINS:
        raise ValueError(f"{len(given)} domains; {_MAX_DOMAINS} are allowed")
    return tuple(dict.fromkeys(domain for text in given for domain in _parsed(text)))


def secret_pages(given: Sequence[str]) -> tuple[str, ...]:
    """Patterns of addresses on which secrets without one of their own count: one for each domain, as it is written."""
    return tuple(next(iter(_parsed(text))).pages for text in given)


def outside(url: str, domains: Iterable[AllowedDomain]) -> bool:
    """Return True if a page with this address is not among the domains."""
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        return True
    if parts.scheme in _HOSTLESS or url in {"", ":"}:
        return False
    if parts.scheme == "chrome" and parts.netloc in {"newtab", "new-tab-page"}:
        return False
    if parts.scheme not in {"http", "https", "ws", "wss"} or not host:
        return True
    try:
        spelled = _canonical(host)
    except ValueError:
        return True
    port = port or (443 if parts.scheme in {"https", "wss"} else 80)
    return not any(domain.matches(spelled, port) for domain in domains)


def _parsed(text: str) -> Iterable[AllowedDomain]:
    given = text.strip()
    if not given:
        raise ValueError(f"an empty text is no domain; {_WRITE}")
    scheme, separator, rest = given.lower().rpartition("://")
    if separator and scheme not in _PORTS and scheme not in _ANY_SCHEME:
        raise ValueError(f"{text!r}: a browser is kept to hosts of http and https; {_WRITE}")
    authority, _, path = rest.partition("/")
    if path not in {"", "*"} or any(mark in authority for mark in "?#"):
        raise ValueError(
            f"{text!r} names a path: what is kept to is hosts, since an encrypted request does not show its path; "
            f"write {authority or 'example.com'!r} to allow all of it"
        )
    if "@" in authority:
        raise ValueError(f"{text!r} holds a user name; {_WRITE}")
    name, port = _split_port(text, authority)
    below = name == "*" or name.startswith("*.")
    host = "" if name == "*" else name.removeprefix("*.") if below else name
    if "*" in host or (any(mark in host for mark in "?[]!") and not host.startswith("[")):
        raise ValueError(f"{text!r}: * stands for whole names only, at the start: *.example.com")
    try:
        host = _canonical(host) if host else ""
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}; {_WRITE}") from error
    if below and host and _is_address(host):
        raise ValueError(f"{text!r}: there are no names below an address; {_WRITE}")
    if port is None:
        port = _PORTS.get(scheme)
    scheme = "http*" if scheme in _ANY_SCHEME else scheme
    yield AllowedDomain(scheme, host, below, port)
    if not below and host.count(".") == 1 and not _is_address(host):
        yield AllowedDomain(scheme, f"www.{host}", below, port)


def _split_port(text: str, authority: str) -> tuple[str, int | None]:
    name, colon, digits = authority.rpartition(":")
    if not colon or digits.endswith("]") or ("]" not in authority and authority.count(":") > 1):
        return authority, None  # IPv6 without a port
    if digits in {"", "*"}:
        return name, None
    if not digits.isascii() or not digits.isdigit() or not 0 < int(digits) < 65536:
        raise ValueError(f"{text!r}: {digits!r} is no port; {_WRITE}")
    return name, int(digits)


def _canonical(host: str) -> str:
    """Return a host as Chromium asks its proxy for it: lower case, punycode, addresses in their usual form, no dot at the end.

    Raises:
        ValueError: It is no host.
    """
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    with suppress(ValueError):
        return str(ipaddress.ip_address(bare))
    name = bare.replace("\u3002", ".").replace("\uff0e", ".").replace("\uff61", ".").removesuffix(".")
    if not name.isascii():
        try:
            # As Chromium does, which keeps a sharp s.
            name = idna.encode(name, uts46=True).decode()
        except idna.IDNAError as error:
            raise ValueError(f"{host!r} is no name of a host") from error
    name = name.lower()
    labels = name.split(".")
    if re.fullmatch(r"\d+|0x[0-9a-f]*", labels[-1]):
        try:  # 127.1, 0x7f000001: numbers that a browser takes as an address
            return socket.inet_ntoa(socket.inet_aton(name))
        except OSError as error:
            raise ValueError(f"{host!r} is no address") from error
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"{host!r} is no name of a host")
    return name


def _is_address(host: str) -> bool:
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return False
