"""Patterns of hosts, and lists of them: which hosts a browser may reach. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import idna

from cdpbridge.errors import ConfigurationError

from ._address import address_of, is_local_name, literal_address

__all__ = ["HostLists", "Pattern", "canonical", "parsed"]

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PORT: Final = r"(?::(?P<port>[0-9]{1,5}))?"
# `*` alone, or a name or an address with `*.` or `.` before it for all names below; an IPv6 address in brackets.
_HOST: Final = re.compile(
    r"(?P<below>\*\.|\.)?(?P<host>\*|[^\s\x00-\x1f/:*@\[\]\\%?#]+|\[[0-9a-f:.]+\])" + _PORT, re.IGNORECASE
)
_NETWORK: Final = re.compile(
    r"(?P<address>[0-9.]+|\[[0-9a-f:.]+\]|[0-9a-f:.]*:[0-9a-f:.]*)/(?P<bits>[0-9]{1,3})" + _PORT,
    re.IGNORECASE,
)
_NAME: Final = re.compile(r"[a-z0-9_-][a-z0-9._-]{0,252}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pattern:
    """One entry of a list: a host, all hosts below a name, a network of addresses, or all hosts; at one port or at every port.

    Attributes:
        host: Canonical; empty for all hosts, and for a network.
    """

    host: str
    below: bool
    port: int | None
    network: _Network | None = None

    @property
    def is_address(self) -> bool:
        """True if it is about addresses, however a request spells them."""
        return self.network is not None or (not self.below and address_of(self.host) is not None)

    def matches(self, host: str, port: int) -> bool:
        """Return True if it covers `host`, which is canonical, at `port`."""
        if self.port is not None and self.port != port:
            return False
        if self.network is not None:
            address = address_of(host)
            return address is not None and address in self.network
        if self.below:
            return not self.host or host == self.host or host.endswith(f".{self.host}")
        return host == self.host


@dataclass(frozen=True)
class HostLists:
    """The hosts that may be reached, and those that may not.

    A pattern of a host is a name or an address (`example.com`, `192.0.2.1`, `[2001:db8::1]`), `*.example.com` for
    `example.com` and every name below it, a network (`192.0.2.0/24`, `[2001:db8::]/32`), or `*`; `:port` behind it limits it to
    that port. Case and a dot at the end make no difference. Names in other alphabets are those that a browser makes of them
    (UTS 46). An address or a network also covers names that resolve to it, where names are resolved here.

    Attributes:
        allowed_hosts: Patterns of the only hosts that may be reached; None for all.
        denied_hosts: Patterns of hosts that may not be reached, whatever `allowed_hosts` says.

    Raises:
        ConfigurationError: A pattern is not valid.
    """

    allowed_hosts: Sequence[str] | None = None
    denied_hosts: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("allowed_hosts", "denied_hosts"):
            given = getattr(self, name)
            if isinstance(given, str):
                raise ConfigurationError(f"{name} is a list of hosts, not one text")
            if given is not None:
                object.__setattr__(self, name, tuple(given))
        # Compiled now, so that a bad pattern is refused here and not in the midst of a request.
        _ = self._allowed, self._denied

    @cached_property
    def _allowed(self) -> tuple[Pattern, ...] | None:
        return None if self.allowed_hosts is None else _compiled("allowed_hosts", self.allowed_hosts)

    @cached_property
    def _denied(self) -> tuple[Pattern, ...]:
        return _compiled("denied_hosts", self.denied_hosts)

    def __bool__(self) -> bool:
        return self.allowed_hosts is not None or bool(self.denied_hosts)

    def denies(self, host: str, port: int) -> bool:
        """Return True if `host`, a canonical name or address, is among those that may not be reached."""
        return any(pattern.matches(host, port) for pattern in self._denied)

    def admits(self, host: str, port: int) -> bool:
        """Return True if `host`, a canonical name or address, is among those that may be reached."""
        return self._allowed is None or any(pattern.matches(host, port) for pattern in self._allowed)

    @cached_property
    def admits_by_address(self) -> bool:
        """True if a name may be admitted for what it resolves to."""
        return self._allowed is not None and any(pattern.is_address for pattern in self._allowed)


def canonical(host: str) -> str:
    """Return one spelling of a host: addresses in their usual form, names in lower case without the dot at the end."""
    literal = None if is_local_name(host) else literal_address(host)
    if literal is None:
        return host.lower().rstrip(".")
    address = ipaddress.ip_address(literal)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def parsed(name: str, pattern: str) -> Pattern:
    """Return a pattern by its text.

    Args:
        name: Of the list it is in, for the error.
        pattern: As `HostLists` describes it.

    Raises:
        ConfigurationError: It is none.
    """
    text = pattern.strip()
    network = _NETWORK.fullmatch(text)
    match = _HOST.fullmatch(text) if network is None else network
    port = int(match["port"]) if match and match["port"] else None
    if match is None or (port is not None and not 0 < port < 65536):
        raise ConfigurationError(
            f"{name}: {pattern[:300]!r} is not a host; write example.com, *.example.com, 192.0.2.1, [2001:db8::1] or 192.0.2.0/24, "
            "perhaps with :port"
        )
    if network is not None:
        return Pattern("", below=False, port=port, network=_network(name, pattern, network))
    host = match["host"]
    if host == "*":
        return Pattern("", below=True, port=port)
    if host.startswith("["):
        try:
            host = str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise ConfigurationError(f"{name}: {pattern!r} is not a valid IPv6 address") from None
    else:
        host = _ascii(name, pattern, host)
    return Pattern(canonical(host), below=match["below"] is not None, port=port)


def _network(name: str, pattern: str, match: re.Match[str]) -> _Network:
    address = match["address"].strip("[]")
    try:
        found = ipaddress.ip_network(f"{address}/{match['bits']}", strict=False)
        exact = str(found.network_address) == str(ipaddress.ip_address(address))
    except ValueError:
        raise ConfigurationError(
            f"{name}: {pattern!r} is not a network; write 192.0.2.0/24 or [2001:db8::]/32"
        ) from None
    if not exact:
        raise ConfigurationError(f"{name}: {pattern!r} is not a network; did you mean {found}?")
    return found


def _ascii(name: str, pattern: str, host: str) -> str:
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode()
        except idna.IDNAError:
            raise ConfigurationError(f"{name}: {pattern[:300]!r} is not the name of a host") from None
    if _NAME.fullmatch(host) is None:
        raise ConfigurationError(f"{name}: {pattern[:300]!r} is not the name of a host")
    return host


def _compiled(name: str, patterns: Iterable[str]) -> tuple[Pattern, ...]:
    return tuple(parsed(name, pattern) for pattern in patterns)
