"""Faults that Chromium will not show: a scripted browser that answers late, wrongly, in part, or not at all."""

import asyncio
import json
import socket
import struct
import time
from contextlib import asynccontextmanager, suppress

import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.utils import accept_key

from cdpbridge.server.gateway import Upstream, _dial, _splice
from tests.server.gateway.conftest import TOKEN

MiB = 1024 * 1024
PATH = "/devtools/browser/x"


class Browser:
    """A debugging port whose connections are played by `play(reader, writer, head)`."""

    def __init__(self, play):
        self._play = play
        self.heads = []
        self.received = b""
        self.gone = asyncio.Event()

    async def __call__(self, reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head.decode())
            await self._play(self, reader, writer)
            while chunk := await reader.read(65_536):
                self.received += chunk
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.gone.set()
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def accept(self, writer, more=b""):
        key = next(
            line for line in self.heads[-1].splitlines() if line.lower().startswith("sec-websocket-key")
        )
        answer = accept_key(key.split()[1])
        writer.write(
            "HTTP/1.1 101 WebSocket Protocol Handshake\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {answer}\r\n\r\n".encode()
            + more
        )


@asynccontextmanager
async def scripted(play):
    browser = Browser(play)
    server = await asyncio.start_server(browser, "127.0.0.1", 0)
    try:
        browser.upstream = Upstream("127.0.0.1", server.sockets[0].getsockname()[1], PATH)
        yield browser
    finally:
        server.close()
        if browser.heads:
            await asyncio.wait_for(browser.gone.wait(), 60)
        await server.wait_closed()


def open_client(gateway, **options):
    options = {"max_size": None, "ping_interval": None, "compression": None, "proxy": None} | options
    return websockets.connect(gateway.ws_url, **options)


async def ended(client, timeout=60):
    """The close frame that the client got, or None."""
    async with asyncio.timeout(timeout):
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await client.recv()
    return closed.value.rcvd


def text(payload):
    return struct.pack("!BBQ", 0x81, 127, len(payload)) + payload


async def accepted(browser, reader, writer):
    browser.accept(writer)


# --- the upgrade ------------------------------------------------------------------------------------------------------


async def test_the_upgrade_is_what_chromium_wants(make_gateway):
    async with scripted(accepted) as browser, make_gateway(browser.upstream) as gateway:
        async with open_client(gateway, origin=f"http://{gateway.authority}", compression="deflate"):
            pass
        head = browser.heads[0].lower()
        assert head.startswith(f"get {PATH} http/1.1\r\n")
        assert f"\r\nhost: 127.0.0.1:{browser.upstream.port}\r\n" in head
        assert "origin" not in head
        assert "extensions" not in head


async def test_what_comes_with_the_browsers_answer_is_passed_on(make_gateway):
    async def play(browser, reader, writer):
        browser.accept(writer, text(b"first"))

    async with scripted(play) as browser, make_gateway(browser.upstream) as gateway:
        async with open_client(gateway) as client:
            assert await client.recv() == "first"
        assert gateway.usage().messages_received == 1


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 500 Internal Server Error\r\nContent-Length:20\r\n\r\nNo such target id: X", 404),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404),
        (b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 5\r\n\r\nHost!", 502),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n" + b"x" * 70_000, 502),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 502),
        (b"HTTP/1.1 101 " + b"x" * 70_000, 502),
        (b"nonsense\r\n\r\nContent-Length: 1", None),
    ],
)
async def test_fault_b42_a_browser_that_refuses(make_gateway, monkeypatch, answer, status):
    monkeypatch.setattr(_dial, "_CONNECT_SECONDS", 1)

    async def play(browser, reader, writer):
        writer.write(answer)

    async with scripted(play) as browser, make_gateway(browser.upstream) as gateway:
        assert await gateway.upgrade() == (status or 502)
        assert gateway.usage().clients == 0


async def test_fault_b42_a_browser_that_drops_the_upgrade(make_gateway):
    async def play(browser, reader, writer):
        writer.transport.abort()

    async with scripted(play) as browser, make_gateway(browser.upstream) as gateway:
        assert await gateway.upgrade() == 502


async def test_fault_b42_a_browser_that_does_not_answer(make_gateway, monkeypatch):
    monkeypatch.setattr(_dial, "_CONNECT_SECONDS", 0.2)

    async def play(browser, reader, writer):
        await reader.read()

    async with scripted(play) as browser, make_gateway(browser.upstream) as gateway:
        with pytest.raises(InvalidStatus) as refused:
            await open_client(gateway)
        assert refused.value.response.status_code == 502
        assert json.loads(refused.value.response.body) == {"detail": "the browser does not answer"}


async def test_fault_b42_a_browser_that_is_not_ready(make_gateway):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    browser = Browser(accepted)
    async with make_gateway(Upstream("127.0.0.1", port, PATH)) as gateway:
        opening = asyncio.create_task(open_client(gateway).__aenter__())
        await asyncio.sleep(0.1)
        assert not opening.done()
        server = await asyncio.start_server(browser, "127.0.0.1", port)
        client = await asyncio.wait_for(opening, 60)
        await client.close()
        server.close()
        await browser.gone.wait()
        await server.wait_closed()


@pytest.mark.parametrize("end", ["stop", "shutdown"])
async def test_fault_b42_stopped_while_a_client_waits(make_gateway, wait_until, end):
    async def play(browser, reader, writer):
        await reader.read()

    async with scripted(play) as browser:
        async with make_gateway() as gateway:
            gateway.registry.add("other", browser.upstream)
            waiting = asyncio.create_task(gateway.upgrade("/cdp/other"))
            await wait_until(lambda: browser.heads)
            if end == "stop":
                await gateway.registry.close("other", 1001, "session stopped")
        assert await waiting == 503


async def test_a_client_that_leaves_before_the_answer(make_gateway, wait_until):
    release = asyncio.Event()

    async def play(browser, reader, writer):
        await release.wait()
        browser.accept(writer)

    async with scripted(play) as browser, make_gateway(browser.upstream) as gateway:
        waiting = asyncio.create_task(gateway.upgrade())
        await wait_until(lambda: browser.heads)
        waiting.cancel()
        await asyncio.wait({waiting})
        release.set()
        await asyncio.wait_for(browser.gone.wait(), 60)
        await wait_until(lambda: not gateway.registry.find(TOKEN).clients)
        assert gateway.usage().clients == 0


# --- the ends ---------------------------------------------------------------------------------------------------------


async def test_a_browsers_close_frame_is_passed_on_and_answered(make_gateway):
    async def play(browser, reader, writer):
        browser.accept(writer, b"\x88\x05\x0f\xa0bye")

    async with scripted(play) as browser, make_gateway(browser.upstream) as gateway:
        client = await open_client(gateway)
        frame = await ended(client)
        assert (frame.code, frame.reason) == (4000, "bye")
        await browser.gone.wait()
        assert browser.received[0] == 0x88  # the client's answer, and no frame of ours beside it
        assert len(browser.received) == 2 + 4 + len("\x0f\xa0bye")


async def test_a_cut_client_leaves_the_browser_with_a_close_frame(make_gateway):
    async with scripted(accepted) as browser, make_gateway(browser.upstream) as gateway:
        client = await open_client(gateway)
        client.transport.abort()
        await asyncio.wait_for(browser.gone.wait(), 60)
        assert browser.received[:2] == b"\x88\x82"
        assert len(browser.received) == 8


async def test_a_client_that_is_cut_within_a_frame(make_gateway):
    async with scripted(accepted) as browser, make_gateway(browser.upstream) as gateway:
        client = await open_client(gateway)
        client.transport.write(b"\x81\xff" + struct.pack("!Q", 1000) + b"mask" + b"x" * 10)
        async with asyncio.timeout(60):
            while len(browser.received) < 24:
                await asyncio.sleep(0.01)
        client.transport.abort()
        await asyncio.wait_for(browser.gone.wait(), 60)
        assert len(browser.received) == 24


async def test_a_browser_that_dies_within_a_frame(make_gateway):
    async def play(browser, reader, writer):
        browser.accept(writer, text(b"x" * MiB)[:-1])
        await writer.drain()
        writer.transport.abort()

    async with scripted(play) as browser, make_gateway(browser.upstream) as gateway:
        client = await open_client(gateway)
        assert await ended(client) is None


async def test_fault_b02_the_frame_ends_and_what_follows_is_dropped(make_gateway):
    frame, next_frame = text(b"x" * MiB), text(b"unwanted")
    go_on = asyncio.Event()

    async def play(browser, reader, writer):
        browser.accept(writer, frame[:1000])
        await go_on.wait()
        writer.write(frame[1000:5000])
        await asyncio.sleep(0.01)
        writer.write(frame[5000:] + next_frame)

    async with scripted(play) as browser, make_gateway(browser.upstream) as gateway:
        client = await open_client(gateway)
        closing = asyncio.create_task(gateway.registry.close(TOKEN, 1001, "session expired"))
        await asyncio.sleep(0)
        go_on.set()
        assert len(await client.recv()) == MiB
        closed = await ended(client)
        assert (closed.code, closed.reason) == (1001, "session expired")
        await closing


async def test_fault_b02_the_running_frame_is_the_browsers_close_frame(make_gateway):
    go_on = asyncio.Event()

    async def play(browser, reader, writer):
        browser.accept(writer, b"\x88\x02\x03")
        await go_on.wait()
        writer.write(b"\xe8")

    async with scripted(play) as browser, make_gateway(browser.upstream) as gateway:
        client = await open_client(gateway)
        closing = asyncio.create_task(gateway.registry.close(TOKEN, 1001, "session expired"))
        await asyncio.sleep(0)
        go_on.set()
        assert (await ended(client)).code == 1000
        await closing


async def test_fault_b02_a_frame_that_never_ends(make_gateway, monkeypatch):
    monkeypatch.setattr(_splice, "_CLOSE_SECONDS", 0.2)

    async def play(browser, reader, writer):
        browser.accept(writer, text(b"x" * MiB)[:1000])

    async with scripted(play) as browser, make_gateway(browser.upstream) as gateway:
        client = await open_client(gateway)
        async with asyncio.timeout(60):
            await gateway.registry.close(TOKEN, 1001, "session expired")
        assert await ended(client) is None


async def test_a_client_that_does_not_answer_the_close_frame(make_gateway, monkeypatch, wait_until):
    monkeypatch.setattr(_splice, "_CLOSE_SECONDS", 0.2)
    async with scripted(accepted) as browser, make_gateway(browser.upstream) as gateway:
        client = await open_client(gateway)
        client.transport.pause_reading()
        entry = gateway.registry.find(TOKEN)
        async with asyncio.timeout(60):
            await gateway.registry.close(TOKEN, 1001, "session stopped")
        await asyncio.wait_for(browser.gone.wait(), 60)
        await wait_until(lambda: not entry.clients)
        client.transport.resume_reading()
        assert (await ended(client)).reason == "session stopped"


async def test_a_browser_that_does_not_answer_a_close_frame(make_gateway, monkeypatch):
    monkeypatch.setattr(_splice, "_CLOSE_SECONDS", 0.2)

    async with scripted(accepted) as browser, make_gateway(browser.upstream) as gateway:
        client = await open_client(gateway, close_timeout=60)
        await client.close(1000)
        assert client.close_code == 1000
        await asyncio.wait_for(browser.gone.wait(), 60)


async def test_a_browser_that_answers_a_close_frame_with_the_end(make_gateway):
    async def play(browser, reader, writer):
        browser.accept(writer)
        await reader.read(100)
        writer.close()

    async with scripted(play) as browser, make_gateway(browser.upstream) as gateway:
        client = await open_client(gateway)
        await client.close(1000)
        assert client.close_code == 1000


async def test_a_client_that_ends_its_direction_only(make_gateway, wait_until):
    async with scripted(accepted) as browser, make_gateway(browser.upstream) as gateway:
        client = await open_client(gateway)
        client.transport.write_eof()
        await asyncio.wait_for(browser.gone.wait(), 60)
        assert browser.received[:2] == b"\x88\x82"
        await wait_until(lambda: gateway.usage().clients == 0)
        await client.wait_closed()


async def test_fault_b38_a_browser_that_does_not_read(make_gateway, monkeypatch, wait_until):
    """The client is held up, and a stop is still heard by it."""
    release = asyncio.Event()

    async def play(browser, reader, writer):
        browser.accept(writer)
        await release.wait()

    async with scripted(play) as browser, make_gateway(browser.upstream) as gateway:
        client = await open_client(gateway)
        sending = asyncio.create_task(client.send("x" * (64 * MiB)))
        [splice] = gateway.registry.find(TOKEN).clients
        await wait_until(lambda: not splice.client.is_reading())
        assert splice.browser.get_write_buffer_size() < 2 * MiB
        await asyncio.sleep(0)
        assert not sending.done()
        closing = asyncio.create_task(gateway.registry.close(TOKEN, 1001, "session stopped"))
        assert (await ended(client)).reason == "session stopped"
        await asyncio.wait({sending})
        sending.exception()
        await closing
        release.set()


def test_the_same_under_uvloop(make_gateway):
    uvloop = pytest.importorskip("uvloop")

    async def play(browser, reader, writer):
        browser.accept(writer, text(b"hello"))
        while chunk := await reader.read(65_536):
            browser.received += chunk
            if b"die" in browser.heads[-1].encode():
                return

    async def scenario():
        faults = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
        async with scripted(play) as browser, make_gateway(browser.upstream) as gateway:
            client = await open_client(gateway)
            assert await client.recv() == "hello"
            await client.send("x" * MiB)
            reset = struct.pack("ii", 1, 0)
            client.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            client.transport.abort()
            await browser.gone.wait()  # the last to go: nothing is said to the client, whose socket is closed
            browser.gone.clear()
            client = await open_client(gateway)
            assert await client.recv() == "hello"
            await gateway.registry.close(TOKEN, 1001, "session stopped")
            assert (await ended(client)).reason == "session stopped"
            assert await gateway.upgrade() == 404
        assert not faults

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.parametrize("length", [0, 7])
async def test_where_the_kernel_tells_little_nobody_is_cut(length):
    class Socket:
        def getsockopt(self, *_arguments):
            if not length:
                raise OSError("not TCP")
            return bytes(length)

    class Transport:
        def get_extra_info(self, name):
            return Socket()

    assert not _splice._is_half_open(Transport())


def test_fault_b36_a_busy_client_whose_machine_acknowledges_is_not_half_open(monkeypatch):
    """It never writes, and its program never reads: the kernel's word is what counts."""
    monkeypatch.setattr(_splice, "_UNACKNOWLEDGED_SECONDS", 0.3)
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as client,
        listening.accept()[0] as accepted,
    ):

        class Transport:
            def get_extra_info(self, _name):
                return accepted

        client.send(b"x")  # so that the time of its last data is known
        began = time.monotonic()
        while time.monotonic() - began < 0.6 or _splice._is_half_open(Transport()):
            accepted.send(b"ping")  # a loaded machine may stop between this and the next look
            time.sleep(0.02)
            assert time.monotonic() - began < 60
        began = time.monotonic()
        while not _splice._is_half_open(Transport()):  # nothing is sent, so nothing is acknowledged
            time.sleep(0.02)
            assert time.monotonic() - began < 60
