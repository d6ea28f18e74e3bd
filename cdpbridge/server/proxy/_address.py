"""Which addresses a rented browser may not reach when its proxy filters private networks."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

__all__ = [
    "LOOPBACK_ADDRESSES",
    "address_of",
    "is_forbidden",
    "is_local_name",
    "is_loopback",
    "is_own",
    "literal_address",
]

LOOPBACK_ADDRESSES: Final = ("127.0.0.1", "::1")
"""The addresses that `localhost` stands for, in the order of Chromium (net/dns/dns_util.cc asks no resolver either)."""

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
# All that is assigned for public use.
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
# What the ipaddress module of some Python versions calls global.
_NOT_PUBLIC: Final = (
    # Azure's metadata and platform address: learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
    ipaddress.IPv4Network("168.63.129.16/32"),
    # RFC 6890; Oracle's metadata address is in it.
    ipaddress.IPv4Network("192.0.0.0/24"),
    ipaddress.IPv4Network("192.88.99.0/24"),  # RFC 7526; once the relay of 6to4
)
_DISCARD_PORT: Final = 9


def is_local_name(host: str) -> bool:
    """Return True if `host` is `localhost` or a name below it (RFC 6761 section 6.3): they never leave this machine."""
    name = host.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that `host` is in its usual form; None for a name."""
    if not host or not (host[0].isdigit() or ":" in host):  # nearly all are names, and an error is dear
        return None
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def literal_address(host: str) -> str | None:
    """Return the address that `host` spells, also in the old forms (`2130706433`, `0x7f.1`), or None for a name."""
    host = host.rstrip(".")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, UnicodeError):
        pass
    return LOOPBACK_ADDRESSES[0] if is_local_name(host) else None


def is_forbidden(address: str) -> bool:
    """Return True if `address` is anything but a public unicast address, also behind an IPv6 form of an IPv4 address.

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


def is_loopback(address: str) -> bool:
    """Return True if `address` is one of the loopback's, mapped into IPv6 or not; False for a name."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def is_own(address: str) -> bool:
    """Return True if a connection to `address` stays on this machine: it belongs to one of its interfaces.

    The kernel is asked which source it would take for it: for an address of its own, that address. Nothing is sent.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip
    if ip.is_loopback or ip.is_unspecified:
        return True
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(ip), _DISCARD_PORT))
            return ipaddress.ip_address(probe.getsockname()[0]) == ip
    except OSError:  # no route, or no such family here: then no address of ours either
        return False
