"""`Acceptor`: a few connections in a turn of the event loop, on every loop, until it is closed."""

import asyncio
import socket

import pytest

from cdpbridge._concurrency import loop_factory
from cdpbridge.server._acceptor import _AT_ONCE, Acceptor

LOOPS = [pytest.param(None, id="asyncio"), pytest.param(loop_factory(), id="fast")]
BURST = 100


@pytest.fixture(params=LOOPS)
def run(request):
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0), backlog=2 * BURST) as made:
        yield made


class Echo(asyncio.Protocol):
    made = 0

    def connection_made(self, transport):
        Echo.made += 1
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


def burst(address, number):
    """Sockets that all wait to be accepted."""
    return [socket.create_connection(address) for _ in range(number)]


def test_a_burst_is_accepted_in_parts_and_each_connection_serves(run, listening):
    waiting = burst(listening.getsockname(), BURST)

    async def main():
        Echo.made = 0
        acceptor = Acceptor(listening, Echo)
        most = before = 0
        while Echo.made < BURST:
            await asyncio.sleep(0)
            most, before = max(most, Echo.made - before), Echo.made
        assert most <= 2 * _AT_ONCE
        for each in waiting:
            each.sendall(b"said")
        loop = asyncio.get_running_loop()
        for each in waiting:
            each.setblocking(False)
            assert await loop.sock_recv(each, 10) == b"said"
        acceptor.close()
        await acceptor.wait_closed()

    run(main())
    for each in waiting:
        each.close()


def test_closed_as_uvicorn_closes_it_nothing_is_accepted_any_more(run, listening, caplog):
    address = listening.getsockname()

    async def main():
        acceptor = Acceptor(listening, Echo)
        await asyncio.sleep(0.01)
        acceptor.close()
        listening.close()
        await acceptor.wait_closed()

    run(main())
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(address)
    assert caplog.records == []
