"""Events of a `Browser`: its own, and those of its connection, which move to the next connection."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from cdpbridge.cdp import Connection

if TYPE_CHECKING:
    from pyee.asyncio import AsyncIOEventEmitter

__all__ = ["Events"]

logger = logging.getLogger("cdpbridge")

_CONNECTION_EVENTS: Final = ("disconnected", "reconnected")
_OWN_EVENTS: Final = ("expiring", "renewed", "stopped")


class Events:
    """The event handlers of `owner`."""

    def __init__(self, owner: object) -> None:
        self._owner = owner
        self._emitter: AsyncIOEventEmitter | None = None
        self._connection_handlers: list[_ConnectionHandler] = []

    def on(
        self, name: str, handler: Callable[..., object], connection: Connection | None
    ) -> Callable[[], None]:
        """Call `handler` on an event; call the returned function to stop that.

        Raises:
            ValueError: There is no such event.
        """
        if name in _CONNECTION_EVENTS:
            assert connection is not None  # `open_browser` returns no other browser
            listener = _ConnectionHandler(name, handler)
            listener.move_to(connection)
            self._connection_handlers.append(listener)
            return lambda: self._remove(listener)
        if name not in _OWN_EVENTS:
            names = ", ".join(map(repr, sorted((*_CONNECTION_EVENTS, *_OWN_EVENTS))))
            raise ValueError(f"a browser has no event {name!r}; it has {names}")
        if self._emitter is None:
            from pyee.asyncio import AsyncIOEventEmitter  # noqa: PLC0415  # most programs need none

            self._emitter = AsyncIOEventEmitter()
            self._emitter.on(
                "error", lambda error: logger.error("a handler of %r failed", self._owner, exc_info=error)
            )
        emitter = self._emitter
        emitter.on(name, handler)
        return lambda: emitter.remove_listener(name, handler)

    def _remove(self, listener: _ConnectionHandler) -> None:
        listener.remove()
        if listener in self._connection_handlers:
            self._connection_handlers.remove(listener)

    def emit(self, name: str, *arguments: object) -> None:
        """Emit one of the browser's own events."""
        if self._emitter is not None:
            self._emitter.emit(name, *arguments)

    async def handled(self) -> None:
        """Wait for the coroutine handlers that have been called."""
        if self._emitter is not None:
            await self._emitter.wait_for_complete()

    def detach(self) -> None:
        """Stop listening to the connection, which we close ourselves."""
        for listener in self._connection_handlers:
            listener.remove()

    def move_to(self, connection: Connection) -> None:
        """Move the handlers to another connection."""
        for listener in self._connection_handlers:
            listener.move_to(connection)


class _ConnectionHandler:
    """A handler of a connection's event, which moves to the next connection."""

    def __init__(self, name: str, handler: Callable[..., object]) -> None:
        self._name = name
        self._handler = handler
        self._off: Callable[[], None] | None = None

    def move_to(self, connection: Connection) -> None:
        self.remove()
        self._off = connection.on(self._name, self._handler)

    def remove(self) -> None:
        if self._off is not None:
            self._off()
            self._off = None
