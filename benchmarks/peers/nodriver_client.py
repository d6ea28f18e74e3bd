"""nodriver: a socket for each target, with a flat session on it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from typing import Any

from nodriver import cdp
from nodriver.core.connection import Connection


def command(method: str, params: dict[str, Any] | None) -> Generator[dict[str, Any], Any, Any]:
    """A command as nodriver's generated modules make them; the reply comes back as it is."""
    return (yield {"method": method, "params": params or {}})


class Session:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def send(self, method: str, params: dict[str, Any] | None = None) -> Any:
        return await self.connection.send(command(method, params))


class Client:
    def __init__(self, variant: str) -> None:
        self.variant = variant
        self.sessions: list[Session] = []

    async def open(self, url: str) -> None:
        self.url = url

    async def attach(self, target_id: str = "PAGE") -> Session:
        connection = Connection(cdp.target.TargetID(target_id))
        connection.websocket_url = self.url
        await connection.attach()
        self.sessions.append(Session(connection))
        return self.sessions[-1]

    async def new_tab(self) -> Session:
        browser = Connection()
        browser.websocket_url = self.url
        await browser.attach()
        reply = await browser.send(command("Target.createTarget", {"url": "about:blank"}))
        return await self.attach(reply["targetId"])

    def on(self, session: Session, method: str, handler: Callable[[Any], object]) -> None:
        if inspect.iscoroutinefunction(handler):

            async def call(event: Any, _connection: Connection) -> None:
                await handler(event)

        else:

            def call(event: Any, _connection: Connection) -> None:
                handler(event)

        session.connection.add_handler(cdp.util._event_parsers[method], call)

    def pending(self) -> int:
        return sum(len(session.connection._mapper) for session in self.sessions)
