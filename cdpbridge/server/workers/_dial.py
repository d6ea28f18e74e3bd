"""From a worker's address to a socket at whose other end the worker has shown that it knows the secret."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Final
from urllib.parse import urlsplit

from cdpbridge.errors import ConfigurationError

from ._auth import ADMISSION_BYTES, GREETING_BYTES, Status, open_with, status_of
from ._protocol import Hello, encoded

__all__ = ["NotAdmitted", "dial", "dial_streams", "host_and_port", "read_exactly"]

# A worker answers in milliseconds; the server and its gateway give a browser some seconds.
_DIAL_SECONDS: Final = 4.0


class NotAdmitted(OSError):
    """A worker is there, and is not the one that is meant, or does not know the secret.

    Attributes:
        status: What it has answered; None when it has not shown that it knows the secret.
    """

    def __init__(self, text: str, status: Status | None = None) -> None:
        super().__init__(text)
        self.status = status


def host_and_port(address: str) -> tuple[str, int]:
    """Return the parts of `host:port`, an IPv6 address in brackets.

    Raises:
        ConfigurationError: It is something else.
    """
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None or parts.netloc != address or parts.username is not None:
        raise ConfigurationError(f"{address!r} is not host:port; write 10.0.0.5:8710 or [2001:db8::5]:8710")
    return host, port


async def dial(address: str, secret: bytes, hello: Hello) -> socket.socket:
    """Return a socket to a worker, admitted for what `hello` says, from which nothing more was read.

    Raises:
        NotAdmitted: The worker does not want it.
        OSError: It cannot be reached.
    """
    try:
        async with asyncio.timeout(_DIAL_SECONDS):
            return await _dial(address, secret, hello)
    except TimeoutError:
        raise OSError(f"worker {address} does not answer") from None


async def dial_streams(
    address: str, secret: bytes, hello: Hello
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return the streams of a socket to a worker; see `dial`."""
    made = await dial(address, secret, hello)
    try:
        return await asyncio.open_connection(sock=made)
    except BaseException:
        made.close()
        raise


async def _dial(address: str, secret: bytes, hello: Hello) -> socket.socket:
    loop = asyncio.get_running_loop()
    host, port = host_and_port(address)
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, place = found[0]
    made = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
    try:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(made, place)
        greeted = await read_exactly(made, GREETING_BYTES)
        opening = open_with(secret, greeted, json.dumps(encoded(hello)).encode())
        if opening is None:
            raise NotAdmitted(f"what listens at {address} is no worker of this version")
        await loop.sock_sendall(made, opening.data)
        status = status_of(secret, opening.key, await read_exactly(made, ADMISSION_BYTES))
        if status is not Status.ADMITTED:
            raise NotAdmitted(f"worker {address} refuses: {_WORDS[status]}", status)
    except EOFError:
        made.close()
        raise NotAdmitted(f"worker {address} has closed the connection: it may have another secret") from None
    except BaseException:
        made.close()
        raise
    return made


_WORDS: Final = {
    None: "it has not shown that it knows the secret",
    Status.OTHER_WORKER: "another worker runs at this address now",
    Status.NO_BROWSER: "it does not run this browser",
    Status.UNKNOWN: "it does not know what is asked of it",
}


async def read_exactly(source: socket.socket, count: int) -> bytes:
    """Return `count` bytes, and leave what comes after them.

    Raises:
        EOFError: There are fewer.
        OSError: From the connection.
    """
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < count:
        more = await loop.sock_recv(source, count - len(data))
        if not more:
            raise EOFError
        data += more
    return data
