"""Messages to the kernel that make a network interface inside a place (rtnetlink(7)). Pure.

Pages of one browser may talk to each other by WebRTC, which looks for an interface that is not the loopback and, for its
address, for a route to 8.8.8.8. So a place has a pair of virtual Ethernet devices with both ends inside: what is sent out
on one comes in on the other, and nothing leads further.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Final

__all__ = ["address_message", "error_of", "messages"]

_ADDRESS: Final = "10.0.0.2"
_PROBED: Final = "8.8.8.8"  # rtc_base/network.cc, `kPublicIPv4Host`

# linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/veth.h
_HEAD: Final = struct.Struct("=IHHII")
_REQUEST, _ACK, _EXCL, _CREATE = 0x1, 0x4, 0x200, 0x400
_NEWLINK, _NEWADDR, _NEWROUTE, _ERROR = 16, 20, 24, 2
_IFLA_IFNAME, _IFLA_LINKINFO, _INFO_KIND, _INFO_DATA, _VETH_PEER = 3, 18, 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL, _RTA_DST, _RTA_OIF = 1, 2, 1, 4
_TABLE_MAIN, _PROTOCOL_STATIC, _SCOPE_LINK, _UNICAST = 254, 4, 253, 1
_IFLA_AF_SPEC, _IFLA_INET6_ADDR_GEN_MODE, _ADDR_GEN_MODE_NONE = 26, 8, 1
_UP: Final = 1
# The loopback is the first interface of a network namespace. The peer is made first.
_LOOPBACK, _PEER, _OWN = 1, 2, 3
_NO_DUPLICATE_DETECTION: Final = 2  # linux/if_addr.h, IFA_F_NODAD


def messages() -> Iterator[bytes]:
    """Yield the messages, each to be acknowledged before the next one."""
    create = _REQUEST | _ACK | _CREATE | _EXCL
    peer = _link(_PEER) + _attribute(_IFLA_IFNAME, b"peer\0")
    data = _attribute(_INFO_DATA, _attribute(_VETH_PEER, peer))
    info = _attribute(_IFLA_LINKINFO, _attribute(_INFO_KIND, b"veth") + data)
    yield _message(_NEWLINK, create, _link(_OWN) + _attribute(_IFLA_IFNAME, b"pages\0") + info)
    for index in (_PEER, _OWN):
        # No address of IPv6: the kernel gives it after a second or two, and Chromium ends what it loads with
        # ERR_NETWORK_CHANGED then.
        none = _attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes([_ADDR_GEN_MODE_NONE]))
        yield _message(
            _NEWLINK,
            _REQUEST | _ACK,
            _link(index) + _attribute(_IFLA_AF_SPEC, _attribute(socket.AF_INET6, none)),
        )
        yield _message(_NEWLINK, _REQUEST | _ACK, _link(index, up=True))
    address = socket.inet_aton(_ADDRESS)
    body = struct.pack("=BBBBI", socket.AF_INET, 32, 0, 0, _OWN)
    yield _message(
        _NEWADDR, create, body + _attribute(_IFA_LOCAL, address) + _attribute(_IFA_ADDRESS, address)
    )
    body = struct.pack(
        "=8BI", socket.AF_INET, 32, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, _SCOPE_LINK, _UNICAST, 0
    )
    out = _attribute(_RTA_DST, socket.inet_aton(_PROBED)) + _attribute(_RTA_OIF, struct.pack("=I", _OWN))
    yield _message(_NEWROUTE, create, body + out)


def address_message(address: str) -> bytes:
    """Return the message that makes an address, of IPv4 or IPv6, one of the loopback interface."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    body = struct.pack("=BBBBI", family, 8 * len(packed), _NO_DUPLICATE_DETECTION, 0, _LOOPBACK)
    attributes = _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)
    return _message(_NEWADDR, _REQUEST | _ACK | _CREATE, body + attributes)


def error_of(answer: bytes) -> int:
    """Return the error number in the kernel's answer to a message; 0 when it has done it."""
    _, kind, _, _, _ = _HEAD.unpack_from(answer)
    if kind != _ERROR:
        raise ValueError(f"netlink answered with a message of type {kind}")
    return -int(struct.unpack_from("=i", answer, _HEAD.size)[0])


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEAD.pack(_HEAD.size + len(body), kind, flags, 1, 0) + body


def _link(index: int, *, up: bool = False) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, _UP if up else 0, _UP if up else 0)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)
