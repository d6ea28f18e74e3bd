"""A real Chromium behind the proxy, behind a real third-party upstream with awkward credentials."""

import asyncio
import os
import re
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import serve

from cdpbridge.cdp import connect
from cdpbridge.protocol import Page, Runtime
from cdpbridge.server.proxy import ForwardingProxy, Rules
from tests.own_user import OwnUser
from tests.server.proxy.peers import (
    UPSTREAM_ADDRESS,
    running_pproxy,
    upstream_url,
    wait_until,
)

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build(
        "the forwarder's own work; test_like_chromium.py and test_reasons.py have both builds"
    ),
]

SHELL = os.environ.get("CDPBRIDGE_CHROMIUM", "/usr/lib/chromium/chromium-headless-shell")


@asynccontextmanager
async def running_chromium(proxy, folder):
    """A session of a blank page in a Chromium that knows no way but the proxy."""
    profile = folder / "profile"
    profile.mkdir()
    user = OwnUser(profile)
    command = [
        SHELL,
        "--remote-debugging-port=0",
        "--ignore-certificate-errors",
        f"--user-data-dir={profile}",
        f"--proxy-server={proxy.address}",
        "--proxy-bypass-list=<-loopback>",
        "about:blank",
    ]
    process = await asyncio.create_subprocess_exec(
        *user.command(command),
        env=user.environment(),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            while not (
                match := re.search(r"listening on (ws://\S+)", (await process.stderr.readline()).decode())
            ):
                pass
        async with connect(match[1]) as connection:
            yield await connection.new_tab()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
        user.end()


async def open_page(session, url):
    """Chromium's own text for a failure, or the page's text."""
    await session.send(Page.enable())
    async with session.expect(Page.LoadEventFired):
        result = await session.send(Page.navigate(url))
    if result.error_text:
        return result.error_text
    return (await session.send(Runtime.evaluate("document.body.innerText"))).result.value


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_fault_b46_the_page_sees_the_upstreams_address(scheme, origin, tls_origin, tmp_path):
    async with (
        running_pproxy(scheme) as upstream,
        await ForwardingProxy.start(upstream_url(scheme, upstream.port)) as proxy,
        running_chromium(proxy, tmp_path) as session,
    ):
        for url in (f"http://{origin.authority}/", f"https://{tls_origin.authority}/"):
            assert await open_page(session, url) == f"hello from {UPSTREAM_ADDRESS}"
        assert (
            await open_page(session, f"https://localhost:{tls_origin.port}/")
            == f"hello from {UPSTREAM_ADDRESS}"
        )
        assert proxy.bytes_received > origin.bytes_out + tls_origin.bytes_out
        fetched = "fetch('/echo', {method: 'POST', body: 'x'.repeat(1e6)}).then(r => r.text())"
        await open_page(session, f"http://{origin.authority}/")
        sent = proxy.bytes_sent
        await session.send(Runtime.evaluate(fetched, await_promise=True))
        assert proxy.bytes_sent - sent == 1_000_000

        # The upstream dies: an error page, and nothing reaches the servers without it.
        before = len(origin.requests), len(tls_origin.requests), tls_origin.connections
        await upstream.kill()
        await wait_until(lambda: not tls_origin.open)
        text = await open_page(session, f"https://{tls_origin.authority}/")
        assert text == "net::ERR_TUNNEL_CONNECTION_FAILED"
        text = await open_page(session, f"http://{origin.authority}/")
        reason = "could not be reached: Connection refused"
        assert text.strip() == f"the upstream proxy {scheme}://127.0.0.1:{upstream.port} {reason}"
        assert (len(origin.requests), len(tls_origin.requests), tls_origin.connections) == before
    assert {r.peer for r in origin.requests + tls_origin.requests} == {UPSTREAM_ADDRESS}


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_fault_b46_wrong_password_in_chromium(scheme, origin, tls_origin, tmp_path):
    async with (
        running_pproxy(scheme) as upstream,
        await ForwardingProxy.start(upstream_url(scheme, upstream.port, "wrong")) as proxy,
        running_chromium(proxy, tmp_path) as session,
    ):
        text = await open_page(session, f"http://{origin.authority}/")
        assert (
            text.strip()
            == f"the upstream proxy refused its credentials: {scheme}://127.0.0.1:{upstream.port}"
        )
        text = await open_page(session, f"https://{tls_origin.authority}/")
        assert text == "net::ERR_TUNNEL_CONNECTION_FAILED"
    assert not origin.connections
    assert not tls_origin.connections


async def test_websocket_of_a_page_through_the_upstream(origin, tmp_path):
    async def echo(connection):
        async for message in connection:
            await connection.send(f"{connection.remote_address[0]} {len(message)}")

    async with (
        serve(echo, "127.0.0.1", 0, compression=None) as server,
        running_pproxy("http") as upstream,
        await ForwardingProxy.start(upstream_url("http", upstream.port)) as proxy,
        running_chromium(proxy, tmp_path) as session,
    ):
        await open_page(session, f"http://{origin.authority}/")
        port = server.sockets[0].getsockname()[1]
        script = (
            f"new Promise((done, failed) => {{ const s = new WebSocket('ws://127.0.0.1:{port}/');"
            " s.onopen = () => s.send('x'.repeat(300000)); s.onerror = failed;"
            " s.onmessage = e => { s.close(); done(e.data) } })"
        )
        answer = await session.send(Runtime.evaluate(script, await_promise=True))
        assert answer.result.value == f"{UPSTREAM_ADDRESS} 300000"
        assert 300_000 < proxy.bytes_sent < 310_000


async def test_deny_private_in_chromium(origin, tmp_path):
    async with (
        await ForwardingProxy.start(None, rules=Rules(private=False)) as proxy,
        running_chromium(proxy, tmp_path) as session,
    ):
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0.0.0.0"):
            text = await open_page(session, f"http://{host}:{origin.port}/")
            assert "private address" in text
    assert not origin.connections
