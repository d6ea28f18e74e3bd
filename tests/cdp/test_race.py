import asyncio
import socket

import psutil
import pytest

from cdpbridge.cdp._race import connect_by_name
from tests.conftest import until


@pytest.fixture
async def server():
    accepted = []
    made = await asyncio.start_server(lambda _, writer: accepted.append(writer), "127.0.0.1", 0)
    async with made:
        yield made.sockets[0].getsockname()[1]
    for writer in accepted:
        writer.transport.abort()


@pytest.fixture
def resolve(monkeypatch):
    """Let the name be these addresses."""

    def resolve(*addresses):
        async def getaddrinfo(host, port, **_):
            assert host == "name.example"
            kinds = [socket.AF_INET6 if ":" in each else socket.AF_INET for each in addresses]
            return [
                (kind, socket.SOCK_STREAM, 6, "", (each, port))
                for kind, each in zip(kinds, addresses, strict=True)
            ]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)

    return resolve


async def test_the_next_address_is_tried_when_one_refuses(server, resolve):
    resolve("127.0.0.2", "127.0.0.3", "127.0.0.1")
    transport = await connect_by_name("name.example", server, next_seconds=60)
    assert transport.get_extra_info("peername") == ("127.0.0.1", server)
    transport.abort()


async def test_the_next_address_is_tried_when_one_is_silent(resolve):
    """A listener with a full queue answers nothing, as a host behind a firewall does."""
    with socket.create_server(("127.0.0.2", 0), backlog=0) as silent:
        port = silent.getsockname()[1]
        queued = [socket.socket() for _ in range(4)]
        for each in queued:
            each.setblocking(False)
            each.connect_ex(("127.0.0.2", port))
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)
        async with server:
            resolve("127.0.0.2", "127.0.0.1")
            transport = await connect_by_name("name.example", port, next_seconds=0.01)
            assert transport.get_extra_info("peername") == ("127.0.0.1", port)
            transport.abort()
        for each in queued:
            each.close()


async def test_one_error_for_all_addresses(resolve, unused_tcp_port):
    resolve("127.0.0.1", "127.0.0.2")
    with pytest.raises(ConnectionRefusedError, match=r"127\.0\.0\.1"):
        await connect_by_name("name.example", unused_tcp_port)
    resolve()
    with pytest.raises(OSError, match="no address"):
        await connect_by_name("name.example", unused_tcp_port)
    resolve("127.0.0.1", "255.255.255.255")
    with pytest.raises(OSError, match=r"127\.0\.0\.1.*; .*unreachable"):
        await connect_by_name("name.example", unused_tcp_port)


async def test_families_take_turns(monkeypatch, resolve):
    asked = []

    async def create_connection(_protocol, address, _port, **_):
        asked.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", create_connection)
    resolve("2001:db8::1", "2001:db8::2", "2001:db8::1", "192.0.2.1", "192.0.2.2")
    with pytest.raises(ConnectionRefusedError):
        await connect_by_name("name.example", 1)
    assert asked == ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"]


async def test_no_socket_is_lost_whenever_it_is_cancelled(server, resolve):
    """A deadline may strike at the moment of success: CPython's own race loses a socket then."""
    resolve("127.0.0.2", "127.0.0.1")
    process = psutil.Process()

    def open_sockets():
        return [each for each in process.net_connections("tcp") if each.raddr and each.raddr.port == server]

    for steps in range(30):
        for _ in range(5):
            attempt = asyncio.create_task(connect_by_name("name.example", server, next_seconds=60))
            for _ in range(steps):
                await asyncio.sleep(0)
            attempt.cancel()
            try:
                (await attempt).abort()
            except asyncio.CancelledError:
                pass
    await until(lambda: not open_sockets())
