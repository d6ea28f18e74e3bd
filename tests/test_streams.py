"""`write_to`: a socket that has closed is an ordinary error, on every event loop."""

import asyncio
import logging
import socket
import struct

import pytest

from cdpbridge._concurrency import loop_factory
from cdpbridge._streams import write_to
from cdpbridge.server.proxy import ForwardingProxy

LOOPS = [pytest.param(None, id="asyncio"), pytest.param(loop_factory(), id="fast")]


@pytest.fixture(params=LOOPS)
def run(request):
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


async def lost(writer):
    """Wait until the event loop has closed a socket."""
    async with asyncio.timeout(30):
        while not writer.is_closing():
            await asyncio.sleep(0.01)
    await asyncio.sleep(0)


def test_a_closed_socket_is_an_oserror(run):
    async def main():
        accepted = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(lambda *streams: accepted.set_result(streams), "127.0.0.1", 0)
        async with server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            _, other = await accepted
            write_to(other, b"said")
            writer.transport.abort()
            other.transport.abort()
            await lost(other)
            for _ in range(3):
                with pytest.raises(ConnectionResetError):
                    write_to(other, b"more")
                await asyncio.sleep(0)

    run(main())


def test_an_answer_to_a_browser_that_has_closed_its_socket_is_no_error(run, caplog):
    async def main():
        asked, may_answer = asyncio.Event(), asyncio.Event()

        async def answer(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            asked.set()
            await may_answer.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
            await reader.read()
            writer.transport.abort()

        site = await asyncio.start_server(answer, "127.0.0.1", 0)
        proxy = await ForwardingProxy.start(None)
        async with site, proxy:
            host, _, port = proxy.address.rpartition(":")
            _, writer = await asyncio.open_connection(host, int(port))
            authority = f"127.0.0.1:{site.sockets[0].getsockname()[1]}"
            writer.write(f"GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
            await asked.wait()
            (connection,) = proxy._clients.values()
            linger = struct.pack("ii", 1, 0)  # a reset
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            await lost(connection.writer)
            may_answer.set()
            async with asyncio.timeout(30):
                while not proxy.idle:
                    await asyncio.sleep(0.01)

    with caplog.at_level(logging.WARNING):
        run(main())
    assert caplog.records == []
