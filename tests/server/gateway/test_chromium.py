"""Real clients on real Chromium through the gateway."""

import asyncio
import json
import os
import signal
import socket
import struct
from contextlib import suppress

import httpx
import psutil
import pytest
import websockets
from playwright.async_api import async_playwright
from websockets.exceptions import ConnectionClosed, InvalidStatus

from cdpbridge.cdp import connect
from cdpbridge.server.gateway import Upstream, _splice
from tests.server.gateway.conftest import TOKEN

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.one_build("the gateway passes bytes on and does not see the build"),
]

MiB = 1024 * 1024
ROUTES = [
    "",
    "/",
    "/json",
    "/json/list",
    "/json/list/",
    "/json/version",
    "/json/version/",
    "/json/protocol",
    "/json/new?about:blank",
    "/json/activate/X",
    "/json/close/X",
]


def open_client(gateway, path="", **options):
    options = {"max_size": None, "ping_interval": None, "compression": None, "proxy": None} | options
    return websockets.connect(f"{gateway.ws_url}{path}", **options)


async def call(client, method, number=1, **params):
    await client.send(json.dumps({"id": number, "method": method, "params": params}))
    while True:
        message = json.loads(await asyncio.wait_for(client.recv(), 60))
        if message.get("id") == number:
            return message["result"]


async def new_page(gateway):
    async with httpx.AsyncClient() as http:
        return (await http.put(f"{gateway.http_url}/json/new?about:blank")).json()["id"]


async def ask_for(client, session, size):
    """Have a page answer with a string of `size` characters; the answer is left to the caller."""
    params = {"expression": f"'x'.repeat({size})", "returnByValue": True}
    message = {"id": 7, "sessionId": session, "method": "Runtime.evaluate", "params": params}
    await client.send(json.dumps(message))


async def attached(client):
    """The session id of a new page."""
    target = await call(client, "Target.createTarget", 101, url="about:blank")
    attached = await call(client, "Target.attachToTarget", 102, targetId=target["targetId"], flatten=True)
    return attached["sessionId"]


# --- HTTP -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/json/version", "/json/version/", "", "/"])
async def test_fault_a09_version_with_and_without_a_slash(gateway, shared_chrome, path):
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{gateway.http_url}{path}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json; charset=UTF-8"
    assert answer.json()["webSocketDebuggerUrl"] == gateway.ws_url + shared_chrome.upstream.browser_path
    assert answer.json()["Protocol-Version"] == "1.3"


async def test_pages_are_made_listed_and_closed(gateway, wait_until):
    async with httpx.AsyncClient(base_url=gateway.http_url) as http:
        refused = await http.get("/json/new?about:blank")
        assert (refused.status_code, "supports only PUT" in refused.text) == (405, True)
        page = (await http.put("/json/new?data:text/html,<title>a%20b</title>?c")).json()
        assert page["url"].startswith("data:text/html,")
        assert page["url"].endswith("?c")
        assert page["webSocketDebuggerUrl"] == f"{gateway.ws_url}/devtools/page/{page['id']}"
        frontend = f"?ws={gateway.authority}/cdp/{TOKEN}/devtools/page/{page['id']}"
        assert page["devtoolsFrontendUrl"].endswith(frontend)
        for path in ("/json", "/json/list", "/json/list/"):
            [listed] = [item for item in (await http.get(path)).json() if item["id"] == page["id"]]
            assert listed["webSocketDebuggerUrl"] == page["webSocketDebuggerUrl"]
        tabs = (await http.get("/json/list?for_tab")).json()
        assert "tab" in {item["type"] for item in tabs}
        assert (await http.get(f"/json/activate/{page['id']}")).text == "Target activated"
        assert (await http.get(f"/json/close/{page['id']}")).text == "Target is closing"
        missing = await http.get("/json/close/NOPE")
        assert (missing.status_code, missing.text) == (404, "No such target id: NOPE")


@pytest.mark.parametrize(
    "path",
    [
        "/json/",
        "/json/nope",
        "/json/nope/X",
        "/json/close/a%2Fb",
        "/json/close/a%20b",
        "/devtools/inspector.html",
    ],
)
async def test_what_is_not_offered_is_404(gateway, path):
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{gateway.http_url}{path}")
    assert answer.status_code == 404
    assert isinstance(answer.json()["detail"], str)


async def test_the_protocol_is_asked_for_once(own_gateway, own_chrome):
    async with httpx.AsyncClient(base_url=own_gateway.http_url, timeout=30) as http:
        first = await http.get("/json/protocol")
        assert len(first.json()["domains"]) > 50
        own_chrome.stop()
        assert (await http.get("/json/protocol/")).content == first.content
        gone = await http.get("/json/version")
        assert (gone.status_code, "cannot be asked" in gone.json()["detail"]) == (502, True)


async def test_a_browser_that_hangs_is_not_waited_for(own_gateway, own_chrome, monkeypatch):
    monkeypatch.setattr("cdpbridge.server.gateway._http._ANSWER_SECONDS", 0.2)
    os.killpg(own_chrome.process.pid, signal.SIGSTOP)
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{own_gateway.http_url}/json/version")
    assert (answer.status_code, answer.json()) == (504, {"detail": "the browser does not answer"})


# --- who may come in --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["wrong", "", TOKEN[:-1], f"{TOKEN}x", "%00", "..", "expired", "%F0%9F"])
async def test_fault_b33_a_wrong_token_on_every_route(gateway, shared_chrome, token, caplog):
    gateway.registry.add("expired", shared_chrome.upstream)
    await gateway.registry.close("expired", 1001, "session expired")
    for path in ROUTES:
        request = f"GET /cdp/{token}{path} HTTP/1.1\r\nHost: {gateway.authority}\r\n\r\n"
        assert (await gateway.raw(request.encode())).split()[1] == b"404", path
    for path in ("/json/new?about:blank", "/json/activate/X", "/json/close/X"):
        request = f"PUT /cdp/{token}{path} HTTP/1.1\r\nHost: {gateway.authority}\r\nContent-Length: 0\r\n\r\n"
        assert (await gateway.raw(request.encode())).split()[1] == b"404", path
    for path in ("", "/", shared_chrome.upstream.browser_path, "/devtools/page/x", "/json/version"):
        assert await gateway.upgrade(f"/cdp/{token}{path}") == 404, path
    assert not caplog.records


@pytest.mark.parametrize("path", ["/", "/api/v2/browsers", "/cdp", "/cdp/"])
async def test_an_upgrade_elsewhere_is_404(gateway, path):
    assert await gateway.upgrade(path) == 404


async def test_fault_b33_the_token_is_in_no_log(make_gateway, shared_chrome, caplog):
    caplog.set_level("DEBUG")
    async with make_gateway(shared_chrome.upstream) as gateway:
        async with connect(gateway.http_url) as connection:
            await connection.root.send("Browser.getVersion")
        await gateway.upgrade(f"/cdp/{TOKEN}/devtools/page/nope")
        await gateway.upgrade(f"/cdp/{TOKEN}", Host="evil.example")
    ours = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert TOKEN not in "".join(record.getMessage() for record in ours)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
async def test_fault_b34_a_foreign_host(gateway, host):
    assert await gateway.upgrade(Host=host) == 403
    request = f"GET /cdp/{TOKEN}/json/version HTTP/1.1\r\nHost: {host}\r\n\r\n"
    assert (await gateway.raw(request.encode())).split()[1] == b"403"


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:1", "null", "file://"])
async def test_fault_b34_a_foreign_origin(gateway, origin):
    assert await gateway.upgrade(Origin=origin) == 403
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{gateway.http_url}/json/version", headers={"Origin": origin})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "host", ["browsers.example.com", "localhost", "a.localhost:1", "10.0.0.1", "[::1]:80"]
)
async def test_fault_a06_a07_own_origin_and_names_do_not_reach_chromium(make_gateway, shared_chrome, host):
    async with make_gateway(shared_chrome.upstream, allowed_hosts=["Browsers.example.com"]) as gateway:
        assert await gateway.upgrade(Host=host, Origin=f"http://{host}") == 101
        async with httpx.AsyncClient() as http:
            headers = {"Host": host, "Origin": f"http://{host}"}
            answer = await http.get(f"{gateway.http_url}/json/version", headers=headers)
        url = answer.json()["webSocketDebuggerUrl"]
        assert url == f"ws://{host}/cdp/{TOKEN}{shared_chrome.upstream.browser_path}"


async def test_fault_a04_the_browser_id_is_compared_exactly(gateway, shared_chrome):
    path = shared_chrome.upstream.browser_path
    assert await gateway.upgrade(f"/cdp/{TOKEN}{path}") == 101
    assert await gateway.upgrade(f"/cdp/{TOKEN}{path}?query") == 101
    for wrong in (
        f"{path}zz",
        path[:-1],
        f"{path}/",
        f"{path}/../x",
        "/devtools/browser/",
        "/devtools/browser",
    ):
        assert await gateway.upgrade(f"/cdp/{TOKEN}{wrong}") == 404


async def test_page_sockets(gateway):
    page = await new_page(gateway)
    async with open_client(gateway, f"/devtools/page/{page}") as client:
        reply = await call(client, "Runtime.evaluate", expression="1 + 1")
        assert reply["result"]["value"] == 2
    for wrong in ("nope", f"{page}x", "a%2Fb", "a_b", "../browser/x", ""):
        assert await gateway.upgrade(f"/cdp/{TOKEN}/devtools/page/{wrong}") == 404


async def test_a_page_socket_ends_with_its_page(gateway):
    page = await new_page(gateway)
    async with open_client(gateway, f"/devtools/page/{page}") as client, httpx.AsyncClient() as http:
        await http.get(f"{gateway.http_url}/json/close/{page}")
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await asyncio.wait_for(client.recv(), 60)
        assert (closed.value.rcvd.code, closed.value.rcvd_then_sent) == (1001, True)


async def test_a_browser_that_knows_another_id_refuses(make_gateway, shared_chrome):
    async with make_gateway(Upstream("127.0.0.1", shared_chrome.port, "/devtools/browser/other")) as gateway:
        assert await gateway.upgrade() == 404


# --- clients ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_both_parsers_of_uvicorn(make_gateway, shared_chrome, http):
    async with make_gateway(shared_chrome.upstream, http=http) as gateway:
        async with open_client(gateway) as client:
            assert "product" in await call(client, "Browser.getVersion")
            assert gateway.usage().clients == 1
        assert await gateway.upgrade(Sec_WebSocket_Version="12") == 400
        assert await gateway.upgrade(Sec_WebSocket_Key="short") == 400


async def test_compression_is_not_negotiated(gateway):
    async with open_client(gateway, compression="deflate") as client:
        assert not client.protocol.extensions
        assert "product" in await call(client, "Browser.getVersion")


@pytest.mark.parametrize("form", ["http_url", "ws_url"])
async def test_cdpbridge(gateway, form):
    async with connect(getattr(gateway, form)) as connection:
        tab = await connection.new_tab()
        assert (await tab.send("Runtime.evaluate", {"expression": "1 + 1"}))["result"]["value"] == 2
        assert gateway.usage().clients == 1
        usage = gateway.usage()
        assert usage.messages_sent >= 3
        assert usage.messages_received >= 3
        assert usage.active_at <= asyncio.get_running_loop().time()


@pytest.mark.parametrize("form", ["http_url", "ws_url"])
async def test_fault_a09_playwright(gateway, form):
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(getattr(gateway, form))
        context = await browser.new_context()
        page = await context.new_page()
        await page.set_content("<h1>through the gateway</h1>")
        assert await page.inner_text("h1") == "through the gateway"
        assert len(await page.screenshot()) > 1000
        await browser.close()


@pytest.mark.parametrize("form", ["http_url", "ws_url"])
async def test_fault_a09_puppeteer(gateway, puppeteer, form, tmp_path):
    """Its `browserURL` asks the root of the host for /json/version and so knows no address below a path."""
    address = gateway.ws_url
    if form == "http_url":
        async with httpx.AsyncClient() as http:
            address = (await http.get(f"{gateway.http_url}/json/version")).json()["webSocketDebuggerUrl"]
    script = tmp_path / "script.cjs"
    script.write_text(f"""
        const puppeteer = require({json.dumps(str(puppeteer))});
        (async () => {{
            const browser = await puppeteer.connect({{browserWSEndpoint: {json.dumps(address)}}});
            const page = await browser.newPage();
            await page.setContent('<h1>through the gateway</h1>');
            console.log(await page.$eval('h1', node => node.innerText));
            await page.close();
            await browser.disconnect();
        }})();
    """)
    process = await asyncio.create_subprocess_exec(
        "node", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 100)
    assert output.decode().strip() == "through the gateway"


@pytest.mark.parametrize(
    ("base", "websocket"),
    [
        ("https://browsers.example.com/pool", "wss://browsers.example.com/pool"),
        ("http://10.0.0.1:8700", "ws://10.0.0.1:8700"),
        ("https://[2001:db8::1]:444", "wss://[2001:db8::1]:444"),
    ],
)
async def test_fault_a08_b35_answers_have_the_external_address(make_gateway, shared_chrome, base, websocket):
    async with (
        make_gateway(shared_chrome.upstream, external_base=lambda _request: base) as gateway,
        httpx.AsyncClient(base_url=gateway.http_url) as http,
    ):
        version = (await http.get("/json/version")).json()
        page = (await http.put("/json/new?about:blank")).json()
    outer = f"{websocket}/cdp/{TOKEN}"
    assert version["webSocketDebuggerUrl"] == outer + shared_chrome.upstream.browser_path
    assert page["webSocketDebuggerUrl"] == f"{outer}/devtools/page/{page['id']}"
    scheme, _, place = outer.partition("://")
    assert page["devtoolsFrontendUrl"].endswith(f"?{scheme}={place}/devtools/page/{page['id']}")


# --- big messages, slow clients ---------------------------------------------------------------------------------------


async def test_fault_b39_large_messages_both_ways(gateway):
    async with open_client(gateway) as client:
        session = await attached(client)
        size = 99 * MiB
        message = {"id": 7, "sessionId": session, "method": "Runtime.evaluate"}
        text = json.dumps(message | {"params": {"expression": "'PLACE'.length"}}).replace("PLACE", "x" * size)
        await client.send(text)
        assert json.loads(await client.recv())["result"]["result"]["value"] == size
        expression = f"'x'.repeat({size})"
        await client.send(
            json.dumps(message | {"id": 8, "params": {"expression": expression, "returnByValue": True}})
        )
        assert len(json.loads(await client.recv())["result"]["result"]["value"]) == size


async def test_fault_b39_fragments_between_control_frames(gateway):
    async with open_client(gateway) as client:
        session = await attached(client)
        message = {"id": 7, "sessionId": session, "method": "Runtime.evaluate"}
        text = json.dumps(message | {"params": {"expression": "'PLACE'.length"}}).replace("PLACE", "x" * MiB)
        pings = []

        async def pieces():
            for at in range(0, len(text), 100_000):
                yield text[at : at + 100_000]
                await client.pong()
                pings.append(await client.ping())

        await client.send(pieces())
        assert json.loads(await client.recv())["result"]["result"]["value"] == MiB
        await asyncio.wait_for(asyncio.gather(*pings), 60)
        usage = gateway.usage()
        assert (usage.messages_sent, usage.clients) == (3, 1)


async def test_fault_b38_a_slow_reader(gateway, wait_until):
    memory = psutil.Process().memory_info
    async with open_client(gateway) as other, open_client(gateway, max_queue=1) as slow:
        session = await attached(slow)
        before = memory().rss
        slow.transport.pause_reading()
        await ask_for(slow, session, 100 * MiB)
        relays = gateway.registry.find(TOKEN).clients
        await wait_until(lambda: any(not relay.browser.is_reading() for relay in relays))
        [splice] = [relay for relay in relays if not relay.browser.is_reading()]
        for number in range(50):
            assert "product" in await call(other, "Browser.getVersion", number)
            assert not splice.browser.is_reading()  # its reader still rests
        assert memory().rss - before < 16 * MiB
        assert splice.client.get_write_buffer_size() < 2 * MiB
        slow.transport.resume_reading()
        assert len(await asyncio.wait_for(slow.recv(), 60)) > 100 * MiB


async def test_fault_b02_a_stop_within_a_large_frame(gateway):
    """The client takes the frame in time: it gets it whole, and the close frame behind it."""
    async with open_client(gateway) as client:
        session = await attached(client)
        client.transport.pause_reading()
        await ask_for(client, session, 50 * MiB)
        [splice] = gateway.registry.find(TOKEN).clients
        async with asyncio.timeout(30):
            while splice.browser.is_reading():
                await asyncio.sleep(0.01)
        assert not splice.down.at_boundary
        closing = asyncio.create_task(gateway.registry.close(TOKEN, 1001, "session expired"))
        await asyncio.sleep(0)
        client.transport.resume_reading()
        assert len(await client.recv()) > 50 * MiB
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "session expired")
        await closing


async def test_fault_b02_a_stop_does_not_wait_for_who_does_not_read(gateway):
    async with open_client(gateway) as client:
        session = await attached(client)
        client.transport.pause_reading()
        await ask_for(client, session, 50 * MiB)
        [splice] = gateway.registry.find(TOKEN).clients
        async with asyncio.timeout(30):
            while splice.browser.is_reading():
                await asyncio.sleep(0.01)
        async with asyncio.timeout(60):  # it would wait for the client for ever
            await gateway.registry.close(TOKEN, 1001, "session expired")
        assert gateway.usage() is None
        client.transport.abort()


# --- the ends ---------------------------------------------------------------------------------------------------------


async def test_stop_tells_every_client_why(gateway):
    async with open_client(gateway) as one, open_client(gateway) as other:
        await call(one, "Browser.getVersion")
        await gateway.registry.close(TOKEN, 1001, "session stopped")
        for client in (one, other):
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd_then_sent
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "session stopped")
        assert gateway.usage() is None
        with pytest.raises(InvalidStatus) as refused:
            async with open_client(gateway):
                pass
        assert refused.value.response.status_code == 404
        assert json.loads(refused.value.response.body)["detail"].startswith("no browser")


@pytest.mark.parametrize("end", ["Browser.close", "SIGKILL"])
async def test_fault_b40_the_browser_ends(own_gateway, own_chrome, end):
    async with open_client(own_gateway) as client:
        await call(client, "Browser.getVersion")
        if end == "SIGKILL":
            own_chrome.kill()
        else:
            with suppress(ConnectionClosed):  # the reply may not come any more
                await call(client, end)
        ended = asyncio.create_task(asyncio.to_thread(own_chrome.process.wait))
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(client.recv(), 60)
        assert closed.value.rcvd.code == 1001
        assert closed.value.rcvd.reason == "the browser closed the connection"
        assert closed.value.rcvd_then_sent
        await ended


async def test_fault_b40_the_client_leaves_and_comes_back(gateway, wait_until):
    for leave in ("close", "cut", "close"):
        client = await open_client(gateway)
        assert "product" in await call(client, "Browser.getVersion")
        if leave == "close":
            await client.close(4000, "bye")
            assert client.close_code == 1000  # Chromium's own answer to any close frame, passed on
        else:
            client.transport.abort()
        await wait_until(lambda: gateway.usage().clients == 0)
        assert not gateway.registry.find(TOKEN).clients


async def test_fault_b40_contexts_of_a_client_that_was_cut_are_gone(gateway, wait_until):
    async with open_client(gateway) as watcher:
        before = len((await call(watcher, "Target.getBrowserContexts"))["browserContextIds"])
        client = await open_client(gateway)
        await call(client, "Target.createBrowserContext", disposeOnDetach=True)
        assert len((await call(watcher, "Target.getBrowserContexts", 2))["browserContextIds"]) == before + 1
        client.transport.abort()
        async with asyncio.timeout(60):
            number = 3
            while (
                len((await call(watcher, "Target.getBrowserContexts", number))["browserContextIds"]) > before
            ):
                number += 1


async def test_fault_b41_one_of_two_clients_dies(gateway, wait_until):
    async with open_client(gateway) as stays:
        dies = await open_client(gateway)
        await asyncio.gather(call(stays, "Browser.getVersion"), call(dies, "Browser.getVersion"))
        assert gateway.usage().clients == 2
        dies.transport.abort()
        await wait_until(lambda: gateway.usage().clients == 1)
        for number in range(2, 22):
            assert "product" in await call(stays, "Browser.getVersion", number)


async def test_fault_b36_pings_keep_an_idle_client(gateway, monkeypatch):
    monkeypatch.setattr(_splice, "_PING_SECONDS", 0.02)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(
        f"GET /cdp/{TOKEN} HTTP/1.1\r\nHost: {gateway.authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ==\r\n\r\n".encode()
    )
    await reader.readuntil(b"\r\n\r\n")
    for _ in range(20):
        assert await asyncio.wait_for(reader.readexactly(2), 60) == b"\x89\x00"  # never answered, never cut
    writer.write(b"\x8a\x80mask")  # a pong nobody asked Chromium for
    text = b'{"id":1,"method":"Browser.getVersion"}'
    writer.write(b"\x81" + bytes([0x80 | len(text)]) + bytes(4) + text)
    async with asyncio.timeout(60):
        while await reader.readexactly(2) == b"\x89\x00":
            pass
    usage = gateway.usage()
    assert (usage.messages_sent, usage.messages_received) == (1, 1)
    writer.close()
    await writer.wait_closed()


async def test_fault_b36_pings_and_traffic_do_not_mix(gateway, monkeypatch):
    monkeypatch.setattr(_splice, "_PING_SECONDS", 0.001)
    async with open_client(gateway) as client:
        session = await attached(client)
        for number in range(1, 30):
            message = {"id": number, "sessionId": session, "method": "Runtime.evaluate"}
            params = {"expression": f"'x'.repeat({number} * 100000)", "returnByValue": True}
            await client.send(json.dumps(message | {"params": params}))
            assert len(await client.recv()) > number * 100_000


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="Linux only")
async def test_fault_b37_a_client_whose_cable_is_pulled(gateway, monkeypatch, wait_until):
    monkeypatch.setattr(_splice, "_PING_SECONDS", 0.1)
    monkeypatch.setattr(_splice, "_UNACKNOWLEDGED_SECONDS", 1.0)
    async with open_client(gateway) as watcher:
        before = len((await call(watcher, "Target.getBrowserContexts"))["browserContextIds"])
        client = await open_client(gateway)
        await call(client, "Target.createBrowserContext", disposeOnDetach=True)
        nothing = struct.pack("HHI", 0x06, 0, 0)  # a filter of one instruction, `ret 0`: no packet arrives
        from ctypes import addressof, create_string_buffer

        code = create_string_buffer(nothing.ljust(8, b"\0"))
        sock = client.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HL", 1, addressof(code)))  # SO_ATTACH_FILTER
        assert gateway.usage().clients == 2
        await wait_until(lambda: gateway.usage().clients == 1)
        async with asyncio.timeout(60):
            number = 2
            while (
                len((await call(watcher, "Target.getBrowserContexts", number))["browserContextIds"]) > before
            ):
                number += 1
        client.transport.abort()


async def test_fault_b37_keepalive_is_on(gateway):
    async with open_client(gateway):
        [splice] = gateway.registry.find(TOKEN).clients
        sock = splice.client.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


async def test_the_end_of_the_server_closes_clients(make_gateway, shared_chrome):
    async with make_gateway() as gateway:
        gateway.registry.add("other", shared_chrome.upstream)
        client = await websockets.connect(f"ws://{gateway.authority}/cdp/other", proxy=None)
    with pytest.raises(ConnectionClosed) as closed:
        await client.recv()
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "server stopping")
