"""The forwarders of one browser: contexts with proxies of their own go by the rules of the browser."""

from contextlib import asynccontextmanager
from types import SimpleNamespace

import h11
import pytest

from cdpbridge.errors import ConfigurationError
from cdpbridge.server.proxy import BrowserNetwork, HostLists, Rules, Upstream, _forwarder, _network
from cdpbridge.server.proxy._network import context_upstream
from tests.cases import cases
from tests.server.proxy.peers import (
    UPSTREAM_ADDRESS,
    Client,
    basic,
    running_origin,
    running_pproxy,
    upstream_url,
    wait_until,
)


@cases(
    ("text", "upstream"),
    [
        ("proxy.example:3128", Upstream("http", "proxy.example", 3128)),
        ("http://proxy.example", Upstream("http", "proxy.example", 80)),
        ("HTTP://[::1]:3128/", Upstream("http", "::1", 3128)),
        ("socks5://proxy.example", Upstream("socks5", "proxy.example", 1080)),
        ("socks://proxy.example:9", Upstream("socks5", "proxy.example", 9)),
        ("http://us%20er:p%3Aw@proxy.example:1", Upstream("http", "proxy.example", 1, "us er", "p:w")),
        ("direct://", None),
    ],
)
def test_proxies_as_chromium_takes_them(text, upstream):
    assert context_upstream(text) == upstream


@cases(
    ("text", "why"),
    [
        ("http=a:1;https=b:2", "for each scheme"),
        ("a:1,b:2", "several proxies"),
        ("a:1,direct://", "several proxies"),
        ("socks4://a:1", "socks5"),
        ("quic://a:1", "socks5"),
        ("", "address"),
        ("a b", "address"),
        ("http://a:0", "port"),
    ],
)
def test_what_is_no_proxy_is_said(text, why):
    with pytest.raises(ConfigurationError, match=why):
        context_upstream(text)


@asynccontextmanager
async def running(rules=None, **options):
    own_ports = set()
    network = BrowserNetwork(
        options.pop("upstream", None), rules=rules or Rules(), own_ports=own_ports, **options
    )
    await network.start()
    try:
        yield network
    finally:
        await network.close()
        assert own_ports == set()


@asynccontextmanager
async def client_of(network, server=None, bypass=""):
    address = network.address if server is None else await network.context_proxy(server, bypass)
    async with Client.to(SimpleNamespace(address=address)) as client:
        yield client


async def test_another_order_is_served_with_its_own_rules_and_counters(origin):
    """A browser waits, and reaches nothing; then it is ordered, and has reached nothing."""
    closed = (HostLists(allowed_hosts=()),)
    async with running(hosts=closed) as network, client_of(network) as client:
        assert (await client.get(origin))[0] == 403
        assert network.failures
        before = network.address
        network.serve(BrowserNetwork(None, rules=Rules(), own_ports=set()))
        assert (network.address, network.failures, network.traffic) == (before, [], [])
        assert await client.reader.read() == b""
        async with client_of(network) as other:
            assert (await other.get(origin))[0] == 200
        assert [each.host for each in network.traffic] == [origin.host]


async def test_fault_d05_direct_is_no_way_around_the_rules(origin, unused_tcp_port):
    """Whatever a context names: `direct://`, or hosts that need no proxy."""
    closed = Rules(private=False, private_allowed=[f"127.0.0.1:{unused_tcp_port}"])
    proxy = f"http://127.0.0.1:{unused_tcp_port}"
    async with running(closed) as network:
        for server, bypass in (
            ("direct://", ""),
            ("DIRECT://", "*"),
            (proxy, ""),
            (proxy, "*"),
            (proxy, "127.0.0.0/8"),
        ):
            async with client_of(network, server, bypass) as client:
                status, _, body = await client.get(origin)
                assert (status, b"private address" in body) == (403, True), (server, bypass)
                assert (await client_tunnel(network, server, bypass, origin.authority)) == 403
    assert not origin.connections


async def client_tunnel(network, server, bypass, authority):
    async with client_of(network, server, bypass) as client:
        return (await client.connect(authority))[0]


async def test_fault_d05_the_forwarders_of_contexts_are_closed_to_the_browser():
    async with running() as network:
        for address in (network.address, await network.context_proxy("direct://", "")):
            async with client_of(network) as client:
                status, _, body = await client.connect(address)
                assert (status, b"port of the server" in body) == (403, True)


async def test_fault_d07_a_contexts_proxy_is_under_the_rules_of_the_server(origin):
    """Lists of an order are about sites, and say nothing about its proxies; those of the server do."""
    upstream_host = "127.0.0.1"
    async with running_pproxy("http", None, None) as upstream:
        server = f"http://{upstream_host}:{upstream.port}"
        for rules in (
            Rules(private=False),
            Rules(denied_hosts=[upstream_host]),
            Rules(allowed_hosts=[origin.host + ":1"]),
        ):
            async with running(rules) as network:
                with pytest.raises(ConfigurationError, match=upstream_host):
                    await network.context_proxy(server, "<-loopback>")
        async with running(hosts=[HostLists([f"127.0.0.1:{origin.port}"])]) as network:
            async with client_of(network, server, "<-loopback>") as client:
                assert (await client.get(origin))[2].endswith(UPSTREAM_ADDRESS.encode())
            async with running_origin() as other, client_of(network, server, "<-loopback>") as client:
                assert (await client.get(other))[0] == 403
            assert [each.host for each in network.traffic] == ["127.0.0.1"]


async def test_lists_that_are_replaced_hold_for_contexts_too(origin):
    async with running() as network, client_of(network, "direct://") as client:
        assert (await client.connect(origin.authority))[0] == 200
        assert network.limit(HostLists(["other.example"])) == 1
        assert await client.reader.read() == b""
        assert await client_tunnel(network, "direct://", "", origin.authority) == 403
        assert (
            await client_tunnel(network, "direct://", "x", origin.authority) == 403
        )  # one that is made later
        assert network.limit(HostLists()) == 0
        assert await client_tunnel(network, "direct://", "", origin.authority) == 200


@pytest.mark.parametrize("url", ["http", "credentials"])
async def test_a_contexts_proxy_asks_the_browser_for_credentials(origin, tls_origin, url):
    """With credentials in its address they are added; without, the client of the browser is asked, as Chromium does."""
    async with running_pproxy("http") as upstream, running() as network:
        if url == "credentials":
            async with client_of(network, upstream_url("http", upstream.port), "<-loopback>") as client:
                assert (await client.get(origin))[2].endswith(UPSTREAM_ADDRESS.encode())
            return
        server = f"http://127.0.0.1:{upstream.port}"
        good, bad = basic("us er%", "p w:@/%ü"), basic("us er%", "wrong")
        for headers, status in (
            ("", 407),
            (f"Proxy-Authorization: {bad}\r\n", 407),
            (f"Proxy-Authorization: {good}\r\n", 200),
        ):
            async with client_of(network, server, "<-loopback>") as client:
                answer = await client.get(origin, headers=headers)
                assert answer[0] == status
                assert ("proxy-authenticate" in answer[1]) is (status == 407)
            async with client_of(network, server, "<-loopback>") as client:
                await client.send(
                    f"CONNECT {tls_origin.authority} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode()
                )
                head = await client.reader.readuntil(b"\r\n\r\n")
                assert head.startswith(f"HTTP/1.1 {status} ".encode())
                assert (b"proxy-authenticate" in head.lower()) is (status == 407)
        assert network.failures == []  # a question is no failure
        assert all(not request.header("proxy-authorization") for request in origin.requests)


async def test_a_browser_has_bounded_forwarders(monkeypatch, origin):
    monkeypatch.setattr(_network, "_MOST_PROXIES", 2)
    async with running() as network:
        first = await network.context_proxy("a.example:1", "")
        assert await network.context_proxy("http://a.example:1", "") == first
        assert await network.context_proxy("a.example:1", "b") != first
        async with client_of(network, "a.example:1") as busy:
            await busy.connect(origin.authority)
            await network.context_proxy("b.example:1", "")  # in place of the second one: the first is in use
            assert await network.context_proxy("a.example:1", "") == first
            async with client_of(network, "b.example:1"):
                with pytest.raises(ConfigurationError, match="2 different proxies"):
                    await network.context_proxy("c.example:1", "")
    with pytest.raises(ConfigurationError, match="being stopped"):
        await network.context_proxy("a.example:1", "")


async def test_where_no_proxy_was_ordered_a_server_that_is_away_looks_as_without_one(unused_tcp_port, origin):
    """No answer with a status that scripts could see; the reason is kept, with Chromium's own name."""
    async with running(unseen=True) as network:
        for host, port, error in (
            ("127.0.0.1", unused_tcp_port, "net::ERR_CONNECTION_REFUSED"),
            ("no-such-name.invalid", 80, "net::ERR_NAME_NOT_RESOLVED"),
        ):
            async with client_of(network) as client:
                await client.send(f"GET http://{host}:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                assert await client.reader.read() == b""
            failure = network.failures[-1]
            assert (failure["host"], failure["port"], failure["netError"]) == (host, port, error)
        dead = f"127.0.0.1:{unused_tcp_port}"
        async with client_of(network, dead, "<-loopback>") as client:
            await client.send(f"GET http://{origin.authority}/ HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert await client.reader.read() == b""
        assert network.failures[-1]["netError"] == "net::ERR_PROXY_CONNECTION_FAILED"
        assert await client_tunnel(network, dead, "<-loopback>", origin.authority) == 502
        network.limit(HostLists(["a.example"]))
        async with client_of(network) as client:  # what the rules refuse is said
            assert (await client.get(origin))[0] == 403
        assert "netError" not in network.failures[-1]


async def test_a_browser_has_bounded_connections_through_all_of_its_forwarders(monkeypatch, origin):
    monkeypatch.setattr(_forwarder, "_MAX_CLIENTS", 2)
    async with running() as network:
        async with client_of(network) as one, client_of(network, "direct://") as two:
            for each in (one, two):
                assert (await each.connect(origin.authority))[0] == 200
            async with client_of(network, "direct://") as third:
                with pytest.raises((AssertionError, OSError, h11.RemoteProtocolError)):
                    await third.connect(origin.authority)
        await wait_until(lambda: not network._route.open.count)
        assert await client_tunnel(network, "direct://", "", origin.authority) == 200
