"""Lists of hosts and contexts with proxies of their own, in real browsers: everything that a page or a client does goes by the rules."""

from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from cdpbridge import open_browser, playwright
from cdpbridge.api import AsyncClient
from cdpbridge.errors import CommandError, NavigationError
from tests.server.conftest import KEY
from tests.server.proxy.peers import (
    PASSWORD,
    UPSTREAM_ADDRESS,
    USERNAME,
    running_origin,
    running_pproxy,
    upstream_url,
)
from tests.server.sites import serve_site

pytestmark = pytest.mark.chromium

BUILDS = ["shell", "full"]
MINUTES = timedelta(minutes=5)

# Each way in which a page sends something, to an address that it may not reach.
WAYS_OUT = """
async secret => {
  const done = [], http = `http://${secret}/`;
  const say = (name, promise) => done.push(Promise.race([promise, new Promise(d => setTimeout(d, 3000, 'no end'))])
    .then(v => [name, String(v)], e => [name, e.name]));
  const add = (tag, values) => new Promise(d => {
    const e = Object.assign(document.createElement(tag), values);
    e.onload = () => d('loaded'); e.onerror = () => d('refused');
    document.body.append(e);
  });
  say('fetch', fetch(http, {mode: 'no-cors'}).then(() => 'open'));
  say('keepalive', fetch(http, {mode: 'no-cors', method: 'POST', body: 'x', keepalive: true}).then(() => 'open'));
  say('beacon', Promise.resolve(navigator.sendBeacon(http, 'x')));
  say('xhr', new Promise(d => { const x = new XMLHttpRequest(); x.onload = () => d('open'); x.onerror = () => d('refused');
    x.open('GET', http); x.send() }));
  say('websocket', new Promise(d => { const s = new WebSocket(`ws://${secret}/`); s.onopen = () => d('open'); s.onerror = () => d('refused') }));
  say('eventsource', new Promise(d => { const s = new EventSource(http); s.onopen = () => d('open'); s.onerror = () => { s.close(); d('refused') } }));
  for (const [tag, values] of [['img', {src: http}], ['script', {src: http}], ['iframe', {src: http}], ['object', {data: http}],
      ['link', {rel: 'stylesheet', href: http}], ['link', {rel: 'prefetch', href: http}], ['link', {rel: 'preconnect', href: http}],
      ['link', {rel: 'modulepreload', href: http}], ['video', {src: http}]])
    say(tag + (values.rel || ''), add(tag, values));
  const rules = document.createElement('script');
  rules.type = 'speculationrules';
  rules.textContent = JSON.stringify({prefetch: [{source: 'list', urls: [http], eagerness: 'immediate'}],
    prerender: [{source: 'list', urls: [http], eagerness: 'immediate'}]});
  document.head.append(rules);
  const link = Object.assign(document.createElement('a'), {href: '#x', ping: http});
  document.body.append(link);
  link.click();
  say('worker', new Promise(d => { const w = new Worker(URL.createObjectURL(new Blob([
    `fetch('${http}', {mode: 'no-cors'}).then(() => postMessage('open'), e => postMessage(e.name))`])));
    w.onmessage = e => d(e.data) }));
  say('serviceworker', navigator.serviceWorker.register('/worker.js').then(() => navigator.serviceWorker.ready).then(r => new Promise(d => {
    const c = new MessageChannel(); c.port1.onmessage = e => d(e.data); r.active.postMessage(http, [c.port2]) })));
  say('webtransport', 'WebTransport' in self ? new WebTransport(`https://${secret}/`).ready.then(() => 'open') : 'none');
  say('webrtc', new Promise(d => {
    const servers = ['stun:' + secret, ...['udp', 'tcp'].map(t => `turn:${secret}?transport=${t}`)];
    const c = new RTCPeerConnection({iceServers: [{urls: servers, username: 'u', credential: 'p'}]}), seen = [];
    c.createDataChannel('x');
    c.onicecandidate = e => e.candidate ? seen.push(e.candidate.candidate) : d('candidates: ' + seen.length);
    c.createOffer().then(o => c.setLocalDescription(o));
  }));
  return Object.fromEntries(await Promise.all(done));
}
"""
WORKER = """
self.onmessage = e => fetch(e.data, {mode: 'no-cors'}).then(() => e.ports[0].postMessage('open'), x => e.ports[0].postMessage(x.name))
"""


@asynccontextmanager
async def client_of(server):
    async with AsyncClient(KEY, str(server.http.base_url)) as client:
        yield client


@pytest.mark.parametrize("build", BUILDS)
async def test_fault_d06_lists_of_hosts_hold_for_everything_that_a_browser_does(make_server, build):
    """Of the server, of a profile and of the order; for pages, for what they send in any way, and for contexts without a proxy."""
    pages = {"/": "<title>the page</title><body>", "/worker.js": WORKER}
    async with (
        running_origin() as secret,
        serve_site(pages, otherwise="nothing here", keep_alive=False) as site,
        make_server(browser_build=build, browser_denied_hosts=["by-server.localhost"]) as server,
        client_of(server) as client,
    ):
        port = site.port
        pages["/redirect"] = f"http://127.0.0.1:{secret.port}/"
        profile = await client.profiles.create(name="limited", denied_hosts=["by-profile.localhost"])
        lists = {"allowed_hosts": [f"*.localhost:{port}"], "denied_hosts": ["by-order.localhost"]}
        async with open_browser(client, profile=profile, timeout=MINUTES, **lists) as browser:
            assert (browser.record.allowed_hosts, browser.record.denied_hosts) == tuple(lists.values())
            tab = await browser.new_tab(f"http://localhost:{port}/")
            assert await tab.title() == "the page"
            hosts = [f"by-{who}.localhost:{port}" for who in ("server", "profile", "order")]
            for host in (*hosts, f"127.0.0.1:{secret.port}", "other.example"):
                for scheme in ("http", "https"):
                    with pytest.raises(
                        NavigationError, match="not among the hosts that this browser may reach"
                    ):
                        await tab.goto(f"{scheme}://{host}/")
            with pytest.raises(NavigationError, match="not among the hosts"):
                await tab.goto(f"http://localhost:{port}/redirect")
            await tab.goto(f"http://localhost:{port}/")
            ways = await tab.evaluate(f"({WAYS_OUT})('127.0.0.1:{secret.port}')")
            # A request of which a page may not see the answer gets the forwarder's.
            opaque = {"fetch", "keepalive", "worker", "serviceworker"}
            assert {name for name, value in ways.items() if value == "open"} <= opaque
            # Isolated, it has a network of its own, in which nothing answers.
            assert ways["webrtc"] == "no end" or ways["webrtc"] == "candidates: 0"
            assert secret.connections == 0
            # A context of a client's own, with `direct://`, and with a bypass list.
            for params in (
                {},
                {"proxyServer": "direct://"},
                {"proxyServer": "a.example:1", "proxyBypassList": "*"},
            ):
                made = await browser.connection.root.send("Target.createBrowserContext", params)
                target = {"url": "about:blank", "browserContextId": made["browserContextId"]}
                made = await browser.connection.root.send("Target.createTarget", target)
                session = await browser.connection.attach(made["targetId"])
                failed = await session.send("Page.navigate", {"url": f"https://127.0.0.1:{secret.port}/"})
                assert failed["errorText"] == "net::ERR_TUNNEL_CONNECTION_FAILED", params
            running = await client.browsers.get(browser.id)
            assert [each.host for each in running.host_traffic] == ["localhost"]
        assert not secret.connections
        [traffic] = browser.receipt.traffic
        assert (traffic.host, traffic.received > 0) == ("localhost", True)
        assert (await client.browsers.get(browser.id)).host_traffic[0].bytes_received == traffic.received


@pytest.mark.parametrize("build", BUILDS)
async def test_a_context_of_playwright_with_a_proxy_of_its_own(make_server, build, origin, tls_origin):
    """With credentials, without, and with credentials that are wrong; hosts that need no proxy go directly."""
    async with (
        running_pproxy("http") as asking,
        running_pproxy("socks5", None, None) as open_one,
        make_server(browser_build=build) as server,
        client_of(server) as client,
        open_browser(client, timeout=MINUTES) as browser,
        playwright.connect(browser) as connected,
    ):

        async def text_of(url, **proxy):
            context = await connected.new_context(proxy=proxy or None, ignore_https_errors=True)
            page = await context.new_page()
            try:
                answer = await page.goto(url)
                return await page.inner_text("body") if answer.ok else answer.status
            finally:
                await context.close()

        through, directly = f"hello from {UPSTREAM_ADDRESS}", "hello from 127.0.0.1"
        login = {"username": USERNAME, "password": PASSWORD}
        asking_server, open_server = f"http://127.0.0.1:{asking.port}", f"socks5://127.0.0.1:{open_one.port}"
        for url in (f"http://{origin.authority}/", f"https://{tls_origin.authority}/"):
            assert await text_of(url, server=asking_server, **login) == through
            assert await text_of(url, server=open_server) == through
            assert await text_of(url, server=open_server, bypass="127.0.0.1") == directly
            assert await text_of(url) == directly
            wrong = login | {"password": "wrong"}
            if (
                url.startswith("http:") and build == "shell"
            ):  # it shows what a proxy says; the full build does if that is not empty
                assert await text_of(url, server=asking_server, **wrong) == 407
            elif build == "full":  # the shell leaves it open, without a forwarder too
                with pytest.raises(Exception, match="net::ERR_"):
                    await text_of(url, server=asking_server, **wrong)
        # The same without Playwright: credentials in the address, which Chromium takes from nobody else; and a proxy that is none.
        root = browser.connection.root
        made = await root.send(
            "Target.createBrowserContext", {"proxyServer": upstream_url("http", asking.port)}
        )
        assert made["browserContextId"]
        with pytest.raises(CommandError, match="several proxies for one context"):
            await root.send("Target.createBrowserContext", {"proxyServer": "a:1,direct://"})
        own = f"127.0.0.1:{server.http.base_url.port}"
        with pytest.raises(Exception, match="ERR_TUNNEL_CONNECTION_FAILED"):
            await text_of(f"https://{tls_origin.authority}/", server=f"http://{own}", bypass="<-loopback>")
