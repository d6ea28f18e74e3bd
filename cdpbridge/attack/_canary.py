"""A listener on this machine that notices what reaches it, over TCP and UDP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from secrets import token_hex
from typing import Any, Final, Self

__all__ = ["Canary", "is_own_address", "own_addresses"]

_HEAD_BYTES: Final = 4096
_HEAD_SECONDS: Final = 5.0
_HEARD: Final = 1000  # of the heads that are kept
_ANSWER: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\nAccess-Control-Allow-Origin: *\r\n"
    b"Connection: close\r\n\r\ncanary"
)
# Where a route would lead; nothing is sent. RFC 5737 and RFC 3849: addresses of documentation.
_OUTWARD: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


class Canary:
    """Listens on every address of this machine, while it is entered.

    Attributes:
        port: For TCP, on IPv4 and, where there is one, IPv6.
        udp_port: For UDP.
        datagrams: How many have come.
    """

    def __init__(self) -> None:
        self.port = 0
        self.udp_port = 0
        self.datagrams = 0
        self._heads: list[bytes] = []
        self._news = asyncio.Event()
        self._servers: list[asyncio.Server] = []
        self._datagrams: list[asyncio.DatagramTransport] = []

    async def __aenter__(self) -> Self:
        for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104  # that is the purpose
            try:
                listener = socket.create_server((address, self.port), family=family)
            except OSError:
                if family == socket.AF_INET:
                    raise
                continue  # no IPv6 here
            self.port = listener.getsockname()[1]
            self._servers.append(await asyncio.start_server(self._serve, sock=listener, limit=_HEAD_BYTES))
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Datagrams(self),
            local_addr=("0.0.0.0", 0),  # noqa: S104  # as above
        )
        self._datagrams.append(transport)
        self.udp_port = transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        for transport in self._datagrams:
            transport.close()

    def new_word(self) -> str:
        """Return a word for one attack, which no other has."""
        return token_hex(8)

    def heard(self, word: str) -> bool:
        """Return True if a request with this word in it has come."""
        return any(word.encode() in head for head in self._heads)

    async def hears(self, word: str, seconds: float) -> bool:
        """Wait for a request with this word in it; return False if none comes in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.heard(word):
                    self._news.clear()
                    await self._news.wait()
        return self.heard(word)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(TimeoutError, OSError):
                async with asyncio.timeout(_HEAD_SECONDS):
                    self._heads.append(await reader.read(_HEAD_BYTES))
                    del self._heads[:-_HEARD]
                    self._news.set()
                    writer.write(_ANSWER)
                    await writer.drain()
        finally:
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, canary: Canary) -> None:
        self._canary = canary

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self._canary.datagrams += 1


def own_addresses() -> list[str]:
    """Return addresses of this machine that are not loopback, and its name."""
    found = []
    for family, address in _OUTWARD:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            found.append(str(probe.getsockname()[0]).partition("%")[0])
    return [*found, socket.gethostname()]


def is_own_address(host: str) -> bool:
    """Return True if `host` names this machine. Blocks."""
    with suppress(OSError):
        for family, kind, _, _, place in socket.getaddrinfo(host, 9, type=socket.SOCK_STREAM):
            with _bound(family, kind, str(place[0])) as bound:
                if bound:
                    return True
    return False


@contextmanager
def _bound(family: int, kind: int, address: str) -> Iterator[bool]:
    with socket.socket(family, kind) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            yield False
        else:
            yield True
