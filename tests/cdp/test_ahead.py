"""A socket that is opened ahead, and the WebSocket at the address itself: whatever is wrong with them, the connection is made."""

import asyncio
import socket
from datetime import timedelta

import pytest

from cdpbridge.cdp._ahead import SocketAhead
from cdpbridge.cdp._connect import connect_directly
from cdpbridge.errors import ConnectFailed
from cdpbridge.testing import ScriptedBrowser
from tests.conftest import until

LIMIT = timedelta(seconds=30)


class Sockets:
    """A port whose connections a test sees, and closes."""

    def __init__(self):
        self.writers = []
        self.ended = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/api"
        return self

    async def _accept(self, reader, writer):
        self.writers.append(writer)
        await reader.read()
        self.ended += 1
        writer.close()

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()


async def test_it_serves_the_first_connection_to_its_host():
    async with ScriptedBrowser() as browser:
        ahead = SocketAhead(f"{browser.http_url}/api/v2")
        async with connect_directly(
            f"{browser.http_url}/cdp/token", timeout=LIMIT, ahead=ahead
        ) as connection:
            await connection.root.send("Browser.getVersion")
            # No discovery; one socket in all.
            assert [request.path for request in browser.requests] == ["/cdp/token"]
        assert await ahead.take(browser.http_url) is None


async def test_one_for_another_host_is_closed():
    async with Sockets() as elsewhere, ScriptedBrowser() as browser:
        ahead = SocketAhead(elsewhere.address)
        await until(lambda: elsewhere.writers)
        async with connect_directly(browser.http_url, timeout=LIMIT, ahead=ahead) as connection:
            await connection.root.send("Browser.getVersion")
            await until(lambda: elsewhere.ended)


async def test_one_that_was_closed_meanwhile_is_replaced():
    async with Sockets() as sockets:
        ahead = SocketAhead(sockets.address)
        await until(lambda: sockets.writers)
        opened = await ahead._dialled._opening
        sockets.writers[0].close()
        await until(opened.is_closing)
        assert await ahead.take(sockets.address) is None


async def test_a_server_that_drops_it_at_the_upgrade_gets_another_one():
    async with ScriptedBrowser() as browser:
        dropped = asyncio.Event()

        async def drop(reader, writer):
            await reader.read(10)
            writer.transport.abort()
            dropped.set()

        server = await asyncio.start_server(drop, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]

        class Misled(SocketAhead):
            async def take(self, address):
                return await super().take(address.replace(str(browser.port), str(port)))

        ahead = Misled(f"http://127.0.0.1:{port}")
        async with connect_directly(browser.http_url, timeout=LIMIT, ahead=ahead) as connection:
            await connection.root.send("Browser.getVersion")
        assert dropped.is_set()
        server.close()
        await server.wait_closed()


async def test_a_host_that_is_not_there_fails_as_without_it():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ConnectFailed, match="connection refused"):
            await connect_directly(address, timeout=LIMIT, ahead=SocketAhead(address))


async def test_one_that_is_not_used_is_closed():
    async with Sockets() as sockets:
        early, late = SocketAhead(sockets.address), SocketAhead(sockets.address)
        early.drop()  # not even connected
        await until(lambda: sockets.writers)
        late.drop()
        await until(lambda: sockets.ended == len(sockets.writers))
        assert await late.take(sockets.address) is None


async def test_an_address_without_a_websocket_of_its_own_is_asked_where_it_is(monkeypatch):
    process = ScriptedBrowser._process_request

    def refuse(browser, connection, request):
        if request.path == "/":
            browser.requests.append(request)
            return connection.respond(404, "not here")
        return process(browser, connection, request)

    monkeypatch.setattr(ScriptedBrowser, "_process_request", refuse)
    async with (
        ScriptedBrowser() as browser,
        connect_directly(browser.http_url, timeout=LIMIT) as connection,
    ):
        await connection.root.send("Browser.getVersion")
        paths = [request.path for request in browser.requests]
        assert paths == ["/", "/json/version", "/devtools/browser/scripted"]


async def test_a_refusal_is_told_in_the_words_of_the_discovery():
    async with ScriptedBrowser() as browser:
        browser.refusal = (404, "no browser has this address")
        browser.http["/json/version"] = (404, "no browser has this address")
        with pytest.raises(ConnectFailed, match="HTTP 404 to /json/version") as caught:
            await connect_directly(browser.http_url, timeout=LIMIT)
        assert caught.value.status == 404
