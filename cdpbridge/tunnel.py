"""A rented browser under a bare `host:port` of this machine, for clients that take no path and no token.

    async with open_tunnel(browser) as address:      # "127.0.0.1:43567"
        options.debugger_address = address           # Selenium

Whoever can open connections on this machine can use it while the block lasts. Pages cannot: requests with an `Origin`, or
for another host than this machine, are refused.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

from cdpbridge.cdp import resolve
from cdpbridge.cdp._endpoint import Progress, Response, dial, parse_response
from cdpbridge.errors import CDPBridgeError, CDPError, ConfigurationError

if TYPE_CHECKING:
    from cdpbridge.api import BrowserSession
    from cdpbridge.browser import Browser

__all__ = ["open_tunnel"]

logger = logging.getLogger("cdpbridge")

_HEAD_BYTES: Final = 64 * 1024
_PIPE_BYTES: Final = 256 * 1024
_ANSWER_BYTES: Final = (
    64 * 1024 * 1024
)  # /json/protocol has 1.6 MB; a page's `data:` address in /json/list may have 2
_ANSWER_SECONDS: Final = 15.0
_CONNECT_TIMEOUT: Final = timedelta(seconds=15)
_LOCAL: Final = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?", re.IGNORECASE)
_SOCKET: Final = re.compile(r"wss?://[^\"\s]*?(?=/devtools/(?:browser|page)/)")
_FRONTEND: Final = re.compile(r"(?<=[?&])wss?=[^\"\s&]*?(?=/devtools/)")
# Of one connection only (RFC 9110 section 7.6.1), or ours to say.
_NOT_PASSED: Final = frozenset({"host", "connection", "keep-alive", "content-length", "transfer-encoding"})


@asynccontextmanager
async def open_tunnel(browser: Browser | BrowserSession | str, *, port: int = 0) -> AsyncIterator[str]:
    """A block in which a browser can be reached at the yielded `127.0.0.1:port`; the rental goes on after it.

    Args:
        browser: A `Browser` of ours, a record of the REST API, or a CDP address.
        port: To listen on; 0 takes a free one.

    Raises:
        ConfigurationError: The browser has no address: it is not running.
        ConnectFailed: It cannot be reached.
        OSError: The port is taken.
    """
    address = browser if isinstance(browser, str) else browser.cdp_url
    if not address:
        raise ConfigurationError("the browser has no cdpUrl: it is not running")
    async with asyncio.timeout(_CONNECT_TIMEOUT.total_seconds()):
        socket = urlsplit((await resolve(address)).url)
    tunnel = _Tunnel(socket, _base(address, socket))
    server = await asyncio.start_server(tunnel.serve, "127.0.0.1", port, limit=_HEAD_BYTES)
    tunnel.authority = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield tunnel.authority
    finally:
        server.close()
        await tunnel.close()
        await server.wait_closed()


def _base(address: str, socket: SplitResult) -> SplitResult:
    """The address that the `/json` endpoints and page sockets are below."""
    prefix = socket.path.partition("/devtools/")[0] if "/devtools/" in socket.path else urlsplit(address).path
    return socket._replace(path=prefix.rstrip("/"))


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    target: str
    headers: list[tuple[str, str]]

    def get(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


class _Refusal(CDPBridgeError):
    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Tunnel:
    """Every connection to the port."""

    def __init__(self, socket: SplitResult, base: SplitResult) -> None:
        self.authority = ""
        self._socket = socket
        self._base = base
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, CDPError, asyncio.IncompleteReadError) as error:
            logger.debug("a connection of the tunnel ended: %s", error)
        except asyncio.CancelledError:
            pass  # by `close`; asyncio's own callback would report it
        finally:
            self._tasks.discard(task)
            writer.transport.abort() if task.cancelling() else writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                request = await _read_request(reader)
                if request is None:
                    return
                self._check(request)
                if (request.get("upgrade") or "").lower() == "websocket":
                    await self._join(request, reader, writer)
                    return
                response = await self._ask(request)
            except _Refusal as refusal:
                response = Response(refusal.status, {"content-type": "text/plain"}, str(refusal).encode())
            except (CDPError, TimeoutError, ValueError) as error:
                text = f"the browser gives no answer ({type(error).__name__})"
                response = Response(HTTPStatus.BAD_GATEWAY, {"content-type": "text/plain"}, text.encode())
            writer.write(_head(response) + response.body)
            await writer.drain()
            if response.status >= HTTPStatus.BAD_REQUEST:
                return

    def _check(self, request: _Request) -> None:
        if request.get("origin") is not None:
            raise _Refusal(HTTPStatus.FORBIDDEN, "pages may not use this; CDP clients send no Origin")
        if not _LOCAL.fullmatch(request.get("host") or ""):
            raise _Refusal(HTTPStatus.FORBIDDEN, "this tunnel answers for 127.0.0.1 and localhost only")
        if not re.fullmatch(r"/[!-~]*", request.target):
            raise _Refusal(HTTPStatus.BAD_REQUEST, "this is no path")

    # --- HTTP -----------------------------------------------------------------------------------------------------

    async def _ask(self, request: _Request) -> Response:
        path, _, query = request.target.partition("?")
        if not re.fullmatch(r"/json(/.*)?", path):
            raise _Refusal(HTTPStatus.NOT_FOUND, "the browser has nothing here")
        async with asyncio.timeout(_ANSWER_SECONDS):
            response = await self._fetch(request, self._upstream(self._base.path + path, query))
        if response.status == HTTPStatus.NOT_FOUND and path.rstrip("/") == "/json/version":
            return self._own_version()  # a service that has its socket only
        text = response.body.decode("utf-8", "replace")
        text = _SOCKET.sub(f"ws://{self.authority}", text)
        text = _FRONTEND.sub(f"ws={self.authority}", text)
        return Response(response.status, response.headers, text.encode())

    def _own_version(self) -> Response:
        known = {
            "Browser": "Chrome",
            "Protocol-Version": "1.3",
            "webSocketDebuggerUrl": f"ws://{self.authority}/devtools/browser/rented",
        }
        headers = {"content-type": "application/json; charset=UTF-8"}
        return Response(HTTPStatus.OK, headers, json.dumps(known).encode())

    def _upstream(self, path: str, query: str) -> str:
        both = "&".join(filter(None, (query, self._base.query)))
        return urlunsplit(
            ("https" if self._base.scheme == "wss" else "http", self._base.netloc, path, both, "")
        )

    async def _fetch(self, request: _Request, address: str) -> Response:
        reader, writer = await _open(address)
        try:
            writer.write(_request_head(request, address, connection="close"))
            data = bytearray()
            while True:
                chunk = await reader.read(_PIPE_BYTES)
                data += chunk
                if len(data) > _ANSWER_BYTES:
                    raise ValueError("the answer is too long")
                response = parse_response(data, eof=not chunk)
                if response is not None:
                    return response
        finally:
            writer.transport.abort()

    # --- WebSocket ------------------------------------------------------------------------------------------------

    async def _join(
        self, request: _Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        path, _, query = request.target.partition("?")
        if path.startswith("/devtools/browser/"):
            address = urlunsplit(self._socket)
        elif re.fullmatch(r"/devtools/page/[A-Za-z0-9-]+", path):
            address = self._upstream(self._base.path + path, query)
        else:
            raise _Refusal(HTTPStatus.NOT_FOUND, "the browser has no WebSocket here")
        upstream_reader, upstream_writer = await _open(address)
        try:
            upstream_writer.write(_request_head(request, address, connection="Upgrade"))
            ways = [
                asyncio.create_task(_pipe(reader, upstream_writer)),
                asyncio.create_task(_pipe(upstream_reader, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            upstream_writer.transport.abort()


async def _open(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Streams to the host of an address, with TLS and the environment's proxy as of every other connection of ours."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(_CONNECT_TIMEOUT.total_seconds()):
        transport = await dial(address, progress=Progress())
    reader = asyncio.StreamReader(limit=_PIPE_BYTES)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_PIPE_BYTES):
        writer.write(data)
        await writer.drain()


async def _read_request(reader: asyncio.StreamReader) -> _Request | None:
    """The head of a request; None when the client has gone. Bodies are not read: no endpoint has one."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise _Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request is too long") from None
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    found = re.fullmatch(r"(GET|PUT|HEAD|POST) (\S+) HTTP/1\.[01]", first)
    if found is None:
        raise _Refusal(HTTPStatus.BAD_REQUEST, "this is no request of HTTP/1.1")
    pairs = [line.partition(":") for line in lines]
    if any(not separator or name != name.strip() for name, separator, _ in pairs):
        raise _Refusal(HTTPStatus.BAD_REQUEST, "a header is malformed")
    request = _Request(found[1], found[2], [(name, value.strip()) for name, _, value in pairs])
    if (request.get("content-length") or "0") != "0" or request.get("transfer-encoding") is not None:
        raise _Refusal(HTTPStatus.BAD_REQUEST, "no endpoint of a browser takes a body")
    return request


def _request_head(request: _Request, address: str, *, connection: str) -> bytes:
    url = urlsplit(address)
    target = urlunsplit(("", "", url.path or "/", url.query, ""))
    lines = [f"{request.method} {target} HTTP/1.1", f"Host: {url.netloc.rpartition('@')[2]}"]
    lines.append(f"Connection: {connection}")
    lines += [f"{name}: {value}" for name, value in request.headers if name.lower() not in _NOT_PASSED]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _head(response: Response) -> bytes:
    status = HTTPStatus(response.status) if response.status in set(HTTPStatus) else HTTPStatus.BAD_GATEWAY
    connection = "close" if status >= HTTPStatus.BAD_REQUEST else "keep-alive"
    kind = response.headers.get("content-type", "text/plain")
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(response.body)}\r\nConnection: {connection}\r\n\r\n"
    ).encode("latin-1")
