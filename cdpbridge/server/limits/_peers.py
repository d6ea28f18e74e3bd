"""The address of a peer: its socket's, or what a trusted proxy says about it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["ForwardedPeers", "Peers", "peer_name"]

_IPV6_PREFIX: Final = 64  # what one customer gets (RFC 6177, section 2)


def peer_name(address: str) -> str:
    """Return what failures are counted by: an IPv4 address, or the /64 network of an IPv6 one."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, _IPV6_PREFIX), strict=False))


class Peers:
    """Finds the client behind a socket.

    Args:
        trusted: Addresses and networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.

    Raises:
        ValueError: One of `trusted` is neither an address nor a network.
    """

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self._trusted = tuple(ipaddress.ip_network(each, strict=False) for each in trusted)

    def trusts(self, address: str) -> bool:
        """Return True if headers of this peer are believed."""
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found in network for network in self._trusted)

    def client(self, address: str, forwarded_for: Sequence[str]) -> str:
        """Return the client's address: the last one in `X-Forwarded-For` that is no trusted proxy.

        Args:
            address: Of the socket.
            forwarded_for: Values of the headers, in order.
        """
        named = [each.strip() for value in forwarded_for for each in value.split(",")]
        while named and self.trusts(address):
            address = _without_port(named.pop()) or address
        return address


class ForwardedPeers:
    """ASGI middleware: `client` and `scheme` of each request as a trusted proxy gives them."""

    def __init__(self, app: ASGIApp, peers: Peers) -> None:
        self._app = app
        self._peers = peers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        if scope["type"] in {"http", "websocket"} and client is not None and self._peers.trusts(client[0]):
            given = [
                value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"
            ]
            address = self._peers.client(client[0], given)
            if address != client[0]:
                scope["client"] = (address, 0)
            for name, value in scope["headers"]:
                if name == b"x-forwarded-proto" and value in {b"http", b"https"}:
                    secure = value == b"https"
                    plain = "http" if scope["type"] == "http" else "ws"
                    scope["scheme"] = f"{plain}s" if secure else plain
        await self._app(scope, receive, send)


def _without_port(address: str) -> str:
    """`1.2.3.4:5` and `[::1]:5` as some proxies write them, without the port."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address
