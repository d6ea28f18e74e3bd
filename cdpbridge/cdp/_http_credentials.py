"""User names and passwords for HTTP authentication, each for one origin; and the origins of addresses as Chromium writes them. Pure."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import unquote

import idna

from cdpbridge.errors import ConfigurationError

__all__ = [
    "HttpCredentials",
    "checked_credentials",
    "checked_credentials_list",
    "origin_of",
    "pattern_of",
    "with_credentials",
    "without_user_info",
]

_KEYS: Final = ("username", "password", "origin")
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
# As browsers read it (URL standard): a backslash ends the authority, and any number of slashes may begin it.
_ADDRESS: Final = re.compile(r"(https?):([/\\]*)([^/\\?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_IGNORED: Final = re.compile(r"[\t\r\n]")
_AROUND: Final = "".join(map(chr, range(0x21)))


@dataclass(frozen=True, slots=True, repr=False)
class HttpCredentials:
    """A user name and a password for the servers of one origin.

    Attributes:
        username: As the server knows it.
        password: Not in the `repr`, and not in any message.
        origin: Scheme, host and port of an address, e.g. `"https://example.com"`; None in `Tab.goto` for that of the address.
    """

    username: str
    password: str
    origin: str | None = None

    def __repr__(self) -> str:
        return f"<HttpCredentials for {self.origin or 'the origin of an address'}>"


def checked_credentials(given: object, origin: str | None = None) -> HttpCredentials:
    """Return credentials with their origin as Chromium writes it.

    Args:
        given: `HttpCredentials`, or a dict with the same names.
        origin: Of credentials that name none.

    Raises:
        ConfigurationError: Something is missing or wrong. The message has nothing of the user name and the password.
    """
    if isinstance(given, Mapping):
        _check_names(given)
        given = HttpCredentials(given["username"], given["password"], given.get("origin"))
    if not isinstance(given, HttpCredentials):
        raise ConfigurationError(
            "http_credentials must be HttpCredentials, or a dict with username, password and origin, "
            f"not {type(given).__name__}"
        )
    for name in ("username", "password"):
        if not isinstance(getattr(given, name), str):
            raise ConfigurationError(f"http_credentials: the {name} must be a text")
    wanted = origin if given.origin is None else given.origin
    found = origin_of(wanted) if isinstance(wanted, str) else None
    if wanted is None:
        raise ConfigurationError(
            "http_credentials need an origin, e.g. 'https://example.com': no other server gets them"
        )
    if found is None:
        raise ConfigurationError(
            "http_credentials: the origin must be an http or https address like 'https://example.com'"
        )
    return replace(given, origin=found)


def checked_credentials_list(given: object) -> tuple[HttpCredentials, ...]:
    """Return credentials for one origin, or for several. Errors as of `checked_credentials`, and for two of one origin."""
    if given is None:
        return ()
    several = isinstance(given, Iterable) and not isinstance(given, Mapping | str | bytes)
    found = tuple(map(checked_credentials, given if several else [given]))  # type: ignore[call-overload]
    origins = [each.origin for each in found]
    for origin in origins:
        if origins.count(origin) > 1:
            raise ConfigurationError(f"http_credentials: there are two for {origin}")
    return found


def _check_names(given: Mapping[Any, Any]) -> None:
    for name in given:
        if name not in _KEYS:
            raise ConfigurationError(f"http_credentials: there is no {name!r}; there are {', '.join(_KEYS)}")
    for name in ("username", "password"):
        if name not in given:
            raise ConfigurationError(f"http_credentials: the {name} is missing")


def origin_of(url: str) -> str | None:
    """Return scheme, host and port of an http or https address as Chromium writes them; None of any other address."""
    found = _ADDRESS.match(_IGNORED.sub("", url.strip(_AROUND)))
    if found is None:
        return None
    scheme = found[1].lower()
    host, port = _host_and_port(found[3].rpartition("@")[2])
    if host is None or not (port == "" or (port.isascii() and port.isdigit() and int(port) < 2**16)):
        return None
    port = str(int(port)) if port else ""
    return f"{scheme}://{host}" + (f":{port}" if port not in {"", _DEFAULT_PORTS[scheme]} else "")


def _host_and_port(authority: str) -> tuple[str | None, str]:
    if authority.startswith("["):
        address, bracket, rest = authority[1:].partition("]")
        try:
            host = f"[{ipaddress.IPv6Address(address).compressed}]"
        except ValueError:
            return None, ""
        return (host, rest.removeprefix(":")) if bracket and rest[:1] in {"", ":"} else (None, "")
    name, _, port = authority.partition(":")
    return _host(unquote(name)), port


def _host(name: str) -> str | None:
    try:
        host = name.lower() if name.isascii() else idna.encode(name, uts46=True).decode()
    except idna.IDNAError:
        return None
    if not host or re.search(r"[\s%:@\[\]<>^|]", host):
        return None
    if re.fullmatch(r"(0x[0-9a-f]*|\d+)", host.removesuffix(".").rpartition(".")[2]):
        try:  # browsers take the old forms of an address, too
            return socket.inet_ntoa(socket.inet_aton(host.removesuffix(".")))
        except OSError:
            return None
    return host


def without_user_info(url: str) -> tuple[str, HttpCredentials | None]:
    """Return the address without the user name and password in it, and these."""
    cleaned = _IGNORED.sub("", url.strip(_AROUND))
    found = _ADDRESS.match(cleaned)
    if found is None or "@" not in found[3]:
        return url, None
    user_info, _, host = found[3].rpartition("@")
    username, _, password = user_info.partition(":")
    bare = f"{found[1]}:{found[2]}{host}{found[4]}"
    origin = origin_of(bare)
    if origin is None:
        return url, None
    if not username and not password:
        return bare, None
    return bare, HttpCredentials(unquote(username), unquote(password), origin)


def with_credentials(url: str, given: object) -> tuple[str, list[HttpCredentials]]:
    """Return an address without a user name and password in it, and whose credentials to use: those in it, and those `given`.

    The ones `given` are for the origin of the address unless they name one, and win over those in it. Errors as of
    `checked_credentials`.
    """
    bare, inside = without_user_info(url)
    if given is None:
        return bare, [] if inside is None else [inside]
    asked = checked_credentials(given, origin_of(bare))
    return bare, [asked] if inside is None or inside.origin == asked.origin else [inside, asked]


def pattern_of(origin: str) -> str:
    """Return the pattern that all addresses of an origin match, and no other."""
    return f"{origin}/*"
