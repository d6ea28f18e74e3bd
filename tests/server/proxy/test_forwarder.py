"""The proxy between hand-written clients and real servers, directly and through real third-party proxies."""

import asyncio
import hashlib
import socket
import ssl
import time

import psutil
import pytest

from cdpbridge.errors import ConfigurationError
from cdpbridge.server.proxy import ForwardingProxy
from tests.server.proxy.peers import (
    PASSWORD,
    UPSTREAM_ADDRESS,
    Client,
    running_origin,
    running_pproxy,
    upstream_url,
    wait_until,
)

MiB = 1024 * 1024


@pytest.fixture(params=["direct", "http", "socks5"])
async def any_proxy(request):
    """The proxy on each of its three ways, and the address servers see."""
    if request.param == "direct":
        async with await ForwardingProxy.start(None) as proxy:
            yield proxy, "127.0.0.1"
        return
    async with (
        running_pproxy(request.param) as upstream,
        await ForwardingProxy.start(upstream_url(request.param, upstream.port)) as proxy,
    ):
        yield proxy, UPSTREAM_ADDRESS


# --- through every kind of upstream ---


async def test_the_server_sees_the_upstreams_address(any_proxy, origin):
    proxy, address = any_proxy
    async with Client.to(proxy) as client:
        status, headers, body = await client.get(
            origin, headers="Proxy-Authorization: Basic eDp5\r\nCookie: a=b\r\n"
        )
    assert (status, headers["x-origin"]) == (200, "yes")
    assert f"hello from {address}".encode() in body
    (seen,) = origin.requests
    assert (seen.peer, seen.target, seen.header("cookie")) == (address, "/", ["a=b"])
    assert seen.header("host") == [origin.authority]
    assert not seen.header("proxy-authorization")
    assert not seen.header("proxy-connection")
    assert "proxy-authenticate" not in headers


async def test_connect_carries_bytes_both_ways_and_counts_them(any_proxy, origin):
    proxy, address = any_proxy
    async with Client.to(proxy) as client:
        assert (await client.connect(origin.authority))[0] == 200
        request = f"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {MiB}\r\n\r\n".encode()
        await client.send(request + bytes(MiB))
        status, _, body = await client.answer()
        assert (status, body.decode()) == (200, hashlib.sha256(bytes(MiB)).hexdigest())
    assert origin.requests[0].peer == address
    await wait_until(lambda: len(proxy._clients) == 0)
    assert proxy.bytes_sent == len(request) + MiB
    assert len(body) < proxy.bytes_received < 400  # with the server's own head


async def test_many_requests_on_one_connection_to_different_hosts(any_proxy, origin):
    proxy, address = any_proxy
    async with running_origin() as second, Client.to(proxy) as client:
        for number in range(6):
            where = (origin, second)[number % 2]
            assert (await client.get(where, f"/{number}"))[0] == 200
        body = b"x" * 1000
        await client.send(
            f"POST http://{origin.authority}/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n".encode()
            + body
        )
        assert (await client.answer())[2].decode() == hashlib.sha256(body).hexdigest()
        await client.get(second, "/bytes/5")
        assert [r.target for r in origin.requests] == ["/0", "/2", "/4", "/echo"]
        assert [r.target for r in second.requests] == ["/1", "/3", "/5", "/bytes/5"]
        assert {r.peer for r in origin.requests + second.requests} == {address}
        assert proxy.bytes_sent == 1000
        assert proxy.bytes_received == origin.bytes_out + second.bytes_out


async def test_chunked_bodies_both_ways(any_proxy, origin):
    proxy, _ = any_proxy
    async with Client.to(proxy) as client:
        head = (
            f"POST http://{origin.authority}/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        await client.send(head.encode() + b"5;ext=1\r\nhello\r\n")
        await client.send(b"6\r\n world\r\n0\r\nTrailer: dropped\r\n\r\n")
        status, _, body = await client.answer()
        assert (status, body.decode()) == (200, hashlib.sha256(b"hello world").hexdigest())
        assert proxy.bytes_sent == 11
        status, headers, body = await client.get(origin, "/chunked/200000")
        assert (status, headers["transfer-encoding"], len(body)) == (200, "chunked", 200_000)


async def test_websocket_upgrade_in_absolute_form(any_proxy, origin):
    proxy, _ = any_proxy
    async with Client.to(proxy) as client:
        await client.send(
            f"GET http://{origin.authority}/websocket HTTP/1.1\r\nHost: {origin.authority}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101")
        assert b"upgrade: websocket" in head.lower()
        for _ in range(3):
            await client.send(b"\x81\x05hello")
            assert await client.reader.readexactly(7) == b"\x81\x05hello"
        assert (proxy.bytes_sent, proxy.bytes_received) == (21, 21)


async def test_half_close_lets_the_other_direction_finish(any_proxy):
    """The client ends its direction; the server answers with what it got until then."""
    proxy, _ = any_proxy
    got = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        got.set_result(await reader.read())
        writer.write(b"y" * 100_000)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, Client.to(proxy) as client:
        assert (await client.connect(f"127.0.0.1:{server.sockets[0].getsockname()[1]}"))[0] == 200
        await client.send(b"last words")
        if proxy.upstream is None:  # pproxy closes both directions when one ends
            client.writer.write_eof()
            assert await client.reader.read() == b"y" * 100_000
            assert await got == b"last words"
            assert (proxy.bytes_sent, proxy.bytes_received) == (10, 100_000)
        else:
            await wait_until(lambda: proxy.bytes_sent == 10)
            client.writer.write_eof()
            assert await got == b"last words"


async def test_tls_through_a_tunnel(any_proxy, tls_origin):
    proxy, address = any_proxy
    host, _, port = proxy.address.rpartition(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with Client.to(proxy) as client:
        assert (await client.connect(tls_origin.authority))[0] == 200
        transport = await asyncio.get_running_loop().start_tls(
            client.writer.transport,
            client.writer.transport.get_protocol(),
            context,
            server_hostname="localhost",
        )
        client.reader._transport = transport
        transport.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert address.encode() in (await client.answer())[2]
        transport.abort()
    assert host == "127.0.0.1"
    assert int(port)


# --- B46: credentials ---


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize(
    ("username", "password"),
    [("user", PASSWORD), ("us er@/%", "p:a:s:s"), ("Ürsula", "пароль 密码 %41"), ("u", "?#&=+\"'\\")],
)
async def test_fault_b46_credentials_with_special_characters(scheme, username, password, origin):
    async with (
        running_pproxy(scheme, username, password) as upstream,
        await ForwardingProxy.start(upstream_url(scheme, upstream.port, username, password)) as proxy,
        Client.to(proxy) as client,
    ):
        assert (await client.get(origin))[0] == 200
        assert origin.requests[0].peer == UPSTREAM_ADDRESS


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize("credentials", [True, False])
async def test_fault_b46_refused_credentials_are_a_502_and_never_direct(scheme, credentials, origin, caplog):
    caplog.set_level("DEBUG")
    async with running_pproxy(scheme) as running:
        url = (
            upstream_url(scheme, running.port, "someone", "wrong s3cret")
            if credentials
            else f"{scheme}://127.0.0.1:{running.port}"
        )
        async with await ForwardingProxy.start(url) as proxy:
            for method in ("GET", "CONNECT"):
                async with Client.to(proxy) as client:
                    if method == "GET":
                        status, headers, body = await client.get(origin)
                    else:
                        status, headers, body = await client.connect(origin.authority)
                assert status == 502
                if credentials or scheme == "http":
                    assert b"the upstream proxy refused its credentials" in body
                    assert headers["proxy-status"] == "cdpbridge; error=proxy_configuration_error"
                assert f"{scheme}://127.0.0.1:{running.port}".encode() in body
                assert "proxy-authenticate" not in headers
                for text in (body.decode(), repr(proxy), proxy.last_failure, caplog.text):
                    assert "s3cret" not in text
                    assert "someone" not in text
    assert not origin.requests
    assert not origin.connections


async def test_a_407_of_the_server_itself_does_not_reach_the_browser(direct, origin):
    async with Client.to(direct) as client:
        status, _, body = await client.get(origin, "/status/407")
    assert status == 502
    assert b"407" in body


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_fault_b46_upstream_dies_mid_session(scheme, origin):
    """Open tunnels break, later requests get 502 that names the upstream, and nothing goes around it."""
    async with (
        running_pproxy(scheme) as upstream,
        await ForwardingProxy.start(upstream_url(scheme, upstream.port)) as proxy,
        Client.to(proxy) as tunnel,
        Client.to(proxy) as kept,
        Client.to(proxy) as waiting,
    ):
        await tunnel.connect(origin.authority)
        await tunnel.send(b"GET /bytes/10 HTTP/1.1\r\nHost: x\r\n\r\n")
        await tunnel.answer()
        assert (await kept.get(origin))[0] == 200
        await waiting.send(f"GET http://{origin.authority}/silent HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await wait_until(lambda: len(origin.requests) == 3)
        await upstream.kill()
        try:
            assert await tunnel.reader.read() == b""
        except ConnectionResetError:
            pass
        assert (await waiting.answer())[0] == 502
        for client, method in ((kept, "GET"), (None, "GET"), (None, "CONNECT")):
            async with Client.to(proxy) as fresh:
                who = client or fresh
                answer = await (who.get(origin) if method == "GET" else who.connect(origin.authority))
            assert answer[0] == 502
            assert f"the upstream proxy {scheme}://127.0.0.1:{upstream.port}".encode() in answer[2]
        assert proxy.last_failure.endswith("Connection refused")
    assert len(origin.requests) == 3
    assert {r.peer for r in origin.requests} == {UPSTREAM_ADDRESS}


async def test_fault_b46_counters_are_exact(any_proxy, origin):
    proxy, _ = any_proxy
    body = b"z" * 123_457
    async with Client.to(proxy) as client:
        await client.send(
            f"PUT http://{origin.authority}/x HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        answer = await client.answer()
        downloaded = await client.get(origin, "/bytes/765432")
        await client.get(origin, "/bytes/999", method="HEAD")
    assert (proxy.bytes_sent, proxy.bytes_received) == (len(body), len(answer[2]) + 765_432)
    assert (proxy.bytes_sent, len(downloaded[2])) == (origin.bytes_in, 765_432)


# --- tinyproxy ---


async def test_fault_b46_through_tinyproxy(tinyproxy, origin):
    url = f"http://user:pw.-_x@127.0.0.1:{tinyproxy.port}"
    async with await ForwardingProxy.start(url) as proxy, Client.to(proxy) as client:
        assert (await client.get(origin))[0] == 200
        assert (await client.get(origin, "/bytes/100000"))[0] == 200
        async with Client.to(proxy) as tunnel:
            assert (await tunnel.connect(origin.authority))[0] == 200
            await tunnel.send(b"GET /in-tunnel HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await tunnel.answer())[0] == 200
    assert {r.peer for r in origin.requests} == {UPSTREAM_ADDRESS}
    # An independent word on who forwarded what the page's server saw outside the tunnel.
    assert "tiny" in origin.requests[0].header("via")[0]
    assert not origin.requests[2].header("via")
    assert not origin.requests[0].header("proxy-authorization")


async def test_fault_b46_tinyproxy_refuses_the_password(tinyproxy, origin):
    async with await ForwardingProxy.start(f"http://user:other@127.0.0.1:{tinyproxy.port}") as proxy:
        for method in ("GET", "CONNECT"):
            async with Client.to(proxy) as client:
                status, _, body = await (
                    client.get(origin) if method == "GET" else client.connect(origin.authority)
                )
            assert status == 502
            assert b"the upstream proxy refused its credentials" in body
    assert not origin.connections


# --- the proxy itself ---


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "localhost", "10.0.0.1"])
async def test_listens_on_the_loopback_only(host):
    with pytest.raises(ConfigurationError):
        await ForwardingProxy.start(None, host=host)


async def test_listens_on_a_socket_made_elsewhere(origin):
    made = socket.create_server(("127.0.0.1", 0))
    async with await ForwardingProxy.start(None, sock=made) as proxy, Client.to(proxy) as client:
        assert proxy.address == f"127.0.0.1:{made.getsockname()[1]}"
        assert (await client.get(origin))[0] == 200
    with socket.create_server(("0.0.0.0", 0)) as public, pytest.raises(ConfigurationError):
        await ForwardingProxy.start(None, sock=public)


async def test_listens_on_ipv6():
    try:
        proxy = await ForwardingProxy.start(None, host="::1")
    except OSError:
        pytest.skip("no IPv6 on this machine")
    async with proxy:
        assert proxy.address.startswith("[::1]:")


async def test_repr_names_the_upstream_without_credentials():
    async with await ForwardingProxy.start("http://someone:s3cret@127.0.0.1:9") as proxy:
        assert repr(proxy) == f"ForwardingProxy('{proxy.address}', upstream='http://127.0.0.1:9')"


async def test_close_ends_every_connection_and_frees_the_port(origin):
    proxy = await ForwardingProxy.start(None)
    async with Client.to(proxy) as idle, Client.to(proxy) as tunnel, Client.to(proxy) as waiting:
        await idle.get(origin)
        await tunnel.connect(origin.authority)
        await waiting.send(f"GET http://{origin.authority}/silent HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await wait_until(lambda: len(origin.requests) == 2)
        assert len(proxy._clients) == 3
        async with asyncio.timeout(60):
            await proxy.close()
            await proxy.close()
            for client in (idle, tunnel, waiting):
                try:
                    assert await client.reader.read() == b""
                except ConnectionResetError:
                    pass
    assert len(proxy._clients) == 0
    await wait_until(lambda: not origin.open)
    host, _, port = proxy.address.rpartition(":")
    async with await ForwardingProxy.start(None, host=host, port=int(port)) as again:
        assert again.address == proxy.address


async def test_too_many_connections_are_refused(direct, monkeypatch):
    monkeypatch.setattr("cdpbridge.server.proxy._forwarder._MAX_CLIENTS", 1)
    async with Client.to(direct):
        await wait_until(lambda: len(direct._clients) == 1)
        async with Client.to(direct) as second:
            assert await second.reader.read() == b""
        assert len(direct._clients) == 1


# --- large bodies ---


async def test_fifty_megabytes_both_ways_through_an_upstream(any_proxy, origin):
    proxy, _ = any_proxy
    size = 50 * MiB
    async with Client.to(proxy) as client:
        await client.send(f"GET http://{origin.authority}/bytes/{size} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await client.reader.readuntil(b"\r\n\r\n")
        left = size
        while left:
            left -= len(await client.reader.read(min(left, 65536)))
        head = f"POST http://{origin.authority}/echo HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
        await client.send(head.encode())
        for _ in range(size // 65536):
            await client.send(bytes(65536))
        digest = (await client.answer())[2]
    assert origin.requests[1].body_bytes == size
    assert (proxy.bytes_sent, proxy.bytes_received) == (size, size + len(digest))


@pytest.mark.parametrize("tunnel", [True, False])
async def test_a_slow_reader_holds_the_server_back_and_memory_stays_flat(direct, origin, tunnel):
    size = 50 * MiB
    before = psutil.Process().memory_info().rss
    async with Client.to(direct) as client:
        client.writer.transport.pause_reading()
        target = "/" if tunnel else f"http://{origin.authority}/"
        if tunnel:
            client.writer.transport.resume_reading()
            await client.connect(origin.authority)
            client.writer.transport.pause_reading()
        await client.send(f"GET {target}bytes/{size} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await wait_until(lambda: origin.bytes_out > MiB)
        seen = -1
        deadline = time.monotonic() + 5
        while seen != origin.bytes_out and time.monotonic() < deadline:
            seen = origin.bytes_out
            await asyncio.sleep(0.3)
        assert seen < 30 * MiB  # what the kernel's socket buffers of two connections took
        assert psutil.Process().memory_info().rss - before < 8 * MiB
        client.writer.transport.resume_reading()
        await client.reader.readuntil(b"\r\n\r\n")
        left = size
        while left:
            left -= len(await client.reader.read(min(left, 65536)))
    assert origin.bytes_out == size
