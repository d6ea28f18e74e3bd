"""pydoll: the page's own socket, as its tabs have it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from peers._page import new_page
from pydoll.connection import ConnectionHandler


class Session:
    def __init__(self, url: str) -> None:
        self.handler = ConnectionHandler(ws_address=url)

    async def send(
        self, method: str, params: dict[str, Any] | None = None, seconds: float | None = None
    ) -> Any:
        within: dict[str, Any] = {} if seconds is None else {"timeout": seconds}
        command: Any = {"method": method, "params": params or {}}
        reply: Any = await self.handler.execute_command(command, **within)
        return reply["result"]


class Client:
    def __init__(self, variant: str) -> None:
        self.variant = variant
        self.sessions: list[Session] = []

    async def open(self, url: str) -> None:
        self.url = url

    async def attach(self) -> Session:
        self.sessions.append(Session(self.url))
        return self.sessions[-1]

    async def new_tab(self) -> Session:
        return Session(await new_page(self.url))

    def on(self, session: Session, method: str, handler: Callable[[Any], object]) -> None:
        if inspect.iscoroutinefunction(handler):

            async def call(event: Any) -> None:
                await handler(event["params"])

        else:

            def call(event: Any) -> None:
                handler(event["params"])

        session.handler._events_handler.register_callback(method, call)

    def pending(self) -> int:
        return sum(len(session.handler._command_manager._pending_commands) for session in self.sessions)

    async def send_within(self, session: Session, method: str, seconds: float) -> object:
        return await session.send(method, seconds=seconds)
