"""Which addresses a rented browser may not reach when its proxy filters private networks."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

__all__ = ["is_forbidden", "literal_address"]

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")  # all that is assigned for public use
# What the ipaddress module of some Python versions calls global.
_NOT_PUBLIC: Final = (
    # Azure's metadata and platform address: learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
    ipaddress.IPv4Network("168.63.129.16/32"),
    ipaddress.IPv4Network("192.0.0.0/24"),  # RFC 6890; Oracle's metadata address is in it
)


def literal_address(host: str) -> str | None:
    """The address that `host` spells, also in the old forms (`2130706433`, `0x7f.1`), or None for a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        pass
    name = host.lower().rstrip(".")
    # RFC 6761 section 6.3: names that never leave this machine.
    return "127.0.0.1" if name == "localhost" or name.endswith(".localhost") else None


def is_forbidden(address: str) -> bool:
    """Whether `address` is anything but a public unicast address, also behind an IPv6 form of an IPv4 address.

    Covers loopback, private, link-local (cloud metadata), shared, multicast, reserved and unspecified ranges.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.is_multicast or not ip.is_global or any(ip in network for network in _NOT_PUBLIC)
    if ip.scope_id is not None:
        return True
    for inner in (
        ip.ipv4_mapped,
        ip.sixtofour,
        ip.teredo[1] if ip.teredo else None,
        ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None,
    ):
        if inner is not None:
            return is_forbidden(str(inner))
    return ip not in _GLOBAL_UNICAST or not ip.is_global
