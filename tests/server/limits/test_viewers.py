"""Fault D12: viewers' WebSockets before their credential, on a real server."""

import asyncio
import json
import struct

import pytest
import websockets

pytestmark = [
    pytest.mark.one_build("limits of the server's own port"),
    pytest.mark.chromium,
    pytest.mark.timeout(300),
]

MIB = 2**20


def frame_head(length, opcode=1, *, fin=True):
    """The start of a masked frame, whose payload is as it comes: the mask is zero."""
    first = (0x80 if fin else 0) | opcode
    if length < 126:
        return struct.pack("!BB4x", first, 0x80 | length)
    if length < 65_536:
        return struct.pack("!BBH4x", first, 0x80 | 126, length)
    return struct.pack("!BBQ4x", first, 0x80 | 127, length)


async def opened(target, path="/live/socket"):
    peer = await target.connect(target.upgrade(path))
    head = await peer.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    return peer


async def close_code(peer):
    """Of the close frame that ends the connection."""
    answer = await peer.answer()
    assert answer[0] == 0x88, answer[:100]
    return struct.unpack("!H", answer[2:4])[0]


async def test_fault_d12_a_large_first_message_is_refused_by_its_announced_length(spawn_server, attack):
    async with spawn_server() as server:
        target = attack(server)
        small = frame_head(1000, 1, fin=False) + b"a" * 1000
        more = frame_head(1000, 0, fin=False) + b"a" * 1000
        for path in ("/live/socket", "/share/socket"):
            for name, sent in {
                "text": frame_head(16 * MIB),
                "binary": frame_head(16 * MIB, 2),
                "just above": frame_head(16 * 1024 + 1),
                "a fragment": frame_head(16 * MIB, 1, fin=False),
                "a later fragment": small + frame_head(16 * MIB, 0),
                "many fragments": small + more * 30,
                "pings": (frame_head(100, 9) + b"a" * 100) * 300,
            }.items():
                peer = await opened(target, path)
                await peer.send(sent)
                if name == "pings":  # answered with pongs, up to the limit
                    await peer.closed()
                else:
                    assert await close_code(peer) == 1009, name
        before = target.rss()
        peers = [await opened(target) for _ in range(300)]

        async def push(peer):
            await peer.send(frame_head(15 * MIB))
            for _ in range(60):
                if not await peer.send(b"a" * 262_144):
                    return

        await asyncio.gather(*map(push, peers))
        for peer in peers:
            await peer.closed()
        assert target.rss() - before < 32
        assert await target.serves()
        _, errors = await server.end()
        assert "Traceback" not in errors


async def test_fault_d12_who_has_a_credential_may_send_more(spawn_server):
    async with spawn_server() as server:
        browser = await server.rent()
        token = browser["liveUrl"].rpartition("/")[2].partition("?")[0]
        address = f"ws://{server.http.base_url.netloc.decode()}/live/socket"
        async with websockets.connect(address, max_size=None) as driver:
            await driver.send(json.dumps({"type": "hello", "token": token}))
            assert json.loads(await text(driver))["type"] != "end"
            await driver.send(json.dumps({"type": "paste", "text": "a" * 900_000}))
            await driver.send(json.dumps({"type": "drop", "rest": "a" * 10_000_000}))
            pong = await driver.ping()
            await asyncio.wait_for(pong, 30)
        await server.stop(browser)


async def text(socket):
    """The next message that is no picture."""
    async with asyncio.timeout(30):
        while not isinstance(message := await socket.recv(), str):
            pass
    return message
