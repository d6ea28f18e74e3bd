"""Fault D11: request heads without end, on a real server."""

import asyncio
import re

import pytest

pytestmark = [
    pytest.mark.one_build("limits of the server's own port"),
    pytest.mark.chromium,
    pytest.mark.timeout(300),
]

MIB = 2**20
ENDLESS = {
    "a header": (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ", b"a" * 65_536),
    "an address": (b"GET /", b"a" * 65_536),
    "a method": (b"", b"G" * 65_536),
    "a header's name": (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"x" * 65_536),
    "headers": (b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"x: y\r\n" * 10_000),
    "empty lines": (b"", b"\r\n" * 32_768),
    "an upgrade of the gateway": (
        b"GET /cdp/x HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: ",
        b"a" * 65_536,
    ),
    "an upgrade of the live view": (
        b"GET /live/socket HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
        b"x: y\r\n" * 10_000,
    ),
    "after keep-alive": (
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ",
        b"a" * 65_536,
    ),
    "trailers": (
        b"POST /console/sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        b"x: y\r\n" * 10_000,
    ),
    "a trailer": (
        b"POST /console/sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
        b"a" * 65_536,
    ),
    "a chunk's extension": (
        b"POST /console/sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x=",
        b"a" * 65_536,
    ),
}


def statuses_of(answers):
    return re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)


async def flood(peer, piece, most):
    """Send up to `most` bytes; how many the server took before it closed."""
    sent = 0
    while sent < most and await peer.send(piece):
        sent += len(piece)
    return sent


async def test_fault_d11_heads_that_do_not_end_are_refused_and_memory_stays(spawn_server, attack):
    async with spawn_server() as server:
        target = attack(server)
        assert await target.serves()
        before = target.rss()
        for name, (head, piece) in ENDLESS.items():
            peer = await target.connect(head)
            flooding = asyncio.create_task(flood(peer, piece, 64 * MIB))
            answer = await peer.answer()
            sent = await flooding
            assert sent < 64 * MIB, name
            statuses = statuses_of(answer)
            before_it = [b"200"] if name == "after keep-alive" else []
            # Fewer when a reset took the answers away from a peer that went on sending.
            assert statuses in ([], before_it, [*before_it, b"431"], [*before_it, b"400"]), (
                name,
                answer[:300],
            )
        assert await target.serves()
        assert target.rss() - before < 24
        _, errors = await server.end()
        assert "Traceback" not in errors


async def test_fault_d11_large_headers_and_a_million_headers(spawn_server, attack):
    cases = [
        (["X: " + "a" * 60_000], 200, b""),
        (["X: " + "a" * 70_000], 431, b"65536 bytes"),
        (["X: " + "a" * 250_000], 431, b"65536 bytes"),
        ([f"X-{number}: y" for number in range(150)], 200, b""),
        ([f"X-{number}: y" for number in range(300)], 431, b"more than 200 headers"),
        (["x: y"] * 1_000_000, 431, b"more than 200 headers"),
    ]
    async with spawn_server() as server:
        target = attack(server)
        before = target.rss()
        for fields, expected, words in cases:
            peer = await target.connect()
            sending = asyncio.create_task(
                peer.send(target.head("GET /healthz", *fields, "Connection: close"))
            )
            answer = await peer.answer()
            await sending
            if len(fields) < 1_000_000 or answer:  # a reset can take it away
                assert statuses_of(answer) == [str(expected).encode()]
                assert words in answer
                assert b"no-store" in answer
                assert b"nosniff" in answer
        assert target.rss() - before < 24


async def test_trailers_are_no_headers(spawn_server, attack):
    """Else a trailer could bring a key, or a Host, behind the checks."""
    async with spawn_server() as server:
        target = attack(server)
        head = target.head("POST /api/v2/browsers", "Transfer-Encoding: chunked", "Connection: close")
        peer = await target.connect(head + b"2\r\n{}\r\n0\r\nX-Browser-Use-API-Key: key-of-tests\r\n\r\n")
        assert (await peer.answer()).startswith(b"HTTP/1.1 401 ")


async def test_pipelined_requests_are_answered_in_order_and_not_without_end(spawn_server, attack):
    async with spawn_server() as server:
        target = attack(server)
        both = target.head("GET /healthz") + target.head("GET /nothing")
        peer = await target.connect(both * 8 + target.head("GET /healthz", "Connection: close"))
        answer = await peer.answer()
        statuses = statuses_of(answer)
        assert statuses == [b"200", b"404"] * 8 + [b"200"]
        before = target.rss()
        peer = await target.connect()
        sending = asyncio.create_task(flood(peer, target.head("GET /healthz") * 5000, 16 * MIB))
        answer = await peer.answer()
        await sending
        assert answer.count(b"HTTP/1.1 200 ") < 1000
        assert target.rss() - before < 24
        assert await target.serves()


async def test_a_websocket_does_not_begin_while_another_request_is_answered(spawn_server, attack):
    async with spawn_server() as server:
        target = attack(server)
        peer = await target.connect(target.head("GET /readyz") + target.upgrade("/live/socket"))
        answer = await peer.answer()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"HTTP/1.1 101 " not in answer
