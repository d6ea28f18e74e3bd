"""Ways to the internet that fail, handshakes byte by byte, and the address filter."""

import asyncio
import socket
from datetime import timedelta

import pytest

from cdpbridge.server.proxy import ForwardingProxy, Rules, Upstream
from cdpbridge.server.proxy._dial import Link
from tests.server.proxy.peers import (
    PASSWORD,
    USERNAME,
    Client,
    basic,
    running_pproxy,
    upstream_url,
)

MiB = 1024 * 1024


@pytest.mark.parametrize("method", ["GET", "CONNECT"])
async def test_a_refused_connection_names_the_server(direct, method, unused_tcp_port):
    async with Client.to(direct) as client:
        where = f"127.0.0.1:{unused_tcp_port}"
        target = where if method == "CONNECT" else f"http://{where}/"
        await client.send(f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        status, headers, body = await client.answer(method)
    assert status == 502
    assert body.decode() == f"the server {where} could not be reached: Connection refused\n"
    assert headers["proxy-status"] == "cdpbridge; error=connection_refused"


async def test_a_failed_head_request_has_no_body(direct, unused_tcp_port):
    async with Client.to(direct) as client:
        await client.send(b"HEAD http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % unused_tcp_port)
        answer = await client.reader.read()
    assert answer.startswith(b"HTTP/1.1 502")
    assert answer.endswith(b"\r\n\r\n")


async def test_an_unknown_name_is_a_502(direct):
    async with Client.to(direct) as client:
        await client.send(b"CONNECT no-such-host.invalid:443 HTTP/1.1\r\nHost: x\r\n\r\n")
        status, headers, _ = await client.answer("CONNECT")
    assert (status, headers["proxy-status"]) == (502, "cdpbridge; error=dns_error")


@pytest.mark.parametrize("name", ["a..b.invalid", "x" * 64 + ".invalid", "-.invalid"])
async def test_fault_c18_names_that_no_resolver_takes_are_a_502(direct, name):
    async with Client.to(direct) as client:
        await client.send(f"GET http://{name}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        status, headers, _ = await client.answer()
    assert (status, headers["proxy-status"]) == (502, "cdpbridge; error=dns_error")


@pytest.mark.parametrize("host", ["bücher.invalid", "ü..invalid"])
async def test_fault_c18_upstreams_may_have_names_of_any_language(host):
    async with await ForwardingProxy.start(f"http://{host}:1") as proxy, Client.to(proxy) as client:
        status, headers, _ = await client.connect("example.com:443")
    assert (status, headers["proxy-status"]) == (502, "cdpbridge; error=dns_error")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_fault_c18_names_below_localhost_are_localhost_for_an_upstream(scheme, origin):
    async with (
        running_pproxy(scheme) as upstream,
        await ForwardingProxy.start(upstream_url(scheme, upstream.port)) as proxy,
    ):
        for name in ("app.localhost", "a.b.localhost."):
            async with Client.to(proxy) as client:
                await client.send(
                    f"GET http://{name}:{origin.port}/ HTTP/1.1\r\nHost: {name}:{origin.port}\r\n\r\n".encode()
                )
                assert (await client.answer())[0] == 200
            assert origin.requests[-1].header("host") == [f"{name}:{origin.port}"]
            async with Client.to(proxy) as client:
                assert (await client.connect(f"{name}:{origin.port}"))[0] == 200


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_an_upstream_that_never_answers_is_a_504(scheme):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://user:secret@127.0.0.1:{silent.getsockname()[1]}"
        limit = timedelta(milliseconds=200)
        async with (
            await ForwardingProxy.start(url, connect_timeout=limit) as proxy,
            Client.to(proxy) as client,
        ):
            status, _, body = await client.connect("example.com:443")
    assert status == 504
    assert b"did not answer within 0.2 s" in body
    assert b"secret" not in body


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize(
    "answer", [b"", b"nonsense, and not even the right nonsense\r\n\r\n", b"HTTP/1.1 403 No\r\n\r\n"]
)
async def test_an_upstream_that_talks_nonsense_is_a_502(scheme, answer):
    async def serve(reader, writer):
        await reader.read(65536)
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with await ForwardingProxy.start(url) as proxy, Client.to(proxy) as client:
            status, _, body = await client.connect("example.com:443")
    assert status == 502
    assert b"the upstream proxy" in body


async def test_socks5_errors_are_named(unused_tcp_port):
    async def serve(reader, writer):
        await reader.readexactly(3)
        writer.write(b"\x05\x00")
        await reader.readexactly(7 + len("example.com"))
        writer.write(b"\x05\x05\x00\x01\0\0\0\0\0\0")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"socks5://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with await ForwardingProxy.start(url) as proxy, Client.to(proxy) as client:
            status, _, body = await client.connect("example.com:443")
    assert status == 502
    assert b"could not reach example.com:443: connection refused" in body


@pytest.mark.parametrize("kind", [1, 3, 4])
async def test_socks5_names_travel_as_names_and_every_bound_address_is_read(kind):
    asked = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        await reader.readexactly(3)
        writer.write(b"\x05\x00")
        asked.set_result(await reader.readexactly(4 + 1 + 11 + 2))
        bound = {1: b"\1\0\0\0\0", 3: b"\3\4name", 4: b"\4" + bytes(16)}[kind]
        writer.write(b"\x05\x00\x00" + bound + b"\0\0" + b"server speaks first")
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"socks5://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with await ForwardingProxy.start(url) as proxy, Client.to(proxy) as client:
            _, _, first = await client.connect("example.com:443")
            first += await client.reader.readexactly(19 - len(first))
            assert first == b"server speaks first"
            assert (await asked)[4:] == b"\x0bexample.com\x01\xbb"
            assert proxy.bytes_received == 19


async def test_bytes_right_behind_the_connect_answer_belong_to_the_tunnel():
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nserver speaks first")
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with await ForwardingProxy.start(url) as proxy, Client.to(proxy) as client:
            _, _, first = await client.connect("example.com:25")
            first += await client.reader.readexactly(19 - len(first))
            assert (first, proxy.bytes_received) == (b"server speaks first", 19)


async def test_the_upstream_gets_our_credentials_and_the_absolute_target():
    asked = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        asked.set_result((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        upstream = Upstream("http", "127.0.0.1", server.sockets[0].getsockname()[1], USERNAME, PASSWORD)
        async with await ForwardingProxy.start(upstream) as proxy, Client.to(proxy) as client:
            await client.send(
                b"GET http://example.com/a?b HTTP/1.1\r\nHost: liar\r\nProxy-Authorization: Basic bm8=\r\n"
                b"Proxy-Connection: keep-alive\r\n\r\n"
            )
            assert (await client.answer())[0] == 204
    lines = (await asked).split("\r\n")
    assert lines[:2] == ["GET http://example.com/a?b HTTP/1.1", "Host: example.com"]
    assert sorted(line for line in lines if "roxy" in line) == [
        f"Proxy-Authorization: {basic(USERNAME, PASSWORD)}"
    ]


async def test_the_next_address_is_tried(direct, origin, monkeypatch):
    async def getaddrinfo(host, port, **_):
        assert host == "two.example"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in ("127.0.0.9", "127.0.0.1")]

    real = asyncio.open_connection
    dialled = []

    async def open_connection(host, port):
        dialled.append(host)
        return await real(sock=socket.create_connection((host, port)))  # past the patched resolver

    async with Client.to(direct) as client:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        monkeypatch.setattr("cdpbridge.server.proxy._dial.asyncio.open_connection", open_connection)
        assert (await client.connect(f"two.example:{origin.port}"))[0] == 200
        monkeypatch.undo()
    assert dialled == ["127.0.0.9", "127.0.0.1"]


# --- the address filter ---


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "169.254.169.254",
        "10.0.0.1",
    ],
)
@pytest.mark.parametrize("method", ["GET", "CONNECT"])
async def test_deny_private_refuses_every_spelling(host, method, origin):
    async with (
        await ForwardingProxy.start(None, rules=Rules(private=False)) as proxy,
        Client.to(proxy) as client,
    ):
        where = f"{host}:{origin.port}"
        target = where if method == "CONNECT" else f"http://{where}/"
        await client.send(f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        status, headers, _ = await client.answer(method)
    assert (status, headers["proxy-status"]) == (403, "cdpbridge; error=destination_ip_prohibited")
    assert not origin.connections


async def test_deny_private_resolves_once_and_dials_what_it_checked(origin, monkeypatch):
    """A name server that answers with a private address, alone, mixed, and only the second time."""
    answers = []
    dialled = []

    async def getaddrinfo(host, port, **_):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answers.pop(0)]

    async def open_connection(host, port):
        dialled.append(host)
        raise ConnectionRefusedError(111, "refused")

    loop = asyncio.get_running_loop()
    async with await ForwardingProxy.start(None, rules=Rules(private=False)) as proxy:
        for script, status, expected in (
            ([["127.0.0.1"]], 403, []),
            ([["10.0.0.1", "169.254.169.254"]], 403, []),
            ([["10.0.0.1", "8.8.8.8"]], 502, ["8.8.8.8"]),
            ([["1.1.1.1"], ["127.0.0.1"]], 502, ["1.1.1.1"]),
        ):
            answers[:], dialled[:] = script, []
            async with Client.to(proxy) as client:
                with monkeypatch.context() as patch:
                    patch.setattr(loop, "getaddrinfo", getaddrinfo)
                    patch.setattr("cdpbridge.server.proxy._dial.asyncio.open_connection", open_connection)
                    assert (await client.connect(f"rebind.example:{origin.port}"))[0] == status
            assert dialled == expected


async def test_deny_private_with_an_upstream_refuses_addresses_before_they_get_there(http_upstream, origin):
    url = upstream_url("http", http_upstream.port)
    async with (
        await ForwardingProxy.start(url, rules=Rules(private=False)) as proxy,
        Client.to(proxy) as client,
    ):
        assert (await client.get(origin))[0] == 403
    assert not origin.connections


async def test_a_connection_that_its_server_has_closed_already_is_one_whose_first_read_ends():
    """uvloop: a transport that is closed has no socket any more."""

    class Closed(asyncio.Transport):
        def get_extra_info(self, name, default=None):
            return None

        def is_closing(self):
            return True

        def close(self):
            pass

    reader = asyncio.StreamReader()
    reader.feed_eof()
    writer = asyncio.StreamWriter(
        Closed(), asyncio.StreamReaderProtocol(reader), reader, asyncio.get_running_loop()
    )
    assert await Link(reader, writer, "the server").read() == b""
