"""One connection of the browser: framing, malformed requests and answers, and who leaves first."""

import asyncio
import hashlib
import socket
import struct
from contextlib import asynccontextmanager
from unittest.mock import patch

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdpbridge.server.proxy import ForwardingProxy, _connection, _forwarder
from tests.server.proxy.peers import (
    Client,
    wait_until,
)

MiB = 1024 * 1024


async def test_expect_100_continue_passes(direct, origin):
    async with Client.to(direct) as client:
        await client.send(
            f"POST http://{origin.authority}/echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            "Content-Length: 4\r\n\r\n".encode()
        )
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        await client.send(b"body")
        assert (await client.answer())[2].decode() == hashlib.sha256(b"body").hexdigest()


async def test_an_early_answer_is_not_lost_while_the_request_is_still_sent(direct, origin):
    async with Client.to(direct) as client:
        head = (
            f"POST http://{origin.authority}/early HTTP/1.1\r\nHost: x\r\nContent-Length: {50 * MiB}\r\n\r\n"
        )
        client.writer.write(head.encode() + bytes(4 * MiB))
        assert (await client.answer())[0] == 413


async def test_http_1_0_client_and_a_body_that_ends_by_closing(direct, origin):
    async with Client.to(direct) as client:
        await client.send(f"GET http://{origin.authority}/until-close HTTP/1.0\r\n\r\n".encode())
        answer = await client.reader.read()
    assert answer == b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nall of it"
    async with Client.to(direct) as client:
        assert (await client.get(origin, "/until-close"))[2] == b"all of it"


async def test_a_kept_connection_that_the_server_closed_is_replaced(direct, origin):
    async with Client.to(direct) as client:
        await client.get(origin)
        await client.get(origin)
        assert origin.connections == 1
        for writer in list(origin.open):
            writer.transport.abort()
        await wait_until(lambda: not origin.open)
        assert (await client.get(origin))[0] == 200
        assert origin.connections == 2


@pytest.mark.parametrize("late", [True, False])
async def test_an_answer_nobody_asked_for_is_not_taken_for_the_next_one(direct, origin, late):
    connections = []
    speak = asyncio.Event()

    async def serve(reader, writer):
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        if late:
            await speak.wait()
        writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\n\r\nlate")
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, Client.to(direct) as client, Client.to(direct) as other:
        request = b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % server.sockets[0].getsockname()[1]
        for count in (1, 2):
            await client.send(request)
            assert (await client.answer())[::2] == (200, b"ok")
            assert len(connections) == count
            speak.set()
            await other.get(origin)  # meanwhile the late words arrive


@asynccontextmanager
async def answering(*answers, reset=False):
    """A server that gives each connection the next of `answers`, then ends it; its port, and a list of the requests."""
    left, requests = list(answers), []

    async def serve(reader, writer):
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()
        if reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], requests


def asking(port, method="GET"):
    length = "Content-Length: 0\r\n" if method == "POST" else ""
    return f"{method} http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: x\r\n{length}\r\n".encode()


@pytest.mark.parametrize("reset", [False, True])
async def test_fault_c17_a_server_without_an_answer_leaves_the_browser_without_one(direct, reset):
    async with answering(b"", reset=reset) as (port, _), Client.to(direct) as client:
        await client.send(asking(port))
        if reset:
            with pytest.raises(ConnectionResetError):
                await client.reader.read()
        else:
            assert await client.reader.read() == b""
    assert direct.last_failure is not None
    failure = direct.failures[-1]
    assert (failure.host, failure.port, failure.error) == ("127.0.0.1", port, "connection_terminated")
    assert failure.text == direct.last_failure


async def test_a_request_that_must_not_be_repeated_gets_a_502_where_the_browser_would_repeat_it(
    direct, origin
):
    """Chromium repeats what gets no answer on a connection that was in use before."""
    async with answering(b"") as (port, requests), Client.to(direct) as client:
        await client.get(origin)
        await client.send(asking(port, "POST"))
        status, headers, _ = await client.answer("POST")
        assert (status, headers["proxy-status"]) == (502, "cdpbridge; error=connection_terminated")
        assert len(requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"hi",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000,
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=["two lengths", "no http", "very short", "too large", "nul", "head broke off", "101"],
)
async def test_fault_c17_what_chromium_refuses_it_gets_as_it_came(direct, answer):
    async with answering(answer) as (port, _), Client.to(direct) as client:
        await client.send(asking(port))
        got = await client.reader.read()
    assert got.replace(b"Connection: close\r\n", b"") == answer


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            b"2\r\nok\r\n0\r\n\r\n",
        ),
        (b"\r\nhttp/1.1  200\nContent-Length : 2\nno colon\n\nok and more", b"ok"),
        (b"HTTP/1.1 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok and more", b"ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok and more", b"ok"),
        (b"HTTP/1.1 205 Reset\r\nContent-Length: 2\r\n\r\nok", b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2  \nok\n0\n\n", b"2  \nok\n0\n\n"),
    ],
    ids=["both framings", "lines", "no status", "lists of lengths", "205", "chunk lines"],
)
async def test_fault_c17_behind_an_answer_that_is_not_regular_no_other_one_follows(direct, answer, body):
    """Two readers could disagree where it ends."""
    second = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond"
    async with answering(answer, second) as (port, requests), Client.to(direct) as client:
        await client.send(asking(port) * 2)
        got = await client.reader.read()
    head, _, rest = got.partition(b"\r\n\r\n")
    assert b"chunk" in answer or b"Connection: close" in head
    assert rest == body
    assert len(requests) == 1


async def test_fault_c17_a_site_does_not_speak_for_the_proxy(direct):
    spoken = b"Proxy-Status: cdpbridge; error=dns_error\r\n"
    kept = b"Proxy-Status: other; error=dns_error\r\n"
    answer = b"HTTP/1.1 200 OK\r\n%b%bContent-Length: 0\r\n\r\n"
    async with answering(answer % (spoken, kept)) as (port, _), Client.to(direct) as client:
        await client.send(asking(port))
        client.writer.write_eof()
        assert await client.reader.read() == answer % (b"", kept)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nshort\r\n",
    ],
)
async def test_a_truncated_answer_looks_truncated(direct, answer):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, Client.to(direct) as client:
        port = server.sockets[0].getsockname()[1]
        await client.send(b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % port)
        with pytest.raises((ConnectionResetError, h11.RemoteProtocolError)):
            await client.answer()


@pytest.mark.parametrize("who", ["server", "browser"])
async def test_a_reset_of_one_end_resets_the_other(direct, who):
    streams = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda *pair: streams.set_result(pair), "127.0.0.1", 0)
    async with server, Client.to(direct) as client:
        await client.connect(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        reader, writer = await streams
        leaving, staying = (writer, client.reader) if who == "server" else (client.writer, reader)
        leaving.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        leaving.transport.abort()
        with pytest.raises(ConnectionResetError):
            await staying.read()
        writer.transport.abort()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (
            b"POST http://{} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST http://{} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (b"POST http://{} HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc", 400),
        (b"POST http://{} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (
            b"POST http://{} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
            400,
        ),
        (b"POST http://{} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n", 400),
        (
            b"POST http://{} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
            400,
        ),
        (b"GET http://{} HTTP/1.1\r\nHost: x\r\nA: b\r\n folded\r\n\r\n", 400),
        (b"GET http://{} HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET http://{} HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n", 400),
        (b"GET http://{} HTTP/1.1\r\n\r\n", 400),
        (b"GET http://{} HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: {}\r\n\r\n", 400),
        (b"CONNECT {} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"GET http://{} HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 300_000 + b"\r\n\r\n", 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    ],
)
async def test_refuses_malformed_requests(direct, origin, request_bytes, status):
    async with Client.to(direct) as client:
        await client.send(request_bytes.replace(b"{}", origin.authority.encode()))
        answer = await client.answer()
        assert answer[0] == status
        assert answer[1]["connection"] == "close"
        assert await client.reader.read() == b""
    await wait_until(lambda: len(direct._clients) == 0)
    assert not origin.requests or origin.requests[0].method == "POST"
    assert all(r.body_bytes == 0 for r in origin.requests)


async def test_a_second_request_that_is_malformed_is_refused_too(direct, origin):
    async with Client.to(direct) as client:
        assert (await client.get(origin))[0] == 200
        await client.send(b"GET http://%s/ HTTP/1.1\r\nA: b\r\n c\r\n\r\n" % origin.authority.encode())
        assert (await client.answer())[0] == 400


async def test_pipelined_requests_are_answered_in_order(direct, origin):
    one = "GET http://{0}/bytes/{1} HTTP/1.1\r\nHost: x\r\n\r\n"
    async with Client.to(direct) as client:
        await client.send("".join(one.format(origin.authority, n) for n in (3, 1, 2)).encode())
        received = b""
        while received.count(b"HTTP/1.1 200") < 3 or not received.endswith(b"\0\0"):
            received += await client.reader.read(65536)
    assert [r.target for r in origin.requests] == ["/bytes/3", "/bytes/1", "/bytes/2"]


async def test_the_browser_leaves_while_the_server_is_silent(direct, origin, monkeypatch):
    monkeypatch.setattr(_connection, "HALF_CLOSED_SECONDS", 0.05)
    async with Client.to(direct) as request, Client.to(direct) as tunnel:
        await request.send(f"GET http://{origin.authority}/silent HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await tunnel.connect(origin.authority)
        await tunnel.send(b"GET /silent HTTP/1.1\r\nHost: x\r\n\r\n")
        await wait_until(lambda: len(origin.requests) == 2)
    await wait_until(lambda: len(direct._clients) == 0)
    await wait_until(lambda: not origin.open)


_PIECES = st.sampled_from([
    b"GET ", b"CONNECT ", b"http://127.0.0.1:9/", b"127.0.0.1:9", b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\n", b"\r", b" ", b"\t",
    b"Host: x\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"hello", b"\x00", b"\xff", b":", b"Expect: 100-continue\r\n",
])  # fmt: skip


@settings(max_examples=150)
@given(st.lists(_PIECES | st.binary(max_size=20), max_size=20), st.booleans())
async def test_any_bytes_are_answered_with_an_error_or_dropped(pieces, well_started):
    """Port 9 refuses, so no answer but ours can come, and ours are errors."""
    head = b"POST http://127.0.0.1:9/ HTTP/1.1\r\nHost: x\r\n" if well_started else b""
    with patch.object(_forwarder.logger, "error") as unexpected:
        async with await ForwardingProxy.start(None) as proxy, Client.to(proxy) as client:
            await client.send(head + b"".join(pieces))
            client.writer.write_eof()
            async with asyncio.timeout(60):
                answer = await client.reader.read()
            await wait_until(lambda: len(proxy._clients) == 0)
        assert not unexpected.called
    assert not answer or answer[:10] in {b"HTTP/1.1 4", b"HTTP/1.1 5"}
