"""`LoopbackHTTP`: requests to a server of `local()`, without httpx, whose import takes longer than the server's answer.

Only what such a server needs: one address, HTTP/1.1 without TLS, answers that fit into memory. Files go through httpx. What fails is
raised as httpx's errors, which are loaded then.
"""

from __future__ import annotations

import asyncio
import json
import select
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, urlencode, urlsplit

import h11

from ._http import http_options, readable_environment
from ._httpx import httpx

__all__ = ["LoopbackAnswer", "LoopbackHTTP"]

# Below the server's own time for an idle connection, so that a request does not meet its end.
_IDLE_SECONDS: Final = 4.0
_MOST_IDLE: Final = 20
_HEAD_BYTES: Final = 64 * 1024
# RFC 3986, section 3.3, and what is encoded already.
_SAFE: Final = "/%:@!$&'()*+,;=~"
_WITH_BODY: Final = frozenset({"PATCH", "POST", "PUT"})


class Headers(dict[str, str]):
    """Headers of an answer; names in any case."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


@dataclass(frozen=True, slots=True)
class LoopbackAnswer:
    """An answer, with the names of `httpx.Response`."""

    status_code: int
    headers: Headers = field(repr=False)
    content: bytes = field(repr=False)

    def json(self) -> Any:
        """Return the body's value.

        Raises:
            ValueError: It is no JSON.
        """
        return json.loads(self.content)


class LoopbackHTTP:
    """Connections to one server on this machine: `request` as of `httpx.AsyncClient`, and a whole one of these for files.

    Args:
        base_url: `http://127.0.0.1:PORT/...`.
    """

    def __init__(self, base_url: str) -> None:
        address = urlsplit(base_url)
        self._host, self._port = address.hostname or "", address.port or 80
        self._netloc = address.netloc
        self._base_url = base_url
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._stack = AsyncExitStack()
        self._whole: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._idle.clear()
        # Sockets are closed in the next turn of the loop.
        await asyncio.sleep(0)
        await self._stack.aclose()

    async def whole(self) -> httpx.AsyncClient:
        """Return a client for what is no request of the API.

        Raises:
            ConfigurationError: The environment's certificates cannot be used.
        """
        if self._whole is None:
            with readable_environment():
                self._whole = httpx.AsyncClient(**http_options(self._base_url))
            await self._stack.enter_async_context(self._whole)
        return self._whole

    async def request(
        self,
        *,
        method: str,
        url: str,
        headers: Mapping[str, str],
        timeout: tuple[float, float, float, float],  # as httpx's
        follow_redirects: bool,  # never
        params: Mapping[str, Any] | None = None,
        content: bytes | None = None,
    ) -> LoopbackAnswer:
        """Send a request and return its answer.

        Args:
            timeout: To connect and for the answer, seconds; the others are httpx's.

        Raises:
            httpx.TransportError: There was none.
        """
        address = urlsplit(url)
        query = "&".join(part for part in (quote(address.query, safe=f"{_SAFE}?"), _query(params)) if part)
        target = quote(address.path, safe=_SAFE) + (f"?{query}" if query else "")
        given = {"Host": self._netloc, **headers}
        if content is not None or method in _WITH_BODY:
            given["Content-Length"] = str(len(content or b""))
        request = h11.Request(method=method, target=target, headers=list(given.items()))
        try:
            connection = await self._connected(timeout[0])
        except TimeoutError as error:
            raise httpx.ConnectTimeout("", request=httpx.Request(method, url)) from error
        except OSError as error:
            raise httpx.ConnectError(str(error), request=httpx.Request(method, url)) from error
        self._busy.add(connection)
        try:
            async with asyncio.timeout(timeout[1]):
                answer = await connection.exchange(request, content)
        except TimeoutError as error:
            raise httpx.ReadTimeout("", request=httpx.Request(method, url)) from error
        except h11.RemoteProtocolError as error:
            raise httpx.RemoteProtocolError(str(error), request=httpx.Request(method, url)) from error
        except OSError as error:
            raise httpx.ReadError(str(error), request=httpx.Request(method, url)) from error
        finally:
            self._busy.discard(connection)
            if connection.reusable and len(self._idle) < _MOST_IDLE:
                self._idle.append(connection)
            else:
                connection.close()
        return answer

    async def _connected(self, seconds: float) -> _Connection:
        """Return a connection that carries no request: the one used last, which is the least likely to be closed."""
        loop = asyncio.get_running_loop()
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and loop.time() - connection.idle_since < _IDLE_SECONDS:
                return connection
            connection.close()
        async with asyncio.timeout(seconds):
            _, connection = await loop.create_connection(_Connection, self._host, self._port)
        return connection


def _query(params: Mapping[str, Any] | None) -> str:
    return urlencode(params, doseq=True) if params else ""


class _Connection(asyncio.Protocol):
    """One connection: a request, then its answer, then perhaps the next request."""

    def __init__(self) -> None:
        self.idle_since = 0.0
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[LoopbackAnswer] | None = None
        self._head: h11.Response | None = None
        self._body = bytearray()

    @property
    def reusable(self) -> bool:
        """True if the next request may be sent."""
        if self._transport is None or self._transport.is_closing():
            return False
        return self._http.our_state is h11.IDLE and self._http.their_state is h11.IDLE and not self._has_input

    @property
    def _has_input(self) -> bool:
        """True if bytes, or the end, wait that the loop has not read yet: no request was sent, so the server closes it."""
        assert self._transport is not None
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    async def exchange(self, request: h11.Request, content: bytes | None) -> LoopbackAnswer:
        """Send a request; return its answer.

        Raises:
            OSError: The connection broke.
            h11.RemoteProtocolError: What came is no answer, or not all of one.
        """
        assert self._transport is not None
        parts = [self._http.send(request)]
        if content:
            parts.append(self._http.send(h11.Data(data=content)))
        parts.append(self._http.send(h11.EndOfMessage()))
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(b"".join(part for part in parts if part))
        return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._http.receive_data(data)
            self._read()
        except h11.RemoteProtocolError as error:
            self._fail(error)

    def eof_received(self) -> None:
        self.data_received(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionResetError("the server has closed the connection"))

    def _read(self) -> None:
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Response):
                self._head = event
            elif isinstance(event, h11.Data):
                self._body += event.data
            elif isinstance(event, h11.EndOfMessage):
                self._finish()
            elif event is h11.NEED_DATA or event is h11.PAUSED:
                return
            elif isinstance(event, h11.ConnectionClosed):
                self.close()
                return

    def _finish(self) -> None:
        assert self._head is not None
        headers = Headers(
            {name.decode("latin-1"): value.decode("latin-1") for name, value in self._head.headers}
        )
        answer = LoopbackAnswer(self._head.status_code, headers, bytes(self._body))
        self._head = None
        self._body.clear()
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self.idle_since = asyncio.get_running_loop().time()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def _fail(self, error: Exception) -> None:
        self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
