"""The fakes themselves: seen by a client that is not ours."""

import asyncio
import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from cdpbridge.errors import ConnectionClosed
from cdpbridge.testing import SILENT, MemoryTransport, Refusal, ScriptedBrowser


@pytest.fixture
async def browser():
    async with ScriptedBrowser() as browser:
        yield browser


@pytest.fixture
async def socket(browser):
    async with connect(browser.ws_url) as socket:
        yield socket


async def ask(socket, method, params=None, **more):
    await socket.send(json.dumps({"id": 1, "method": method, "params": params or {}, **more}))
    return json.loads(await socket.recv())


async def test_answers(browser, socket):
    browser.on("A.fixed", {"n": 1})
    browser.on("A.refused", Refusal(-32601, "no such method"))
    browser.on("A.detailed", Refusal(-32602, "bad", "details"))
    browser.on("A.made", lambda client, command: command["params"])

    async def later(client, command):
        await client.event("A.event", {"x": 1}, "S")
        return {}

    browser.on("A.later", later)
    assert await ask(socket, "A.any") == {"id": 1, "result": {}}
    assert await ask(socket, "A.fixed", sessionId="S") == {"id": 1, "result": {"n": 1}, "sessionId": "S"}
    assert (await ask(socket, "A.refused"))["error"] == {"code": -32601, "message": "no such method"}
    assert (await ask(socket, "A.detailed"))["error"]["data"] == "details"
    assert (await ask(socket, "A.made", {"y": 2}))["result"] == {"y": 2}
    assert await ask(socket, "A.later") == {"method": "A.event", "params": {"x": 1}, "sessionId": "S"}
    assert json.loads(await socket.recv())["result"] == {}
    browser.default = SILENT
    await socket.send('{"id":9,"method":"A.silent"}')
    assert (await browser.received("A.silent"))["id"] == 9
    assert (await ask(socket, "A.fixed"))["id"] == 1


async def test_targets(browser, socket):
    target = (await ask(socket, "Target.createTarget"))["result"]["targetId"]
    event = await ask(socket, "Target.attachToTarget", {"targetId": target})
    session = event["params"]["sessionId"]
    assert json.loads(await socket.recv())["result"] == {"sessionId": session}
    event = await ask(socket, "Target.closeTarget", {"targetId": target})
    assert event["params"] == {"sessionId": session, "targetId": target}
    assert json.loads(await socket.recv())["result"] == {"success": True}


async def test_ends(browser):
    async with connect(browser.ws_url) as socket:
        await (await browser.client(0)).close(4000, "enough")
        with pytest.raises(ConnectionClosedError) as caught:
            await socket.recv()
        assert caught.value.rcvd.reason == "enough"
    async with connect(browser.ws_url) as socket:
        (await browser.client(1)).cut()
        with pytest.raises(ConnectionClosedError) as caught:
            await socket.recv()
        assert caught.value.rcvd is None
    browser.refusal = (503, "busy")
    with pytest.raises(InvalidStatus):
        await connect(browser.ws_url)


async def test_leaving_the_block_ends_its_tasks_and_clients():
    async with ScriptedBrowser() as browser:
        browser.on("A.never", lambda client, command: asyncio.Event().wait())
        socket = await connect(browser.ws_url)
        await socket.send('{"id":1,"method":"A.never"}')
        await browser.received("A.never")
    await socket.wait_closed()


def test_memory_transport_without_a_loop():
    log = []

    class Receiver:
        def received(self, buffer, start, end):
            log.append(bytes(buffer[start:end]))

        def pause(self):
            log.append("pause")

        def resume(self):
            log.append("resume")

        def lost(self, closed):
            log.append(closed.code)

    transport = MemoryTransport(lambda command: {"id": command["id"], "result": {}})
    transport.deliver('{"early":1}')
    transport.pause()
    transport.resume()
    transport.start(Receiver())
    transport.send(b'{"id":1,"method":"A.b"}')
    transport.event("A.c", session_id="S")
    transport.pause()
    transport.resume()
    transport.close()
    transport.deliver("{}")
    assert log == [
        b'{"early":1}',
        b'{"id":1,"result":{}}',
        b'{"method":"A.c","params":{},"sessionId":"S"}',
        "pause",
        "resume",
        1000,
    ]
    with pytest.raises(ConnectionClosed):
        transport.send(b"{}")


async def test_a_browser_is_started_once():
    """Entered again, it would lose its first server."""
    browser = ScriptedBrowser()
    async with browser:
        with pytest.raises(RuntimeError, match="started already"):
            await browser.__aenter__()
        async with connect(browser.ws_url) as client:
            await client.send('{"id": 1, "method": "A.b"}')
            assert json.loads(await client.recv()) == {"id": 1, "result": {}}
    with pytest.raises(RuntimeError, match="started already"):
        await browser.__aenter__()
