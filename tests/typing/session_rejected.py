"""What a type checker must refuse of a CDPSession's callers. Checked, never run: see tests/test_typing.py."""

from cdpbridge.cdp import CDPSession
from cdpbridge.protocol import Network, Page, Runtime


def on_response(event: Network.ResponseReceived) -> None: ...


async def on_response_later(event: Network.ResponseReceived) -> None: ...


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
    session.on(Page.Frame, print)  # expect: type-var
    session.on(Page.navigate, print)  # expect: call-overload
    async for event in session.events(Network.ResponseReceived):
        event.request  # expect: attr-defined
    session.expect(Page.LoadEventFired, lambda event: event.url == "u")  # expect: attr-defined
