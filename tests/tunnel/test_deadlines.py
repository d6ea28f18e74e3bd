"""Servers that do not answer, and whose `TimeoutError` it is."""

import asyncio
import io
import socket
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from cdpbridge.errors import ConnectFailed
from cdpbridge.tunnel import _server_disk, open_tunnel, shares_files
from cdpbridge.tunnel._bulk import PeerSilent, receive
from cdpbridge.tunnel._disk import Folders
from cdpbridge.tunnel._server_disk import FileRequestFailed, ServerDisk


@asynccontextmanager
async def server(answer=b""):
    """Its address; it answers each connection with fixed bytes and leaves it open."""
    writers = []

    async def serve(_reader, writer):
        writers.append(writer)
        writer.write(answer)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        for writer in writers:
            writer.transport.abort()
        listening.close()
        await listening.wait_closed()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("cdpbridge.tunnel._find.CONNECT_TIMEOUT", timedelta(seconds=0.05))
    for name in ("_ANSWER_SECONDS", "_SILENCE_SECONDS"):
        monkeypatch.setattr(_server_disk, name, 0.05)


@pytest.mark.parametrize("opening", [shares_files, lambda address: open_tunnel(address).__aenter__()])
async def test_a_browser_that_does_not_answer_is_no_bare_timeout(quick, opening):
    async with server() as address:
        with pytest.raises(ConnectFailed, match=r"within 0\.05 s \(stage http\)") as caught:
            await opening(address)
    assert caught.value.stage == "http"


@pytest.mark.parametrize(
    ("answer", "words"),
    [(b"", "does not answer"), (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "has sent nothing for")],
)
@pytest.mark.parametrize("size", [10, 10 * 1024 * 1024])
async def test_a_server_that_falls_silent(quick, answer, words, size):
    async with server(answer) as address:
        disk = ServerDisk(address, Folders("", ""), None)
        with pytest.raises(FileRequestFailed, match=words):
            await disk.fetch("/a", io.BytesIO(), size)
        await disk.close()


class FullDisk(io.BytesIO):
    """A network disk that has timed out."""

    def write(self, _data):
        raise TimeoutError(110, "Connection timed out")


@pytest.mark.parametrize("size", [10, 10 * 1024 * 1024])
async def test_the_disks_own_timeout_is_not_the_servers(size):
    async with server(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc") as address:
        disk = ServerDisk(address, Folders("", ""), None)
        with pytest.raises(TimeoutError, match="Connection timed out"):
            await disk.fetch("/a", FullDisk(), size)
        await disk.close()


async def test_bulk_tells_silence_from_a_failing_disk():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    transport.pause_reading()
    with theirs:
        with pytest.raises(PeerSilent):
            await receive(transport, 3, io.BytesIO(), 0.02)
        theirs.sendall(b"abc")
        with pytest.raises(TimeoutError, match="Connection timed out"):
            await receive(transport, 3, FullDisk(), 5)
    transport.abort()
    await asyncio.sleep(0)
