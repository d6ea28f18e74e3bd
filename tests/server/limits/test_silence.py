"""Fault D11: peers that say nothing, or one byte at a time, or do not read, on a real server."""

import asyncio
import json

import pytest

pytestmark = [
    pytest.mark.one_build("limits of the server's own port"),
    pytest.mark.chromium,
    pytest.mark.timeout(300),
]

SHORT = {
    "head_seconds": 1.0,
    "stall_seconds": 1.0,
    "stall_bytes": 1000,
    "unread_seconds": 1.0,
    "linger_seconds": 0.5,
    "hello_seconds": 1.0,
    "keep_alive_seconds": 1,
}


async def drip(peer, data=b"a", every=0.2):
    """A byte now and then, until the server has closed."""
    while await peer.send(data):
        await asyncio.sleep(every)


async def test_fault_d11_silent_peers_and_slow_ones_are_closed(spawn_server, attack):
    async with spawn_server(limits=SHORT) as server:
        target = attack(server)
        browser = await server.rent()
        upload = "POST /files"
        form = "Content-Type: multipart/form-data; boundary=b", "Content-Length: 100000"
        begun = {
            "silent": (b"", None),
            "half a head": (b"GET /healthz HTTP/1.1\r\nX: ", 408),
            "half an upgrade": (b"GET /live/socket HTTP/1.1\r\nUpgrade: websocket\r\nX: ", 408),
            "half a body": (target.head("POST /console/sign-in", "Content-Length: 100") + b'{"key', 408),
            "half a chunk": (
                target.head("POST /console/sign-in", "Transfer-Encoding: chunked") + b"100\r\n{",
                408,
            ),
            "half an upload": (target.head(upload, *form) + b"--b\r\nContent-Disposition: form-data", 408),
            "an upload without a byte": (target.head(upload, *form), 408),
            "idle after an answer": (target.head("GET /healthz"), 200),
            "half a head after an answer": (target.head("GET /healthz") + b"GET /healthz HT", 200),
            "a viewer without a hello": (target.upgrade("/live/socket"), 101),
            "a viewer of a share without a hello": (target.upgrade("/share/socket"), 101),
        }

        async def ends(name, dripping):
            first, expected = begun[name]
            peer = await target.connect(first)
            drops = asyncio.create_task(drip(peer)) if dripping else None
            # Some forms and frames are wrong as soon as the first byte has come.
            allowed = {expected, 400} if dripping else {expected}
            assert await peer.status() in allowed, (name, dripping)
            await peer.closed()
            if drops is not None:
                await drops

        # All of them at once: each waits for a limit of its own.
        dripping = [name for name in begun if name != "silent" and not name.startswith("idle")]
        await asyncio.gather(
            *(ends(name, dripping=False) for name in begun), *(ends(name, dripping=True) for name in dripping)
        )
        # A CDP client with a valid token may be silent for as long as it likes.
        cdp = await target.connect(target.upgrade("/cdp/" + browser["cdpUrl"].rpartition("/")[2]))
        assert await cdp.status() == 101
        silent = [await target.connect() for _ in range(3)]
        for peer in silent:
            await peer.closed()
        await cdp.reader.readuntil(b"\r\n\r\n")
        with pytest.raises(TimeoutError):  # nothing, and no end
            await asyncio.wait_for(cdp.reader.read(1), 2.5)
        await server.stop(browser)
        _, errors = await server.end()
        assert "Traceback" not in errors


async def test_fault_d11_who_does_not_read_the_answer_is_closed(spawn_server, attack, wait_until):
    async with spawn_server(limits=SHORT) as server:
        target = attack(server)
        assert await target.serves()
        await wait_until(lambda: target.sockets() == 0)
        for _ in range(5):
            peer = await target.connect()
            peer.writer.transport.pause_reading()
            peer.writer.transport.set_write_buffer_limits(2**26)
            await peer.send(target.head("GET /openapi.json") * 200)
        await wait_until(lambda: target.sockets() > 0)
        await wait_until(lambda: target.sockets() == 0)
        assert await target.serves()


async def test_a_slow_upload_that_goes_on_is_taken(spawn_server, attack):
    """Many times the limit of a stall, and never silent for so long."""
    async with spawn_server(limits=SHORT | {"stall_bytes": 5}) as server:
        body = json.dumps({"name": "a" * 80}).encode()

        async def pieces():
            for at in range(0, len(body), 5):
                yield body[at : at + 5]
                await asyncio.sleep(0.15)

        answer = await server.http.post(
            "/profiles", content=pieces(), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 201
