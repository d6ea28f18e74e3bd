"""cdp-use (browser-use), the client inside browser-use."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

from cdp_use.client import CDPClient

logging.disable(logging.CRITICAL)


class Session:
    def __init__(self, client: CDPClient, session_id: str) -> None:
        self.id = session_id
        self.send = functools.partial(client.send_raw, session_id=session_id)


class Client:
    def __init__(self, variant: str) -> None:
        self.variant = variant

    async def open(self, url: str) -> None:
        self.client = CDPClient(url)
        await self.client.start()

    async def attach(self, target_id: str = "PAGE") -> Session:
        params = {"targetId": target_id, "flatten": True}
        return Session(
            self.client, (await self.client.send_raw("Target.attachToTarget", params))["sessionId"]
        )

    async def new_tab(self) -> Session:
        return await self.attach(
            (await self.client.send_raw("Target.createTarget", {"url": "about:blank"}))["targetId"]
        )

    def on_request(self, session: Session, handler: Callable[[str], None]) -> None:
        self.client.register.Network.requestWillBeSent(lambda event, _session: handler(event["requestId"]))

    def on(self, session: Session, method: str, handler: Callable[[Any], object]) -> None:
        if inspect.iscoroutinefunction(handler):

            async def call(event: Any, _session: str | None) -> None:
                await handler(event)

        else:

            def call(event: Any, _session: str | None) -> None:
                handler(event)

        self.client._event_registry.register(method, call)

    def on_typed(self, session: Session, method: str, handler: Callable[[Any], object]) -> None:
        self.on(session, method, handler)  # its types are dicts

    def pending(self) -> int:
        return len(self.client.pending_requests)

    async def close(self) -> None:
        await self.client.stop()
