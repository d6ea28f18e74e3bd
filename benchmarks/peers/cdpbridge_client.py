"""Ours, as a user has it: every guard, deadline and random mask on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import cdpbridge.cdp
from cdpbridge.cdp import CDPSession, Connection
from cdpbridge.protocol import Network, Runtime
from cdpbridge.protocol._base import Event, event_class


class OneField(Event):
    """The event for a handler that needs one field of it."""

    METHOD = "Network.requestWillBeSent"
    request_id: str


class Client:
    """Typed commands and events, or with `dicts` method names and dicts, or with `one-field` the class above."""

    def __init__(self, variant: str) -> None:
        self._dicts = "dicts" in variant
        self._kind: Any = OneField if "one-field" in variant else Network.RequestWillBeSent
        if not self._dicts:
            self.one_at_a_time = _typed_one_at_a_time
        self._tell: Callable[[BaseException], None] = lambda _error: None

    async def open(self, url: str) -> None:
        self.connection: Connection = await cdpbridge.cdp.connect(
            url, on_handler_error=lambda error, _session, _method: self._tell(error)
        )

    async def attach(self) -> CDPSession:
        return await self.connection.attach("PAGE")

    async def new_tab(self) -> CDPSession:
        return await self.connection.new_tab()

    def on_request(self, session: CDPSession, handler: Callable[[str], None]) -> None:
        if self._dicts:
            session.on("Network.requestWillBeSent", lambda event: handler(event["requestId"]))
        else:
            session.on(self._kind, lambda event: handler(event.request_id))

    def on(self, session: CDPSession, method: str, handler: Callable[[Any], object]) -> None:
        session.on(method, handler)

    def on_typed(self, session: CDPSession, method: str, handler: Callable[[Any], object]) -> None:
        kind = event_class(method)
        assert kind is not None
        session.on(kind, handler)

    def pending(self) -> int:
        return len(self.connection._link._mux.pending)

    async def send_within(self, session: CDPSession, method: str, seconds: float) -> object:
        return await session.send(method, timeout=timedelta(seconds=seconds))

    def told_of_errors(self, tell: Callable[[BaseException], None]) -> None:
        self._tell = tell

    def build(self, amount: int) -> None:
        evaluate = Runtime.evaluate
        for _ in range(amount):
            evaluate("1+1")

    async def close(self) -> None:
        await self.connection.close()


async def _typed_one_at_a_time(session: CDPSession, amount: int) -> None:
    """As `_client.one_at_a_time`; the command is built each time, as programs do."""
    for _ in range(amount):
        await session.send(Runtime.evaluate("1+1", return_by_value=True))
