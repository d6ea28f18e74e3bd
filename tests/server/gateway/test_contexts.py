"""Contexts with a proxy of their own: the command is changed on its way, and nothing else is."""

import asyncio
import json
import os
import struct

import pytest

from cdpbridge.cdp._frames import Sieve
from cdpbridge.errors import ConfigurationError
from cdpbridge.server.gateway._contexts import context_command
from tests.server.gateway.test_splice import MiB, open_client, scripted, text

ADDRESS = "127.0.0.1:4321"


def command(server="http://proxy.example:3128", *, number=1, session=None, **params):
    message = {
        "id": number,
        "method": "Target.createBrowserContext",
        "params": {"proxyServer": server, "disposeOnDetach": True} | params,
    }
    return json.dumps(message | ({} if session is None else {"sessionId": session}))


class Proxies:
    """Gives addresses when it may."""

    def __init__(self):
        self.asked = []
        self.may_give = asyncio.Event()
        self.may_give.set()

    async def __call__(self, server, bypass_list):
        self.asked.append((server, bypass_list))
        await self.may_give.wait()
        if "bad" in server:
            raise ConfigurationError("no such proxy")
        if "full" in server:
            raise OSError(98, os.strerror(98))
        if "broken" in server:
            raise RuntimeError("a defect")
        return ADDRESS


def messages(data):
    """What a browser was sent."""
    found = []
    sieve = Sieve(
        masked=True,
        verdict=lambda *_: True,
        passed=lambda _: None,
        read=lambda each: found.append(each.payload),
    )
    sieve.feed(data)
    return [each.decode() for each in found]


async def accepted(browser, reader, writer):
    browser.accept(writer)
    browser.writer = writer


def test_what_is_such_a_command():
    found = context_command(command(proxyBypassList="*.example").encode())
    assert (found.proxy_server, found.bypass_list) == ("http://proxy.example:3128", "*.example")
    assert json.loads(found.through(ADDRESS)) == {
        "id": 1,
        "method": "Target.createBrowserContext",
        "params": {
            "proxyServer": f"http://{ADDRESS}",
            "disposeOnDetach": True,
            "proxyBypassList": "<-loopback>",
        },
    }
    assert json.loads(context_command(command(session="S").encode()).refused("why"))["sessionId"] == "S"
    # What is wrong with these, the browser says.
    for other in (
        b"no json createBrowserContext proxyServer",
        b"[]",
        b'{"method":"Runtime.evaluate","params":{"expression":"createBrowserContext proxyServer"}}',
        b'{"method":"Target.createBrowserContext","params":{"proxyServer":1}}',
        b'{"method":"Target.createBrowserContext","params":[]}',
        command(proxyBypassList=1).encode(),
        b"[" * 100_000,
    ):
        assert context_command(other) is None


async def test_a_context_gets_a_forwarder_in_place_of_its_proxy(make_gateway, wait_until):
    proxies = Proxies()
    async with (
        scripted(accepted) as browser,
        make_gateway(browser.upstream, context_proxy=proxies) as gateway,
        open_client(gateway) as client,
    ):
        proxies.may_give.clear()
        sent = [
            "before",
            command(proxyBypassList="a.example"),
            "after",
            command("socks5://b", number=2),
            "x" * 100_000,
            "last",
        ]
        for each in sent:
            await client.send(each)
        await wait_until(lambda: len(proxies.asked) == 1)
        assert messages(browser.received) == ["before"]
        proxies.may_give.set()
        await wait_until(
            lambda: browser.received.endswith(b"") and len(messages(browser.received)) == len(sent)
        )
        received = messages(browser.received)
        assert [received[0], received[2], received[4], received[5]] == [
            "before",
            "after",
            "x" * 100_000,
            "last",
        ]
        for place, number in ((1, 1), (3, 2)):
            changed = json.loads(received[place])
            assert (changed["id"], changed["params"]["proxyServer"]) == (number, f"http://{ADDRESS}")
            assert changed["params"]["proxyBypassList"] == "<-loopback>"
        assert proxies.asked == [("http://proxy.example:3128", "a.example"), ("socks5://b", "")]
        assert gateway.usage().messages_sent == len(sent)


@pytest.mark.parametrize(
    ("server", "why"),
    [("bad", "no such proxy"), ("full", "Address already in use"), ("broken", "the server failed")],
)
async def test_a_proxy_that_cannot_be_used_is_an_error_of_the_command(make_gateway, wait_until, server, why):
    frame = text(b"x" * MiB)
    async with (
        scripted(accepted) as browser,
        make_gateway(browser.upstream, context_proxy=Proxies()) as gateway,
        open_client(gateway) as client,
    ):
        browser.writer.write(frame[:1000])  # the answer waits for the end of what the browser is sending
        await client.send(command(server, number=7, session="S"))
        await client.send("after")
        await wait_until(lambda: messages(browser.received) == ["after"])
        browser.writer.write(frame[1000:] + text(b"next"))
        assert len(await client.recv()) == MiB
        answer = json.loads(await client.recv())
        assert (answer["id"], answer["sessionId"], answer["error"]["code"]) == (7, "S", -32602)
        assert why in answer["error"]["message"]
        assert await client.recv() == "next"


@pytest.mark.parametrize("end", ["client", "browser", "stop"])
async def test_an_end_while_the_proxy_is_started(make_gateway, wait_until, monkeypatch, end):
    # Nothing is read of the client meanwhile: that it has left, the pings find out.
    monkeypatch.setattr("cdpbridge.server.gateway._splice._PING_SECONDS", 0.1)
    proxies = Proxies()
    proxies.may_give.clear()
    async with (
        scripted(accepted) as browser,
        make_gateway(browser.upstream, context_proxy=proxies) as gateway,
    ):
        client = await open_client(gateway)
        await client.send(command())
        await client.send("after")
        await wait_until(lambda: proxies.asked)
        if end == "client":
            client.transport.abort()
        elif end == "browser":
            browser.writer.transport.abort()
        else:
            await gateway.registry.close("token-of-the-tests", 1001, "session stopped")
        await asyncio.wait_for(browser.gone.wait(), 60)
        # The browser is left in order, on the border of a frame: with a close frame, and with nothing of the rest.
        assert browser.received[:2] in ({b""} if end == "browser" else {b"\x88\x82"})
        await client.close()


async def test_a_command_in_pieces(make_gateway, wait_until):
    async with (
        scripted(accepted) as browser,
        make_gateway(browser.upstream, context_proxy=Proxies()) as gateway,
        open_client(gateway) as client,
    ):
        payload = command().encode()
        client.transport.write(b"\x01" + bytes([0x80 | 50]) + bytes(4) + payload[:50])  # a fragment
        rest = payload[50:]
        head = (
            b"\x80" + bytes([0x80 | 126]) + struct.pack("!H", len(rest))
            if len(rest) > 125
            else b"\x80" + bytes([0x80 | len(rest)])
        )
        client.transport.write(head + bytes(4) + rest[:10])
        client.transport.write(rest[10:])
        await wait_until(lambda: messages(browser.received))
        assert ADDRESS in messages(browser.received)[0]
