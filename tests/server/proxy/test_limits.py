"""Rules that are replaced while the forwarder runs, its own ports, and upstreams that a client has named."""

import asyncio
import socket

import pytest

from cdpbridge.server.proxy import ForwardingProxy, Rules, UserPorts
from cdpbridge.server.proxy._route import Route
from cdpbridge.testing import ManualClock
from tests.server.proxy.peers import Client, running_origin, upstream_url, wait_until


async def closed(client):
    try:
        return await client.reader.read() == b""
    except ConnectionResetError:
        return True


async def upgraded(client, origin):
    """A WebSocket through the proxy, as a page's is when it is not encrypted."""
    await client.send(
        f"GET http://{origin.authority}/websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\n\r\n".encode()
    )
    assert b" 101 " in await client.reader.readuntil(b"\r\n\r\n")


async def test_new_rules_close_what_they_refuse_and_nothing_else(origin, tls_origin):
    async with (
        running_origin(host="127.0.0.2") as kept,
        await ForwardingProxy.start(None) as proxy,
        Client.to(proxy) as tunnel,
        Client.to(proxy) as websocket,
        Client.to(proxy) as answer,
        Client.to(proxy) as idle,
        Client.to(proxy) as other,
    ):
        assert (await tunnel.connect(tls_origin.authority))[0] == 200
        await upgraded(websocket, origin)
        await answer.send(f"GET http://{origin.authority}/silent HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert (await idle.get(origin))[0] == 200
        await upgraded(other, kept)
        await wait_until(lambda: any(request.target == "/silent" for request in origin.requests))
        assert proxy.apply(Rules(allowed_hosts=[kept.host])) == 3
        assert await asyncio.gather(closed(tunnel), closed(websocket), closed(answer)) == [True] * 3
        await wait_until(lambda: not tls_origin.open)
        await other.send(b"still there")
        assert await other.reader.readexactly(11) == b"still there"
        # The connection to the server that was kept for the next request is not used any more.
        before = len(origin.requests)
        status, headers, body = await idle.get(origin)
        assert (status, headers["proxy-status"]) == (403, "cdpbridge; error=http_request_denied")
        assert origin.host.encode() in body
        assert len(origin.requests) == before
        assert proxy.apply(Rules()) == 0
        async with Client.to(proxy) as again:
            assert (await again.get(origin))[0] == 200


async def test_rules_that_are_replaced_while_a_name_is_resolved(origin, monkeypatch):
    asked, go = asyncio.Event(), asyncio.Event()

    async def getaddrinfo(host, port, **_):
        asked.set()
        await go.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async with await ForwardingProxy.start(None) as proxy, Client.to(proxy) as client:
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
            answer = asyncio.create_task(client.connect(f"slow.example:{origin.port}"))
            await asked.wait()
            proxy.apply(Rules(private=False))
            go.set()
            assert (await answer)[0] == 403


async def test_fault_d06_localhost_needs_no_resolver(origin, monkeypatch):
    async def getaddrinfo(host, port, **_):
        raise AssertionError(f"{host} was resolved")

    async with await ForwardingProxy.start(None) as proxy, Client.to(proxy) as client:
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
            patch.setattr("cdpbridge.server.proxy._resolver.LOOPBACK_ADDRESSES", ("127.0.0.1",))
            assert (await client.connect(f"app.localhost:{origin.port}"))[0] == 200


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "127.0.0.2", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"]
)
async def test_fault_d05_own_ports_are_closed_even_where_private_addresses_are_open(host, origin):
    ports = {origin.port}
    async with await ForwardingProxy.start(None, own_ports=ports) as proxy:
        async with Client.to(proxy) as client:
            status, headers, body = await client.get(type(origin)(host=host, port=origin.port))
        assert (status, headers["proxy-status"]) == (403, "cdpbridge; error=destination_ip_prohibited")
        assert b"port of the server" in body
        assert not origin.connections
        ports.clear()
        async with Client.to(proxy) as client:
            assert (await client.get(origin))[0] == 200


async def test_fault_d05_own_ports_are_closed_through_an_upstream_on_this_machine(http_upstream, origin):
    url = upstream_url("http", http_upstream.port)
    async with await ForwardingProxy.start(url, own_ports={origin.port}) as proxy:
        for host in ("127.0.0.1", "2130706433", "localhost"):
            async with Client.to(proxy) as client:
                assert (await client.get(type(origin)(host=host, port=origin.port)))[0] == 403
    assert not origin.connections


async def test_an_operator_may_open_an_own_port(origin):
    rules = Rules(private=False, private_allowed=[origin.authority])
    async with (
        await ForwardingProxy.start(None, own_ports={origin.port}, rules=rules) as proxy,
        Client.to(proxy) as client,
    ):
        assert (await client.get(origin))[0] == 200


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_fault_d07_the_upstream_of_a_client_is_dialled_under_the_rules(
    scheme, http_upstream, socks_upstream, origin, monkeypatch
):
    upstream = http_upstream if scheme == "http" else socks_upstream
    url = upstream_url(scheme, upstream.port)
    closed_rules = Rules(private=False)
    public = "203.0.113.9.example"  # a public target: only the upstream is private

    async def status(url, rules, **options):
        async with (
            await ForwardingProxy.start(url, rules=rules, **options) as proxy,
            Client.to(proxy) as client,
        ):
            return (await client.connect(f"{public}:443"))[0], proxy.last_failure

    # The operator's own may be anywhere: what fails or not then is the upstream's matter.
    assert (await status(url, closed_rules))[0] != 403
    code, why = await status(url, closed_rules, trusted_upstream=False)
    assert (code, "private address" in why) == (403, True)
    # A name that resolves there, and that would resolve elsewhere the second time.
    answers = [["127.0.0.1"], ["8.8.8.8"]]

    async def getaddrinfo(host, port, **_):
        assert host == "upstream.example"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in answers.pop(0)]

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        named = url.replace("127.0.0.1", "upstream.example")
        assert (await status(named, closed_rules, trusted_upstream=False))[0] == 403
    assert answers == [["8.8.8.8"]]
    # Ports of this server, whatever the rules say; and everything else works where private addresses are open.
    code, why = await status(url, Rules(), trusted_upstream=False, own_ports={upstream.port})
    assert (code, "port of the server" in why) == (403, True)
    async with (
        await ForwardingProxy.start(url, rules=Rules(), trusted_upstream=False) as proxy,
        Client.to(proxy) as client,
    ):
        assert (await client.get(origin))[0] == 200


def test_ports_of_programs_of_the_same_user_are_closed():
    """Ray opens ports at random on a worker's machine; who reaches one may run programs there."""
    clock = ManualClock()
    closed = UserPorts({1}, clock=clock.time)
    assert 1 in closed
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert port in closed
        route = Route(None, Rules(), own_ports=closed)
        assert route.refuse_address("localhost", port, "127.0.0.1").error == "destination_ip_prohibited"
        assert Route(None, Rules(), own_ports={1}).refuse_address("localhost", port, "127.0.0.1") is None
    clock.advance(0.9)
    assert port in closed
    clock.advance(0.2)
    assert port not in closed
