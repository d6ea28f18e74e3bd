"""One suite for every transport: in memory, over a WebSocket, over a pipe."""

import asyncio
import json
import os

import pytest

from cdpbridge.cdp._endpoint import Progress, dial
from cdpbridge.cdp._pipe import open_pipe
from cdpbridge.cdp._upgrade import upgrade
from cdpbridge.errors import ConnectionClosed, MessageTooBig
from cdpbridge.testing import SILENT, MemoryTransport, ScriptedBrowser

LIMIT = 4 * 1024 * 1024


class Receiver:
    def __init__(self):
        self.messages = []
        self.ends = []
        self.room = []
        self.news = asyncio.Event()

    def received(self, buffer, start, end):
        data = bytes(buffer[start:end])
        data.decode()
        self.messages.append(data)
        self.news.set()

    def pause(self):
        self.room.append("pause")
        self.news.set()

    def resume(self):
        self.room.append("resume")
        self.news.set()

    def lost(self, closed):
        self.ends.append(closed)
        self.news.set()

    async def until(self, condition):
        async with asyncio.timeout(60):
            while not condition():
                self.news.clear()
                await self.news.wait()


class MemoryPeer:
    async def open(self):
        self.transport = MemoryTransport()
        return self.transport

    async def send(self, data):
        self.transport.deliver(data)

    async def next(self):
        return self.transport.sent.pop(0)

    async def end(self):
        self.transport.lose()

    async def close(self):
        pass


class WebSocketPeer:
    async def open(self):
        self.browser = ScriptedBrowser()
        self.browser.default = SILENT
        await self.browser.__aenter__()
        socket = await dial(self.browser.ws_url, progress=Progress())
        self.transport = await upgrade(
            socket, self.browser.ws_url, headers={}, max_message_bytes=LIMIT, compression=False
        )
        self.client = await self.browser.client()
        self.seen = 0
        return self.transport

    async def send(self, data):
        head = b"\x81\x7f" + len(data).to_bytes(8, "big")
        self.client.write(head + data)

    async def next(self):
        while len(self.browser.commands) <= self.seen:
            await self.browser._next_news()
        self.seen += 1
        return self.browser.commands[self.seen - 1]

    async def end(self):
        self.client.cut()

    async def close(self):
        await self.browser.__aexit__(None, None, None)


class PipePeer:
    async def open(self):
        out_read, out_write = os.pipe()
        in_read, in_write = os.pipe()
        loop = asyncio.get_running_loop()
        self.reader = asyncio.StreamReader(limit=8 * LIMIT)
        self.read_end, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self.reader), os.fdopen(out_read, "rb", buffering=0)
        )
        self.write_end, _ = await loop.connect_write_pipe(
            asyncio.Protocol, os.fdopen(in_write, "wb", buffering=0)
        )
        self.transport = await open_pipe(in_read, out_write, max_message_bytes=LIMIT)
        return self.transport

    async def send(self, data):
        self.write_end.write(data + b"\0")

    async def next(self):
        return json.loads((await self.reader.readuntil(b"\0"))[:-1])

    async def end(self):
        self.read_end.close()
        if not self.write_end.is_closing():
            self.write_end.abort()

    async def close(self):
        await self.end()


@pytest.fixture(params=[MemoryPeer, WebSocketPeer, PipePeer], ids=["memory", "websocket", "pipe"])
async def peer(request, running_loop, turns):
    peer = request.param()
    peer.link = await peer.open()
    peer.receiver = Receiver()
    yield peer
    peer.link.abort()
    await peer.receiver.until(lambda: peer.receiver.ends)
    await peer.close()
    await turns()


@pytest.fixture
def started(peer):
    peer.link.start(peer.receiver)
    return peer


def command(number, **params):
    return {"id": number, "method": "Test.command", "params": params}


def encoded(number, **params):
    return json.dumps(command(number, **params)).encode()


async def test_messages_arrive_whole_and_in_order(started):
    sent = [f'{{"n":{n},"t":"{"é" * n}"}}'.encode() for n in range(300)]
    for data in sent:
        await started.send(data)
    await started.receiver.until(lambda: len(started.receiver.messages) == len(sent))
    assert started.receiver.messages == sent


@pytest.mark.parametrize("size", [1, 125, 126, 127, 8180, 8192, 65535, 65536, 300_000, 3_000_000])
async def test_sizes_in(started, size):
    data = b'"' + b"x" * (size - 2) + b'"' if size > 1 else b"7"
    await started.send(data)
    await started.send(b"{}")
    await started.receiver.until(lambda: len(started.receiver.messages) == 2)
    assert started.receiver.messages[0] == data


@pytest.mark.parametrize("size", [0, 100, 126, 70_000, 3_000_000])
async def test_sizes_out(started, size):
    started.link.send(encoded(1, t="é" * size))
    started.link.send(encoded(2))
    assert await started.next() == command(1, t="é" * size)
    assert await started.next() == command(2)


async def test_commands_arrive_in_order(started):
    for number in range(1, 500):
        started.link.send(encoded(number))
    assert [(await started.next())["id"] for _ in range(1, 500)] == list(range(1, 500))


async def test_what_comes_before_the_start_is_kept(peer, turns):
    await peer.send(b'{"early":1}')
    await turns()
    peer.link.start(peer.receiver)
    await peer.receiver.until(lambda: peer.receiver.messages)
    assert peer.receiver.messages == [b'{"early":1}']


async def test_end_by_the_other_side_is_told_once(started, turns):
    await started.end()
    await started.receiver.until(lambda: started.receiver.ends)
    started.link.abort()
    await turns()
    assert [closed.code for closed in started.receiver.ends] == [1006]
    with pytest.raises(ConnectionClosed):
        started.link.send(encoded(1))


async def test_end_before_the_start_is_told_at_the_start(peer, wait_until, turns):
    await peer.end()
    await turns()
    peer.link.start(peer.receiver)
    await peer.receiver.until(lambda: peer.receiver.ends)


async def test_close_is_told_once_and_refuses_commands(started, turns):
    started.link.send(encoded(1))
    started.link.close(1000, "done")
    started.link.close(1000, "again")
    with pytest.raises(ConnectionClosed):
        started.link.send(encoded(2))
    assert (await started.next())["id"] == 1
    await started.receiver.until(lambda: started.receiver.ends)
    await turns()
    assert [closed.code for closed in started.receiver.ends] == [1000]


async def test_abort_ends_at_once(started):
    started.link.abort()
    await started.receiver.until(lambda: started.receiver.ends)
    assert len(started.receiver.ends) == 1
    started.link.abort()


async def test_fault_a57_text_that_is_no_utf8(started):
    await started.send(b'{"t":"\xff"}')
    await started.receiver.until(lambda: started.receiver.ends)
    assert started.receiver.ends[0].code == 1007
    assert not started.receiver.messages


@pytest.mark.parametrize("pieces", [1, 7])
async def test_fault_a61_message_over_the_limit(started, pieces):
    if isinstance(started, MemoryPeer):
        return  # memory has no limit: the test holds both ends
    await started.send(b"x" * (LIMIT + pieces))
    await started.receiver.until(lambda: started.receiver.ends)
    closed = started.receiver.ends[0]
    assert closed.code == 1009
    assert isinstance(closed.cause, MessageTooBig)
    assert closed.cause.limit_bytes == LIMIT
    assert not started.receiver.messages
