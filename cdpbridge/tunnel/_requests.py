"""HTTP on the tunnel's port: heads of requests and answers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from cdpbridge.cdp._http import Response
from cdpbridge.errors import CDPBridgeError

__all__ = ["HeadReader", "Refusal", "TunnelRequest", "read_request", "request_head", "response_head"]

_HEAD_BYTES: Final = 64 * 1024
_END: Final = b"\r\n\r\n"
# Of one connection only (RFC 9110 section 7.6.1), or ours to say; no extension, as compressed frames cannot be read.
_NOT_PASSED: Final = frozenset(
    {
        "host",
        "connection",
        "keep-alive",
        "content-length",
        "transfer-encoding",
        "sec-websocket-extensions",
    }
)


class Refusal(CDPBridgeError):
    """The answer to a request that is not passed on."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class TunnelRequest:
    """A request's head.

    Attributes:
        secret: It came by the secret path, which is cut off `target`.
    """

    method: str
    target: str
    headers: list[tuple[str, str]]
    secret: bool = False

    def get(self, name: str) -> str | None:
        """Return the first header with that name, given in lower case."""
        return next((value for key, value in self.headers if key.lower() == name), None)


class HeadReader(asyncio.Protocol):
    """Reads heads of HTTP messages from a socket; what follows the last of them can be taken.

    Args:
        on_open: Called with it when the socket is connected.
    """

    def __init__(self, on_open: Callable[[HeadReader], object] | None = None) -> None:
        self.transport: asyncio.Transport
        self._on_open = on_open
        self._data = bytearray()
        self._over = False
        self._news: asyncio.Future[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if self._on_open is not None:
            self._on_open(self)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > _HEAD_BYTES:
            self.transport.pause_reading()
        self._tell()

    def eof_received(self) -> None:
        self._over = True
        self._tell()

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        self._tell()

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def read(self) -> bytes | None:
        """Return the next head with its empty line; None when the socket has ended before.

        Raises:
            ValueError: It is too long.
        """
        while (end := self._data.find(_END)) < 0:
            if len(self._data) > _HEAD_BYTES:
                raise ValueError("the head is too long")
            if self._over:
                return None
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        if end > _HEAD_BYTES:
            raise ValueError("the head is too long")
        head = bytes(self._data[: end + len(_END)])
        del self._data[: len(head)]
        return head

    def take(self) -> bytes:
        """Stop reading the socket, and give what came behind the last head."""
        if not self.transport.is_closing():
            self.transport.pause_reading()
        rest = bytes(self._data)
        self._data.clear()
        return rest


async def read_request(client: HeadReader) -> TunnelRequest | None:
    """Return the next request; None when the client has left. Bodies are not read: no endpoint has one.

    Raises:
        Refusal: It cannot be read.
    """
    try:
        head = await client.read()
    except ValueError:
        raise Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request is too long") from None
    if head is None:
        return None
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    found = re.fullmatch(r"(GET|PUT|HEAD|POST) (\S+) HTTP/1\.[01]", first)
    if found is None:
        raise Refusal(HTTPStatus.BAD_REQUEST, "this is no request of HTTP/1.1")
    pairs = [line.partition(":") for line in lines]
    if any(not separator or name != name.strip() for name, separator, _ in pairs):
        raise Refusal(HTTPStatus.BAD_REQUEST, "a header is malformed")
    request = TunnelRequest(found[1], found[2], [(name, value.strip()) for name, _, value in pairs])
    if (request.get("content-length") or "0") != "0" or request.get("transfer-encoding") is not None:
        raise Refusal(HTTPStatus.BAD_REQUEST, "no endpoint of a browser takes a body")
    return request


def request_head(request: TunnelRequest, address: str, *, connection: str) -> bytes:
    """Return the head of the same request for another address."""
    url = urlsplit(address)
    target = urlunsplit(("", "", url.path or "/", url.query, ""))
    lines = [f"{request.method} {target} HTTP/1.1", f"Host: {url.netloc.rpartition('@')[2]}"]
    lines.append(f"Connection: {connection}")
    lines += [f"{name}: {value}" for name, value in request.headers if name.lower() not in _NOT_PASSED]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def response_head(response: Response) -> bytes:
    """Return the head of an answer with a body."""
    status = HTTPStatus(response.status) if response.status in set(HTTPStatus) else HTTPStatus.BAD_GATEWAY
    connection = "close" if status >= HTTPStatus.BAD_REQUEST else "keep-alive"
    kind = response.headers.get("content-type", "text/plain")
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(response.body)}\r\nConnection: {connection}\r\n\r\n"
    ).encode("latin-1")
