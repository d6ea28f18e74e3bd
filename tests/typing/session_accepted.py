"""What a type checker knows about commands and events of a CDPSession. Checked, never run: see tests/test_typing.py."""

from functools import partial
from typing import Any, assert_type

from cdpbridge.cdp import CDPSession
from cdpbridge.protocol import Network, Page, Runtime


def on_load(event: Page.LoadEventFired) -> None:
    assert_type(event.timestamp, float)


async def on_response(event: Network.ResponseReceived) -> None:
    assert_type(event.response.url, str)


def on_named(name: str, event: Network.ResponseReceived) -> None: ...


class Listener:
    async def on_response(self, event: Network.ResponseReceived) -> None: ...


def on_dict(params: dict[str, Any]) -> None: ...


async def commands(session: CDPSession) -> None:
    assert_type(await session.send(Page.navigate("u")), Page.NavigateResult)
    assert_type((await session.send(Runtime.evaluate("1"))).result.value, Any)
    assert_type(await session.send("Page.navigate", {"url": "u"}), dict[str, Any])
    await session.send(Page.enable())


async def events(session: CDPSession) -> None:
    session.on(Page.LoadEventFired, on_load)
    remove = session.on(Network.ResponseReceived, on_response)
    remove()
    session.on("Page.loadEventFired", on_dict)
    session.on(Network.RequestWillBeSent, lambda event: print(event.request.url))
    session.on(Network.ResponseReceived, lambda event: len(event.response.url) + event.response.status)
    session.on(Network.ResponseReceived, lambda event: on_named("later", event))
    session.on("Network.responseReceived", lambda params: params["response"])
    session.on(Network.ResponseReceived, partial(on_named, "name"))
    session.on(Network.ResponseReceived, Listener().on_response)
    session.on(Network.ResponseReceived, print)
    session.on("Browser.newInNextVersion", on_dict, raw=True)
    async for event in session.events(Network.ResponseReceived):
        assert_type(event, Network.ResponseReceived)
    async for either in session.events(Network.ResponseReceived, Page.LoadEventFired):
        assert_type(either, Any)
    async for params in session.events("Network.responseReceived"):
        assert_type(params, dict[str, Any])
    async with session.expect(Page.LoadEventFired, lambda event: event.timestamp > 0) as waiter:
        await session.send(Page.navigate("u"))
    assert_type(waiter.event, Page.LoadEventFired)
    async with session.expect("Page.loadEventFired", lambda params: params["timestamp"] > 0) as named:
        await session.send(Page.navigate("u"))
    assert_type(named.event, dict[str, Any])
