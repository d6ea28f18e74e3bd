"""What a type checker must refuse of a CDPSession's callers. Checked, never run: see tests/test_typing.py."""

from cdpbridge.cdp import CDPSession
from cdpbridge.protocol import Network, Page, Runtime


def on_response(event: Network.ResponseReceived) -> None: ...


async def on_response_later(event: Network.ResponseReceived) -> None: ...


def no_event() -> None: ...


class Listener:
    async def on_load(self, event: Page.LoadEventFired) -> None: ...


async def commands(session: CDPSession) -> None:
    wrong: Page.NavigateResult = await session.send(Runtime.evaluate("1"))  # expect: arg-type
    print(wrong)
    await session.send(Page.LoadEventFired)  # expect: call-overload
    await session.send(Page.navigate)  # expect: call-overload
    await session.send(Page.navigate("u"), {"url": "u"})  # expect: call-overload
    (await session.send(Page.navigate("u"))).frameId  # expect: attr-defined


async def events(session: CDPSession) -> None:
    session.on(Page.LoadEventFired, on_response)  # expect: arg-type
    session.on(Page.LoadEventFired, on_response_later)  # expect: arg-type
    session.on("Page.loadEventFired", on_response)  # expect: arg-type
    session.on(Network.ResponseReceived, lambda event: print(event.response.urll))  # expect: attr-defined
    session.on(Network.ResponseReceived, lambda event: event.request)  # expect: attr-defined
    session.on(Network.ResponseReceived, lambda event: on_response_later(event.response))  # expect: arg-type
    session.on("Network.responseReceived", lambda params: params.response)  # expect: attr-defined
    session.on(Network.ResponseReceived, no_event)  # expect: arg-type
    session.on(Network.ResponseReceived, Listener().on_load)  # expect: arg-type
    session.on(Page.Frame, print)  # expect: type-var
    session.on(Page.navigate, print)  # expect: call-overload
    async for event in session.events(Network.ResponseReceived):
        event.request  # expect: attr-defined
    session.expect(Page.LoadEventFired, lambda event: event.url == "u")  # expect: attr-defined
    session.expect("Page.loadEventFired", lambda params: params.timestamp > 0)  # expect: attr-defined
    async with session.expect(Page.LoadEventFired) as waiter:
        pass
    waiter.event.timestmp  # expect: attr-defined
