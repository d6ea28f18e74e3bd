"""zendriver: a flat session over the browser's connection, as its tabs have it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from types import SimpleNamespace
from typing import Any

from zendriver import cdp
from zendriver.core.connection import Connection


def command(method: str, params: dict[str, Any] | None) -> Generator[dict[str, Any], Any, Any]:
    """A command as zendriver's generated modules make them; the reply comes back as it is."""
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
        self.browser = Connection(url)
        await self.browser.aopen()

    async def attach(self, target_id: str = "PAGE") -> Session:
        info = cdp.target.TargetInfo.from_json(
            {
                "targetId": target_id,
                "type": "page",
                "title": "",
                "url": "about:blank",
                "attached": False,
                "canAccessOpener": False,
            }
        )
        # what a tab asks of the Browser that it belongs to
        owner: Any = SimpleNamespace(connection=self.browser, config=None)
        session = Session(Connection("", info, owner))
        await session.connection.aopen()
        self.sessions.append(session)
        return session

    async def new_tab(self) -> Session:
        reply = await self.browser.send(command("Target.createTarget", {"url": "about:blank"}))
        return await self.attach(reply["targetId"])

    def on(self, session: Session, method: str, handler: Callable[[Any], object]) -> None:
        """With a coroutine function: a plain one is called in a thread, where the scenarios' own cannot be."""

        async def call(event: Any) -> None:
            result = handler(event)
            if inspect.isawaitable(result):
                await result

        session.connection.add_handler(cdp.util._event_parsers[method], call)

    def pending(self) -> int:
        return sum(len(session.connection.mapper) for session in self.sessions)
