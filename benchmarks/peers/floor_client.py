"""The bare floor of `_floor.py` as a client of the benchmarks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import _floor
import msgspec


class OneField(msgspec.Struct, gc=False, rename="camel"):
    request_id: str


class Session:
    def __init__(self, floor: _floor.Floor, session_id: str) -> None:
        self.id = session_id
        self.floor = floor

    async def send(self, method: str, params: Any = None) -> Any:
        return await self.floor.send(method, params, self.id)


class Client:
    """`full`, `dicts` or neither chooses what a handler gets: the generated class, a dict, or the class above."""

    def __init__(self, variant: str) -> None:
        self.peek = "peek" in variant
        self.kind: Any = OneField
        if "full" in variant:
            from cdpbridge.protocol import Network

            self.kind = Network.RequestWillBeSent
        if "dicts" in variant:
            self.kind = None

    async def open(self, url: str) -> None:
        self.floor = await _floor.connect(url, peek=self.peek)

    async def attach(self, target_id: str = "PAGE") -> Session:
        params = {"targetId": target_id, "flatten": True}
        return Session(self.floor, (await self.floor.send("Target.attachToTarget", params))["sessionId"])

    async def new_tab(self) -> Session:
        return await self.attach(
            (await self.floor.send("Target.createTarget", {"url": "about:blank"}))["targetId"]
        )

    def on_request(self, session: Session, handler: Callable[[str], None]) -> None:
        take: Callable[[Any], object] = lambda event: handler(event.request_id)  # noqa: E731
        if self.kind is None:
            take = lambda event: handler(event["requestId"])  # noqa: E731
        self.floor.on(session.id, "Network.requestWillBeSent", self.kind, take)

    def on(self, session: Session, method: str, handler: Callable[[Any], object]) -> None:
        self.floor.on(session.id, method, None, handler)

    def on_typed(self, session: Session, method: str, handler: Callable[[Any], object]) -> None:
        from cdpbridge.protocol._base import event_class

        self.floor.on(session.id, method, event_class(method), handler)

    async def close(self) -> None:
        self.floor.transport.abort()
