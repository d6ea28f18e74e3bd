"""Requests to a server of `local()` without httpx: against a peer that answers by script, since a real server shows no such faults."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager

import httpx
import pytest

from cdpbridge.api import AsyncClient, Call
from cdpbridge.api import _async_io as io
from cdpbridge.api._loopback_http import LoopbackHTTP
from cdpbridge.errors import APIConnectionError, APITimeoutError, NotFoundError
from tests.cases import cases
from tests.conftest import clean_environment, until

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-One: a\r\nContent-Length: 2\r\n\r\n{}"
TIMES = (60.0, 60.0, 60.0, 60.0)


class Peer:
    """A server that gives its answers in turn; None closes the connection instead.

    Attributes:
        requests: Their bytes, one entry a request.
        connections: How many were made.
    """

    def __init__(self, *answers: bytes | None, closes: bool = False) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.connections = 0
        self.ended = 0
        self._closes = closes

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length")), 0
                )
                self.requests.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0)
                if answer is None:
                    return
                writer.write(answer)
                if self._closes:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.ended += 1
            writer.close()


@asynccontextmanager
async def talking(*answers: bytes | None, closes: bool = False):
    peer = Peer(*answers, closes=closes)
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with LoopbackHTTP(f"http://127.0.0.1:{port}/api/v2") as http:

            async def ask(method="GET", path="/x", **options):
                given = {"headers": {"Accept": "a"}, "timeout": TIMES, "follow_redirects": False} | options
                return await http.request(method=method, url=f"http://127.0.0.1:{port}/api/v2{path}", **given)

            yield peer, ask
        await until(lambda: peer.ended == peer.connections)
    finally:
        server.close()
        await server.wait_closed()


async def test_requests_one_after_the_other_take_one_connection():
    async with talking(OK, OK) as (peer, ask):
        first = await ask(params={"page": "1", "to": ["a b", "ü"]})
        assert (first.status_code, first.content, first.json()) == (200, b"{}", {})
        assert first.headers.get("x-one") == first.headers["X-ONE"] == "a"
        assert "X-oNe" in first.headers
        assert first.headers.get("X-Two") is None
        await ask("POST", "/ü?a=b c", content=b'{"a": 1}')
    assert peer.connections == 1
    assert peer.requests[0].startswith(b"GET /api/v2/x?page=1&to=a+b&to=%C3%BC HTTP/1.1\r\nHost: 127.0.0.1:")
    assert peer.requests[1].startswith(b"POST /api/v2/%C3%BC?a=b%20c HTTP/1.1\r\n")
    assert peer.requests[1].endswith(b'Content-Length: 8\r\n\r\n{"a": 1}')


async def test_requests_at_once_take_a_connection_each():
    async with talking(OK, OK, OK, OK) as (peer, ask):
        await asyncio.gather(ask(), ask("POST"), ask())
        assert peer.connections == 3
        await ask()
        assert peer.connections == 3
    assert any(b"Content-Length: 0\r\n" in request for request in peer.requests)


async def test_an_answer_in_chunks_and_byte_by_byte():
    chunked = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
    async with talking(b"HTTP/1.1 100 Continue\r\n\r\n" + chunked, OK) as (peer, ask):
        answer = await ask()
        assert (answer.status_code, answer.content) == (201, b"{}")
        await ask()
    assert peer.connections == 1


async def test_a_connection_that_the_server_closes_is_not_used_again():
    closing = OK.replace(b"X-One: a", b"Connection: close")
    async with talking(closing, OK, OK, closes=True) as (peer, ask):
        await ask()
        await ask()
        await until(lambda: peer.ended == 2)
        await ask()
    assert peer.connections == 3


@cases(
    ("answer", "error"),
    [
        (None, httpx.TransportError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", httpx.RemoteProtocolError),
        (b"SSH-2.0-OpenSSH\r\n\r\n", httpx.RemoteProtocolError),
    ],
)
async def test_a_broken_answer_is_an_error_of_httpx(answer, error):
    async with talking(answer, OK, closes=True) as (_, ask):
        with pytest.raises(error) as raised:
            await ask()
        assert raised.value.request.url.path == "/api/v2/x"
        assert (await ask()).status_code == 200


async def test_no_answer_in_time_and_a_cancelled_request_close_their_connections():
    async with talking(b"", b"", OK) as (peer, ask):
        with pytest.raises(httpx.ReadTimeout):
            await ask(timeout=(60.0, 0.01, 60.0, 60.0))
        waiting = asyncio.ensure_future(ask())
        await until(lambda: len(peer.requests) == 2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await until(lambda: peer.ended == 2)
        assert (await ask()).status_code == 200


async def test_a_server_that_does_not_run():
    async with talking() as (_, ask):
        pass
    with pytest.raises(httpx.ConnectError):
        await ask()


class _Embedded(AsyncClient):
    """A client whose requests take the way of `local()`, to a peer."""

    def __init__(self, base_url: str) -> None:
        super().__init__("key-of-tests", base_url, max_retries=0)

    async def _open(self) -> io.AnyHTTP:
        if self._http is None:
            self._http = await self._resources.enter_async_context(
                io.own_http(self.base_url, is_embedded=True)
            )
        return self._http


async def test_its_failures_are_the_client_s_errors(monkeypatch):
    missing = b'HTTP/1.1 404 Not Found\r\nContent-Length: 17\r\n\r\n{"detail":"none"}'
    call = Call("GET", "/browsers/stats", dict[str, int])
    peer = Peer(missing, None, b"")
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with _Embedded(f"http://127.0.0.1:{port}/api/v2") as client:
        with pytest.raises(NotFoundError, match="none"):
            await client.send(call)
        with pytest.raises(APIConnectionError, match=f"the connection broke: http://127.0.0.1:{port}"):
            await client.send(call)
        monkeypatch.setattr(client._requests, "timeout_seconds", 0.01)
        with pytest.raises(APITimeoutError, match="no answer in time"):
            await client.send(call)
        server.close()
        with pytest.raises(APIConnectionError, match="does the server run"):
            await client.send(call)
    await until(lambda: peer.ended == peer.connections)


PROGRAM = """
import sys
import cdpbridge
cdpbridge.open_browser(cdpbridge.local(data_dir="nowhere"))
print(*sorted({name for name in sys.modules} & {"cdpbridge.api._models", "h11", "httpx", "msgspec", "pydantic", "websockets"}))
"""


def test_a_rental_from_local_loads_models_and_connections_while_the_server_starts():
    """The hello, with which the server starts a browser, does not wait for them; nor does the first request wait for httpx."""
    command = [sys.executable, "-c", PROGRAM]
    ran = subprocess.run(
        command, env=clean_environment(), capture_output=True, text=True, timeout=280, check=True
    )
    assert ran.stdout == "\n"
