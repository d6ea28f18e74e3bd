"""What a browser may reach: private addresses, the server's own ports, limits of hosts, and ways around the forwarder."""

import asyncio
import json
import socket
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import serve

from cdpbridge.cdp import connect
from cdpbridge.errors import ConfigurationError
from tests.server.conftest import KEY, OTHER_KEY
from tests.server.proxy.peers import UPSTREAM_ADDRESS, running_origin, running_pproxy
from tests.server.sites import serve_site

ONE_BUILD = pytest.mark.one_build(
    "names and addresses are judged by the forwarder, which does not see the build"
)

pytestmark = pytest.mark.chromium

BUILDS = ["shell", "full"]
SEVERAL = {"api_keys": {"tests": KEY, "others": OTHER_KEY}}

# One UDP packet to 127.0.0.1 in each way that a page has.
WEBRTC = """
new Promise(async done => {
  const server = {urls: 'stun:127.0.0.1:PORT'};
  const one = new RTCPeerConnection({iceServers: [server]}), two = new RTCPeerConnection();
  const seen = [];
  one.onicecandidate = e => e.candidate ? (seen.push(e.candidate.candidate), two.addIceCandidate(e.candidate)) : 0;
  two.onicecandidate = e => e.candidate && one.addIceCandidate(e.candidate);
  const channel = one.createDataChannel('x');
  channel.onopen = () => done('open');
  one.onicegatheringstatechange = () => one.iceGatheringState === 'complete' && WAIT && done(JSON.stringify(seen));
  await one.setLocalDescription(await one.createOffer());
  await two.setRemoteDescription(one.localDescription);
  await two.setLocalDescription(await two.createAnswer());
  await one.setRemoteDescription(two.localDescription);
})
"""
WEBTRANSPORT = "new WebTransport('https://127.0.0.1:PORT/').ready.then(() => 'open', e => e.name)"


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.received = []

    def datagram_received(self, data, addr):
        self.received.append(data)


@asynccontextmanager
async def udp_listener():
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        Datagrams, local_addr=("127.0.0.1", 0)
    )
    try:
        yield transport.get_extra_info("sockname")[1], protocol
    finally:
        transport.close()


@asynccontextmanager
async def tab_of(browser):
    async with connect(browser["cdpUrl"]) as connection:
        yield await connection.new_tab()


async def text_of(tab, url):
    """The text of a page, or Chromium's own for a failure."""
    await tab.send("Page.enable")
    async with tab.expect("Page.loadEventFired"):
        reply = await tab.send("Page.navigate", {"url": url})
    return reply.get("errorText") or await run(tab, "document.body.innerText")


async def run(tab, script):
    reply = await tab.send(
        "Runtime.evaluate", {"expression": script, "awaitPromise": True, "returnByValue": True}
    )
    assert "exceptionDetails" not in reply, reply
    return reply["result"].get("value")


@asynccontextmanager
async def running_site(pages):
    """A site whose pages are given by path: its port, and what it was asked for."""
    async with serve_site(pages, otherwise="nothing here", keep_alive=False) as site:
        yield site.port, site.log


@pytest.mark.parametrize("build", BUILDS)
async def test_fault_d06_private_addresses_are_refused_where_several_share_a_server(make_server, build):
    pages = {"/": "the page"}
    async with (
        running_origin() as secret,
        running_site(pages) as (port, seen),
        make_server(browser_build=build, private_allowed=[f"127.0.0.1:{port}"], **SEVERAL) as server,
    ):
        private = [
            f"http://{host}:{secret.port}/"
            for host in ("127.0.0.1", "127.1", "127.0.0.2", "2130706433", "0x7f.1", "localhost", "a.localhost",
                         "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]")
        ]  # fmt: skip
        private += ["http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/", "http://[fd00:ec2::254]/"]
        if (
            build == "full"
        ):  # both builds read a host by the same code, and a site takes the full one 0.2 s of CPU
            private = [private[0], private[5], private[8], private[13]]
        pages["/redirect"] = private[0]
        pages["/frame"] = f"<iframe src='{private[0]}'></iframe><script src='{private[0]}'></script>"
        browser = await server.rent()
        async with tab_of(browser) as tab:
            for url in private:
                assert "private address" in await text_of(tab, url), url
            assert "private address" in await text_of(tab, f"http://127.0.0.1:{port}/redirect")
            # Encrypted ones have no page of ours to show.
            assert (
                await text_of(tab, f"https://127.0.0.1:{secret.port}/") == "net::ERR_TUNNEL_CONNECTION_FAILED"
            )
            # What the operator opened works, and from there nothing else does.
            assert await text_of(tab, f"http://127.0.0.1:{port}/") == "the page"
            for host in ("127.0.0.1", "localhost"):
                url = f"http://{host}:{secret.port}/"
                await run(tab, f"fetch('{url}', {{mode: 'no-cors'}}).then(r => r.type, e => e.name)")
            websocket = (
                f"new Promise(d => {{ const s = new WebSocket('ws://127.0.0.1:{secret.port}/websocket');"
                " s.onopen = () => d('open'); s.onerror = () => d('refused') })"
            )
            assert await run(tab, websocket) == "refused"
            await text_of(tab, f"http://127.0.0.1:{port}/frame")
        assert "/redirect" in seen
        assert not secret.connections
        stopped = await server.stop(browser)
        assert float(stopped["proxyUsedMb"]) == 0  # nobody ordered a proxy


@ONE_BUILD
async def test_fault_d06_names_that_resolve_to_private_addresses(make_server, monkeypatch):
    """The resolver is asked once, and what it said is dialled: a name that changes its mind reaches nothing."""
    asked = []
    real = asyncio.get_running_loop().getaddrinfo

    async def getaddrinfo(host, port, **options):
        if not str(host).endswith(".example"):
            return await real(host, port, **options)
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async with running_origin() as secret, make_server(**SEVERAL) as server:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        async with tab_of(await server.rent()) as tab:
            assert "private address" in await text_of(tab, f"http://rebind.example:{secret.port}/")
        assert asked[0] == "rebind.example"
        assert not secret.connections


@ONE_BUILD
@pytest.mark.parametrize(
    ("settings", "denied"),
    [
        ({}, False),
        ({"private_network": "deny"}, True),
        ({"host": "0.0.0.0"}, True),
        ({"host": "0.0.0.0", "private_network": "allow"}, False),
        (SEVERAL, True),
        (SEVERAL | {"private_network": "allow"}, False),
    ],
)
async def test_fault_d06_when_private_addresses_are_denied(make_server, settings, denied):
    async with running_origin() as origin, make_server(**settings) as server:
        address = str(server.http.base_url).replace("0.0.0.0", "127.0.0.1")
        server.http.base_url = address
        async with tab_of(await server.rent()) as tab:
            text = await text_of(tab, f"http://127.0.0.1:{origin.port}/")
        assert ("private address" in text, bool(origin.connections)) == (denied, not denied)


@pytest.mark.parametrize("build", BUILDS)
async def test_fault_d05_own_ports_are_closed_to_an_agents_browser(make_server, build):
    """Where private addresses are open, too: the server's port, and without isolation each browser's debugging port."""
    async with running_origin() as origin, make_server(browser_build=build, isolation="none") as server:
        other = await server.rent()
        answer = await server.http.post("/sessions", json={})
        assert answer.status_code == 201, answer.text
        own = await server.browser({"id": answer.json()["browserSessionId"]})
        browsers = server.app.state.services.hosts._browsers.values()
        ports = [browser._chromium.port for browser in browsers] + [server.http.base_url.port]
        hosts = ["127.0.0.1", "localhost", "127.0.0.2", "[::1]", "0.0.0.0"]
        async with tab_of(own) as tab:
            for port in ports:
                # Both builds read a host by the same code, and a site takes the full one 0.2 s of CPU.
                for host in hosts if build == "shell" else hosts[:2]:
                    text = await text_of(tab, f"http://{host}:{port}/json/list")
                    assert "port of the server" in text, (host, port)
            assert await text_of(tab, f"http://127.0.0.1:{origin.port}/") == "hello from 127.0.0.1"
        await server.stop(other)
        await server.stop(own)
        assert server.app.state.services.hosts._options.own_ports == {server.http.base_url.port}


@pytest.mark.parametrize("build", BUILDS)
async def test_fault_d06_no_udp_around_the_forwarder(make_server, build):
    script = WEBRTC.replace("WAIT", "true")
    async with (
        udp_listener() as (port, listener),
        running_site({"/": "a page"}) as (site, _),
        make_server(
            browser_build=build, isolation="none", private_allowed=[f"localhost:{site}"], **SEVERAL
        ) as server,
        tab_of(await server.rent()) as tab,
    ):
        await text_of(tab, f"http://localhost:{site}/")
        assert json.loads(await run(tab, script.replace("PORT", str(port)))) == []
        assert await run(tab, WEBTRANSPORT.replace("PORT", str(port))) != "open"
        assert listener.received == []


@pytest.mark.parametrize("build", BUILDS)
async def test_pages_talk_over_webrtc_where_private_addresses_are_allowed(make_server, build):
    script = WEBRTC.replace("WAIT", "false")
    async with (
        udp_listener() as (port, listener),
        running_site({"/": "a page"}) as (site, _),
        make_server(browser_build=build, isolation="none", proxies={"de": "direct"}) as server,
    ):
        for country in (None, "de"):
            async with tab_of(await server.rent(proxyCountryCode=country)) as tab:
                await text_of(tab, f"http://localhost:{site}/")
                assert await run(tab, script.replace("PORT", str(port))) == "open"
        assert listener.received  # the control: a page can reach it over UDP


@pytest.mark.parametrize("build", BUILDS)
async def test_hosts_of_a_session_are_limited_while_it_runs(make_server, build):
    async def greet(connection):
        await connection.send("hello")
        await connection.wait_closed()

    async with (
        running_site({"/": "one"}) as (one, _),
        running_site({"/": "two"}) as (two, seen),
        serve(greet, "127.0.0.1", 0) as sockets,
        make_server(browser_build=build) as server,
    ):
        answer = await server.http.post("/sessions", json={})
        browser = await server.browser({"id": answer.json()["browserSessionId"]})
        hosts = server.app.state.services.hosts
        browser_id = next(iter(hosts._browsers))
        async with tab_of(browser) as tab:
            assert await text_of(tab, f"http://localhost:{two}/") == "two"
            opened = (
                f"new Promise(d => {{ const s = new WebSocket('ws://127.0.0.1:{sockets.sockets[0].getsockname()[1]}/');"
                " s.onmessage = () => d('open'); window.closed_ = new Promise(c => { s.onclose = () => c('closed') }) })"
            )
            assert await run(tab, opened) == "open"
            assert await hosts.limit_hosts(browser_id, allowed=[f"localhost:{one}"])
            assert await run(tab, "window.closed_") == "closed"
            assert await text_of(tab, f"http://localhost:{one}/") == "one"
            del seen[:]
            for url in (f"http://localhost:{two}/", f"http://127.0.0.1:{one}/"):
                assert "not among the hosts" in await text_of(tab, url)
            assert await text_of(tab, f"http://localhost:{one}/") == "one"
            assert (
                await run(tab, f"fetch('http://localhost:{two}/').then(r => r.status, e => e.name)")
                == "TypeError"
            )
            assert seen == []
            with pytest.raises(ConfigurationError, match="not a host"):
                await hosts.limit_hosts(browser_id, allowed=["http://x"])
            assert await hosts.limit_hosts(browser_id, allowed=None, denied=["localhost"])
            assert await text_of(tab, f"http://127.0.0.1:{two}/") == "two"
            assert "not among the hosts" in await text_of(tab, f"http://localhost:{two}/")
            # An address is also what names resolve to.
            assert await hosts.limit_hosts(browser_id, allowed=None, denied=["127.0.0.0/8", "[::1]"])
            assert "not among the hosts" in await text_of(tab, f"http://localhost:{two}/")
        await server.stop(browser)
        assert not await hosts.limit_hosts(browser_id, allowed=None)


@pytest.mark.parametrize("build", BUILDS)
async def test_fault_d07_a_proxy_of_the_callers_own_is_dialled_under_the_same_rules(
    make_server, build, monkeypatch
):
    real = asyncio.get_running_loop().getaddrinfo

    async def getaddrinfo(host, port, **options):
        if host != "upstream.example":
            return await real(host, port, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async with running_origin() as private, make_server(browser_build=build, **SEVERAL) as server:
        for host in (
            "127.0.0.1",
            "127.0.0.3",
            "169.254.169.254",
            "localhost",
            "2130706433",
            "::ffff:127.0.0.1",
        ):
            for scheme in ("", "socks5://"):
                own = {"host": f"{scheme}{host}", "port": private.port}
                answer = await server.http.post("/browsers", json={"customProxy": own})
                assert answer.status_code == 422, host
                assert "private address" in answer.json()["detail"][0]["msg"]
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        for scheme in ("", "socks5://"):
            own = {"host": f"{scheme}upstream.example", "port": private.port}
            browser = await server.rent(customProxy=own)
            async with tab_of(browser) as tab:
                text = await text_of(tab, "http://8.8.8.8/")
            assert text.startswith("upstream.example is a private address, which this browser may not reach")
            await server.stop(browser)
        assert not private.connections


@ONE_BUILD
async def test_fault_d07_a_proxy_of_the_callers_own_on_ones_own_machine(make_server):
    """One project on loopback: as ever, except for the server's own ports."""
    async with (
        running_pproxy("http", None, None) as upstream,
        running_origin() as origin,
        make_server() as server,
    ):
        browser = await server.rent(customProxy={"host": "127.0.0.1", "port": upstream.port})
        async with tab_of(browser) as tab:
            assert await text_of(tab, f"http://127.0.0.1:{origin.port}/") == f"hello from {UPSTREAM_ADDRESS}"
        await server.stop(browser)
        browser = await server.rent(customProxy={"host": "127.0.0.1", "port": server.http.base_url.port})
        async with tab_of(browser) as tab:
            assert "port of the server" in await text_of(tab, "http://8.8.8.8/")
