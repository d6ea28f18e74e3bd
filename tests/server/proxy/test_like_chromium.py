"""Answers of sloppy servers: a Chromium gets the same through the forwarder and without it."""

import asyncio
import json
import os
import random
import socket
from contextlib import asynccontextmanager, closing

import pytest

from cdpbridge.cdp import connect_pipe
from cdpbridge.chromium import Chromium, find
from cdpbridge.server.proxy import ForwardingProxy
from tests.server.proxy.peers import wait_until

pytestmark = pytest.mark.chromium

BUILDS = ["shell", "full"]
AT_ONCE = 25
# What ends at a proxy (RFC 9110 section 7.6.1) is no part of the page.
GET = """
fetch('/PATH', {cache: 'no-store', redirect: 'manual'}).then(async r => {
  const headers = [...r.headers].filter(([n]) => !['connection', 'keep-alive', 'proxy-connection', 'te', 'trailer', 'upgrade'].includes(n));
  const body = await r.text().then(t => t, e => 'broke off');
  return [r.type, r.status, r.statusText, headers, body];
}, e => e.name)
"""


class SloppyServer:
    """Gives the bytes in `answers` for `/1`, `/2` and so on, in the pieces they are in, and then ends the connection.

    For paths in `held`, only when there comes something else, or nothing for a moment.
    """

    def __init__(self):
        self.answers = {}
        self.held = set()
        self.port = 0

    async def serve(self, reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split()[1].decode().rpartition("/")[2]
            pieces = self.answers.get(path, [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nblank"])
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            if path in self.held:
                async with asyncio.timeout(0.2):
                    await reader.read(1)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def sloppy_server(port=0):
    sloppy = SloppyServer()
    server = await asyncio.start_server(sloppy.serve, "127.0.0.1", port)
    sloppy.port = server.sockets[0].getsockname()[1]
    async with server:
        yield sloppy


@asynccontextmanager
async def usual_port():
    """A server at the one port where Chromium takes HTTP/0.9; None where it cannot be had."""
    try:
        with closing(socket.create_server(("127.0.0.1", 80))):
            pass
    except OSError:
        yield None
    else:
        async with sloppy_server(80) as server:
            yield server


@asynccontextmanager
async def both_ways(build):
    """A tab that goes through a forwarder, and one of the same browser that does not."""
    async with (
        await ForwardingProxy.start(None) as proxy,
        await Chromium.start(build=find(build), proxy_server=proxy.address) as chromium,
        await connect_pipe(*chromium.take_pipe()) as connection,
    ):
        context = await connection.root.send(
            "Target.createBrowserContext", {"proxyServer": "direct://", "proxyBypassList": "<-loopback>"}
        )
        through = await connection.new_tab()
        direct = await connection.new_tab(browser_context_id=context["browserContextId"])
        for tab in (through, direct):
            await tab.send("Page.enable")
            await tab.send("Network.enable")
            await tab.send("Network.setCacheDisabled", {"cacheDisabled": True})
        yield through, direct


async def run(tab, script):
    reply = await tab.send(
        "Runtime.evaluate", {"expression": script, "awaitPromise": True, "returnByValue": True}
    )
    assert "exceptionDetails" not in reply, reply
    return reply["result"].get("value")


async def visit(tab, url):
    """What Chromium makes of an address: its error, or status, type and content of the page, or the error at its end."""
    responses, ends = {}, {}
    remove = [
        tab.on("Network.responseReceived", lambda e: responses.update({e["requestId"]: e["response"]})),
        tab.on("Network.loadingFinished", lambda e: ends.update({e["requestId"]: None})),
        tab.on("Network.loadingFailed", lambda e: ends.update({e["requestId"]: e["errorText"]})),
    ]
    try:
        reply = await tab.send("Page.navigate", {"url": url})
        if reply.get("errorText"):
            return reply["errorText"]
        loader = reply["loaderId"]
        await wait_until(lambda: loader in ends)
        content = ends[loader]
        if content is None:
            content = (await tab.send("Network.getResponseBody", {"requestId": loader}))["body"]
        return [responses[loader]["status"], responses[loader]["mimeType"], content]
    finally:
        for each in remove:
            each()


async def fetched(tab, paths):
    """What a page gets for each path: the answer, and Chromium's error where there is one."""
    asked, errors = {}, {}
    remove = [
        tab.on(
            "Network.requestWillBeSent",
            lambda e: asked.update({e["requestId"]: e["request"]["url"].rpartition("/")[2]}),
        ),
        tab.on("Network.loadingFailed", lambda e: errors.update({asked[e["requestId"]]: e["errorText"]})),
    ]
    calls = ", ".join(GET.replace("PATH", path) for path in paths)
    answers = json.loads(await run(tab, f"Promise.all([{calls}]).then(JSON.stringify)"))
    for each in remove:
        each()
    # Behind the head of a redirect that it does not follow, Chromium breaks off sooner or later.
    return {
        path: answer if answer[0] == "opaqueredirect" else (answer, errors.get(path))
        for path, answer in zip(paths, answers, strict=True)
    }


# --- pages ------------------------------------------------------------------------------------------------------------

HTML = b"Content-Type: text/html\r\n"
PAGES = {
    "both framings": b"HTTP/1.1 200 OK\r\n" + HTML + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"4\r\n<p>x\r\n0\r\n\r\n",
    "line feeds": b"HTTP/1.1 200 OK\nContent-Type: text/html\n\n<p>x",
    "no reason": b"HTTP/1.1 200\r\n" + HTML + b"\r\n<p>x",
    "no status": b"HTTP/1.1\r\n" + HTML + b"\r\n<p>x",
    "bytes before": b"\r\nHTTP/1.1 200 OK\r\n" + HTML + b"\r\n<p>x",
    "folded": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n" + HTML + b"\r\n<p>x",
    "folded behind a blank before the colon": b"HTTP/1.1 200 OK\r\n" + HTML
    + b"Content-Length : 3\r\n folded\r\n\r\n<p>x and more",
    "blank before colon": b"HTTP/1.1 200 OK\r\nContent-Type : text/html\r\n\r\n<p>x",
    "no colon": b"HTTP/1.1 200 OK\r\nnothing\r\n" + HTML + b"\r\n<p>x",
    "latin": b"HTTP/1.1 200 \xe4\r\nX-\xe4: \xe4\r\n" + HTML + b"\r\n<p>x",
    "list of lengths": b"HTTP/1.1 200 OK\r\n" + HTML + b"Content-Length: 4, 4\r\n\r\n<p>x",
    "two lengths": b"HTTP/1.1 200 OK\r\n" + HTML + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n<p>x",
    "two locations": b"HTTP/1.1 302 Found\r\nLocation: /a\r\nLocation: /b\r\n\r\n",
    "padded chunks": b"HTTP/1.1 200 OK\r\n" + HTML + b"Transfer-Encoding: chunked\r\n\r\n4   \r\n<p>x\r\n0\r\n\r\n",
    "gzip and chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n" + HTML
    + b"\r\n4\r\n<p>x\r\n0\r\n\r\n",
    "head broke off": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n",
    "nul": b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n<p>x",
    "head too large": b"HTTP/1.1 200 OK\r\n" + b"X: %b\r\n" % (b"x" * 1000) * 300 + b"\r\n<p>x",
    "shorter": b"HTTP/1.1 200 OK\r\n" + HTML + b"Content-Length: 400\r\n\r\n<p>x",
    "no http": b"SSH-2.0-OpenSSH\r\n",
    "nothing": b"",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "broken chunk": b"HTTP/1.1 200 OK\r\n" + HTML + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n<p>x\r\n0\r\n\r\n",
    "empty 404": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
}  # fmt: skip
# Chromium answers these itself without a proxy.
LOCAL_NAMES = ["localhost", "LocalHost.", "app.localhost", "a.b.localhost.", "a_b.localhost",
               "-a-.localhost", "bücher.localhost", "例え.localhost", f"{'x' * 63}.localhost"]  # fmt: skip
WRONG_NAMES = [
    "no-such-name.invalid",
    "bücher.invalid",
    "a..b.invalid",
    f"{'x' * 64}.invalid",
    "a~b.localhost",
]


@pytest.mark.parametrize("build", BUILDS)
async def test_fault_c17_and_c18_pages_are_the_same_through_the_forwarder(build):
    async with (
        sloppy_server() as server,
        usual_port() as old,
        both_ways(build) as (through, direct),
    ):
        if old is not None:
            old.answers = {"old": [b"<p>old server"]}
            url = "http://127.0.0.1/old"
            assert (
                await visit(through, url) == await visit(direct, url) == [200, "text/html", "<p>old server"]
            )
        server.answers = {str(number): [page] for number, page in enumerate(PAGES.values())}
        for number, name in enumerate(PAGES):
            url = f"http://127.0.0.1:{server.port}/{number}"
            assert await visit(through, url) == await visit(direct, url), name
        for name in LOCAL_NAMES:
            url = f"http://{name}:{server.port}/1"
            assert await visit(through, url) == await visit(direct, url) == [200, "text/html", "<p>x"], name
        for name in WRONG_NAMES:
            url = f"http://{name}:{server.port}/1"
            assert (await visit(through, url))[0] in {400, 502}, name
            assert await visit(direct, url) == "net::ERR_NAME_NOT_RESOLVED", name


# --- random answers ---------------------------------------------------------------------------------------------------

STATUS_LINES = [
    b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 200", b"HTTP/1.1 ", b"HTTP/1.1 OK", b"HTTP/1.1  200  many  words ",
    b"http/1.1 200 OK", b"HTTP/1.2 200 OK", b"HTTP/2.0 200 OK", b"HTTP/1 200 OK", b"HTTP 200 OK", b"HTTP/0.9 200 OK", b"HTTP/1.1 404 \xe9\xff",
    b"HTTP/1.1 204 None", b"HTTP/1.1 205 Reset", b"HTTP/1.1 500", b"HTTP/1.1 999 Odd", b"HTTP/1.1 20 Short", b"HTTP/1.1 2000 Long",
    b"HTTP/1.1\t200\tOK", b"\r\nHTTP/1.1 200 OK", b"xxxxHTTP/1.1 200 OK", b"xxxxxHTTP/1.1 200 OK", b"ICY 200 OK", b"ok", b"",
    b"HTTP/1.1 302 Found", b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 200 OK", b"HTTP/1.1 103 Hints\r\nLink: </x>\r\n\r\nHTTP/1.0 200 OK",
    b"HTTP/1.1 101 Switch\r\n\r\nHTTP/1.1 200 OK",
]  # fmt: skip
HEADERS = [
    b"Content-Length: 5", b"Content-Length: 5", b"content-length:5", b"Content-Length : 5", b"Content-Length: 3", b"Content-Length: 50",
    b"Content-Length: 5, 5", b"Content-Length: 5, 6", b"Content-Length: +5", b"Content-Length: -5", b"Content-Length: 0x5",
    b"Content-Length: 5 5", b"Content-Length:", b"Content-Length: 99999999999999999999", b"Content-Length: 005", b"Content-Length: ,5",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", b"transfer-encoding: Chunked", b"Transfer-Encoding: identity",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: xchunked", b"Content-Type: text/plain", b"Content-Type: text/html; charset=utf-8", b"Location: /1",
    b"Location: /2", b"Content-Disposition: inline", b"Connection: close", b"Connection: keep-alive, X-A", b"X-A: b", b"X-A: a\r\n folded",
    b"X-B: a\r\n\tContent-Length: 9", b" leading: blank", b"no colon", b": no name", b"X\xe9: latin", b"X-C: \xe9\xff\x01", b"X-D: a\rX-E: b",
    b"X y: z", b"X-F: a\x00b", b"X-G:", b"Keep-Alive: timeout=5", b"Proxy-Connection: close", b"Upgrade: h2c",
]  # fmt: skip
BODIES = [
    b"hello", b"hello", b"hello and more", b"", b"hel", b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n",
    b"5  \r\nhello\r\n0\r\n\r\n", b"5;x=y\r\nhello\r\n0;z\r\nTrailer: a\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n", b"+5\r\nhello\r\n0\r\n\r\n",
    b" 5\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloX\r\n0\r\n\r\n", b"5\r\nhello\r\n", b"5\r\nhello\r\n0\r\n", b"5\r\nhel", b"\r\n5\r\nhello\r\n0\r\n\r\n",
    b"00000000000000000005\r\nhello\r\n000\r\n\r\n", b"ffffffffffffffffff\r\nhello", b"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\nsecond",
    b"5\r\nhello\r\n2\r\n, \r\n5\r\nworld\r\n0\r\n\r\n", b"5\t\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\nno colon\r\n\r\n",
]  # fmt: skip
ENDS = [b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r\r\n"]


def random_answer(random):
    end = random.choice(ENDS)
    lines = [random.choice(STATUS_LINES), *random.choices(HEADERS, k=random.randrange(5))]
    answer = end.join(lines) + end + random.choice([end, end, end, b"\n", b""]) + random.choice(BODIES)
    if random.randrange(8) == 0 and answer:
        place = random.randrange(len(answer))
        answer = (
            answer[:place]
            + random.choice([b"", b"\r", b"\n", b" ", b":", bytes([random.randrange(256)])])
            + answer[place + 1 :]
        )
    if random.randrange(8) == 0:
        answer = answer[: random.randrange(len(answer) + 1)]
    cuts = sorted(random.randrange(len(answer) + 1) for _ in range(random.randrange(3)))
    return [answer[a:b] for a, b in zip([0, *cuts], [*cuts, len(answer)], strict=True) if a < b]


async def compare_random_answers(build, count, seed):
    dice = random.Random(seed)
    async with sloppy_server() as server, both_ways(build) as (through, direct):
        for tab in (through, direct):
            await visit(tab, f"http://127.0.0.1:{server.port}/")
        for number in range(0, count, AT_ONCE):
            paths = [str(each) for each in range(number + 1, number + 1 + AT_ONCE)]
            server.answers = {path: random_answer(dice) for path in paths}
            server.held = set(dice.sample(paths, AT_ONCE // 4))
            different = await differing(through, direct, paths)
            # Directly, Chromium may take the rest of one answer for the next one, as one server gives both: ask for each alone.
            different = [path for path in different if await differing(through, direct, [path])]
            found = {
                path: (server.answers[path], await differing(through, direct, [path])) for path in different
            }
            assert not different, f"seed {seed}: {found}"


async def differing(through, direct, paths):
    """The paths that are not the same both ways, with what each way got."""
    got, expected = await asyncio.gather(fetched(through, paths), fetched(direct, paths))
    return {path: (got[path], expected[path]) for path in paths if got[path] != expected[path]}


@pytest.mark.parametrize("build", ["shell", pytest.param("full", marks=pytest.mark.slow)])
async def test_fault_c17_random_answers_are_the_same_through_the_forwarder(build):
    await compare_random_answers(build, 200, seed=17)


@pytest.mark.slow
@pytest.mark.parametrize("build", BUILDS)
async def test_fault_c17_many_random_answers_are_the_same_through_the_forwarder(build):
    await compare_random_answers(build, 50_000, seed=int.from_bytes(os.urandom(4)))
