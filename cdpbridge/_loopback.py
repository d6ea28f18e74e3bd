"""Which hosts can only mean this machine."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

__all__ = ["is_loopback", "is_loopback_address"]


def is_loopback(host: str) -> bool:
    """Return True if `host` can only mean this machine: `localhost`, a name below it, or a loopback address."""
    name = host.rstrip(".").casefold()
    return name == "localhost" or name.endswith(".localhost") or is_loopback_address(name)


def is_loopback_address(text: str) -> bool:
    """Return True if `text` is a loopback address, mapped into IPv6 or not; False for a name."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
