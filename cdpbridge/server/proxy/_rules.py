"""Rules for the connections of a browser: private addresses, and lists of hosts. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from cdpbridge.errors import ConfigurationError

from ._address import is_forbidden, is_local_name, is_loopback, literal_address

__all__ = ["Refusal", "Rules"]

# A host name, an address, or an IPv6 address in brackets; `*` alone or as the first label; perhaps a port.
_PATTERN: Final = re.compile(
    r"(?P<host>\*|(?:\*\.)?[a-z0-9_-][a-z0-9._-]{0,252}|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a connection is refused.

    Attributes:
        error: Its type for the `Proxy-Status` header (RFC 9209 section 2.3).
    """

    text: str
    error: str


@dataclass(frozen=True, slots=True)
class _Pattern:
    """One entry of a list: a host, all hosts below a name, or all hosts; at one port or at every port."""

    host: str
    below: bool
    port: int | None

    def matches(self, host: str, port: int) -> bool:
        if self.port is not None and self.port != port:
            return False
        if self.below:
            return not self.host or host == self.host or host.endswith(f".{self.host}")
        return host == self.host


@dataclass(frozen=True)
class Rules:
    """The rules of what a browser may reach. Replace the whole object to change it: `dataclasses.replace(rules, ...)`.

    A pattern of a host is a name or an address (`example.com`, `192.0.2.1`, `[2001:db8::1]`), `*.example.com` for
    `example.com` and every name below it, or `*`; `:port` behind it limits it to that port. Case and a dot at the end make
    no difference.

    Attributes:
        private: Whether loopback, private, link-local and other addresses that are not public may be reached, and
            any address of this machine.
        private_allowed: `host:port` of those that may be reached although `private` is False. An entry that is a name opens
            what it resolves to; one that is an address opens that address under every name.
        allowed_hosts: Patterns of the only hosts that may be reached; None for all.
        denied_hosts: Patterns of hosts that may not be reached, whatever `allowed_hosts` says.

    Raises:
        ConfigurationError: A pattern is not valid.
    """

    private: bool = True
    private_allowed: Collection[str] = ()
    allowed_hosts: Collection[str] | None = None
    denied_hosts: Collection[str] = ()
    _opened: frozenset[tuple[str, int]] = field(init=False, repr=False, compare=False, default=frozenset())

    def __post_init__(self) -> None:
        for name in ("private_allowed", "allowed_hosts", "denied_hosts"):
            given = getattr(self, name)
            if isinstance(given, str):
                raise ConfigurationError(f"{name} is a list of hosts, not one text")
            if given is not None:
                object.__setattr__(self, name, tuple(given))
        object.__setattr__(self, "_opened", frozenset(_opened(self.private_allowed)))
        # Compiled now, so that a bad pattern is refused here and not in the midst of a request.
        _ = self._allowed, self._denied

    @cached_property
    def _allowed(self) -> tuple[_Pattern, ...] | None:
        return None if self.allowed_hosts is None else _compiled("allowed_hosts", self.allowed_hosts)

    @cached_property
    def _denied(self) -> tuple[_Pattern, ...]:
        return _compiled("denied_hosts", self.denied_hosts)

    def refuse_host(self, host: str, port: int) -> Refusal | None:
        """Return why a request may not go to `host`, as it is written in the request; None when it may, as far as that tells.

        Args:
            host: Name or address, IPv6 without brackets.
        """
        spelled = _canonical(host)
        if any(pattern.matches(spelled, port) for pattern in self._denied):
            return _not_allowed(host)
        if self._allowed is not None and not any(pattern.matches(spelled, port) for pattern in self._allowed):
            return _not_allowed(host)
        literal = literal_address(host)
        return None if literal is None else self.refuse_address(host, port, literal)

    def refuse_address(self, host: str, port: int, address: str, *, own: bool = False) -> Refusal | None:
        """Return why a connection for `host` may not be opened to `address`, which `host` is or resolves to.

        Args:
            host: As in the request.
            address: In its usual form.
            own: `address` belongs to this machine.
        """
        if self.private or not (own or is_forbidden(address)) or self.opens(host, port, address):
            return None
        return Refusal(
            f"{host} is a private address, which this browser may not reach; "
            "the server's setting `private_allowed` opens single services",
            "destination_ip_prohibited",
        )

    def opens(self, host: str, port: int, address: str) -> bool:
        """Return True if `private_allowed` names this host or address at this port."""
        return bool(self._opened) and not self._opened.isdisjoint(
            ((_canonical(host), port), (_canonical(address), port))
        )


def _not_allowed(host: str) -> Refusal:
    return Refusal(f"{host} is not among the hosts that this browser may reach", "http_request_denied")


def _canonical(host: str) -> str:
    """Return one spelling of a host: addresses in their usual form, names in lower case without the dot at the end."""
    literal = None if is_local_name(host) else literal_address(host)
    if literal is None:
        return host.lower().rstrip(".")
    address = ipaddress.ip_address(literal)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _compiled(name: str, patterns: Iterable[str]) -> tuple[_Pattern, ...]:
    return tuple(_parsed(name, pattern) for pattern in patterns)


def _parsed(name: str, pattern: str) -> _Pattern:
    text = pattern.strip()
    if not text.isascii():
        try:
            text = text.encode("idna").decode()
        except UnicodeError:
            raise ConfigurationError(f"{name}: {pattern!r} is not the name of a host") from None
    match = _PATTERN.fullmatch(text)
    port = int(match["port"]) if match and match["port"] else None
    if match is None or (port is not None and not 0 < port < 65536):
        raise ConfigurationError(
            f"{name}: {pattern!r} is not a host; write example.com, *.example.com, 192.0.2.1 or [2001:db8::1], "
            "perhaps with :port"
        )
    host = match["host"]
    if host.startswith("["):
        try:
            host = str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise ConfigurationError(f"{name}: {pattern!r} is not a valid IPv6 address") from None
    below = host.startswith("*")
    return _Pattern(_canonical(host.removeprefix("*").removeprefix(".")) if host != "*" else "", below, port)


def _opened(entries: Iterable[str]) -> Iterable[tuple[str, int]]:
    for entry in entries:
        pattern = _parsed("private_allowed", entry)
        if pattern.port is None or pattern.below:
            raise ConfigurationError(
                f"private_allowed: {entry!r} is not host:port; write localhost:3000 or 10.0.0.5:443"
            )
        yield pattern.host, pattern.port
        if pattern.host == "localhost" or is_loopback(pattern.host):
            # The two loopback addresses and their name are one service for a user.
            yield from ((host, pattern.port) for host in ("localhost", "127.0.0.1", "::1"))
