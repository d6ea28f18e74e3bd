"""`Connection`: what a program does with a DevTools connection; the `Link` below it does the work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from cdpbridge._clock import Clock
from cdpbridge.cdp._link import Link
from cdpbridge.cdp._reconnect import RECONNECT_LIMIT, Reopen
from cdpbridge.cdp._recorder import Recorder
from cdpbridge.cdp._routing import ExplainEnd, Stats
from cdpbridge.cdp._session import CDPSession
from cdpbridge.cdp._transport import Transport
from cdpbridge.errors import CommandError, CommandTimeout, ConnectionClosed, TargetClosed

if TYPE_CHECKING:
    from pyee.asyncio import AsyncIOEventEmitter

    from cdpbridge.protocol import Target

__all__ = ["COMMAND_TIMEOUT", "Connection", "HandlerErrorHook", "address_of", "is_far", "prepare_new_tabs"]

logger = logging.getLogger("cdpbridge")

COMMAND_TIMEOUT: Final = timedelta(seconds=30)
_ALIVE_TIMEOUT: Final = timedelta(seconds=5)
_EVENTS: Final = ("disconnected", "reconnected")

HandlerErrorHook = Callable[[BaseException, CDPSession | None, str], object]


def log_handler_error(error: BaseException, session: CDPSession | None, method: str) -> None:
    """Log a handler's failure: the default of `on_handler_error`."""
    if session is None:
        logger.error("a message from the browser could not be read: %s", error)
        return
    logger.error("handling %s of %s failed", method or "a message", session.describe(), exc_info=error)


class Connection:
    """A DevTools connection: the root session and those attached through it.

    It belongs to the event loop, thread and process that made it.

    Args:
        transport: Connected; the connection owns it from now on.
        command_timeout: Timeout of commands that bring none of their own.
        clock: Source of deadlines; default: the event loop.
        reopen: Makes another transport to the same browser when one is lost; None: a lost transport is the end.
        reconnect_limit: How long to try.
        recorder: The recorder that its messages pass, if any.
        explain_end: As of `connect`.
        on_handler_error: As of `connect`.
        address: The one that `connect` was called with; None for a pipe.

    Attributes:
        root: Session of the target the address leads to, normally the browser.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        command_timeout: float | timedelta = COMMAND_TIMEOUT,
        clock: Clock | None = None,
        reopen: Reopen | None = None,
        reconnect_limit: timedelta = RECONNECT_LIMIT,
        recorder: Recorder | None = None,
        explain_end: ExplainEnd | None = None,
        on_handler_error: HandlerErrorHook | None = None,
        address: str | None = None,
    ) -> None:
        self._address = address
        self._on_handler_error = on_handler_error or log_handler_error
        self._recorder = recorder
        self._emitter: AsyncIOEventEmitter | None = None
        self._link = Link(
            transport,
            command_timeout=command_timeout,
            clock=clock,
            reopen=reopen,
            reconnect_limit=reconnect_limit,
            new_session=lambda wiring: CDPSession(self, wiring),
            report=self.report,
            emit=self._emit,
            explain_end=explain_end,
        )
        self.root = self._link.root
        self._link.start()

    def __repr__(self) -> str:
        if self.closed:
            return f"<Connection closed {self.close_code}>"
        state = ", reconnecting" if self.reconnecting else ""
        return f"<Connection with {len(self.sessions) - 1} sessions{state}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def closed(self) -> bool:
        """True if it has ended for good, whether this side ended it or the other."""
        return self._link.closed is not None

    @property
    def close_code(self) -> int | None:
        """WebSocket close code once it has ended; 1006 when there was no close frame."""
        return None if (closed := self._link.closed) is None else closed.code

    @property
    def close_reason(self) -> str:
        """Reason that came with the close code."""
        return "" if (closed := self._link.closed) is None else closed.reason

    @property
    def reconnecting(self) -> bool:
        """True while a lost connection is being re-established; calls wait for it, up to their timeout."""
        return self._link.reconnecting

    @property
    def stats(self) -> Stats:
        """Counters since the beginning."""
        return self._link.stats

    @property
    def sessions(self) -> list[CDPSession]:
        """All living sessions, the root first."""
        return self._link.sessions

    def flight_record(self) -> list[str]:
        r"""Return the last messages, one line each, oldest first, secrets cut: for the report of a failure.

        Empty unless the connection was made with `connect(..., record=N)`; it can be read after the end too. To attach it
        to an error: `error.add_note("\n".join(connection.flight_record()))`.
        """
        return self._recorder.lines() if self._recorder is not None else []

    def on(self, name: str, handler: Callable[..., Any]) -> Callable[[], None]:
        """Call `handler` when something happens to the connection; call the returned function to stop.

        `"disconnected"`, without arguments: it has ended for good. `"reconnected"`, with a `Reconnected`: the connection
        was lost and re-established, and this could be restored. Events of the time between are lost.
        """
        if name not in _EVENTS:
            raise ValueError(f"a connection has no event {name!r}; it has {' and '.join(map(repr, _EVENTS))}")
        if self._emitter is None:
            from pyee.asyncio import AsyncIOEventEmitter  # noqa: PLC0415  # most connections need none

            self._emitter = AsyncIOEventEmitter(loop=self._link.owner.loop)
            self._emitter.on(
                "error", lambda error: self.report(error, self.root, "disconnected or reconnected")
            )
        emitter = self._emitter
        emitter.on(name, handler)
        return lambda: emitter.remove_listener(name, handler)

    def create_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine in a task that is kept alive, and cancelled when the connection is closed.

        For asynchronous work that a plain handler begins. Its failure is logged, also when the caller awaits the task.
        """
        return self._link.run(work)

    def report(self, error: BaseException, session: CDPSession | None, method: str) -> None:
        """Hand a failure to `on_handler_error`, e.g. one of the work that a handler has begun.

        Args:
            error: What was raised.
            session: Where the event came from.
            method: The event.
        """
        try:
            self._on_handler_error(error, session, method)
        except Exception:  # both are logged
            logger.exception("on_handler_error failed while reporting %r", error)

    async def is_alive(self, timeout: float | timedelta = _ALIVE_TIMEOUT) -> bool:
        """Return True if the browser answers, however busy or hung its pages are.

        Asks the browser process, which answers in milliseconds while a page computes. False means that the browser, or
        what lies between, does not answer within `timeout`.
        """
        try:
            await self.root.send("Browser.getVersion", timeout=timeout)
        except CommandError:
            return True  # an answer too: not every server knows the command
        except (CommandTimeout, ConnectionClosed, TargetClosed):
            return False
        return True

    async def targets(self) -> list[Target.TargetInfo]:
        """Return every target of the browser that its default filter shows."""
        from cdpbridge.protocol import Target  # noqa: PLC0415  # domains load on first use

        return (await self.root.send(Target.get_targets())).target_infos

    async def attach(self, target_id: str) -> CDPSession:
        """Open a new session on a target. Two attachments to one target are two sessions, each with its own events."""
        params = {"targetId": target_id, "flatten": True}
        reply = await self.root.send("Target.attachToTarget", params)
        return self._link.attach(str(reply.get("sessionId", "")), target_id)

    async def new_tab(self, url: str = "about:blank", *, browser_context_id: str | None = None) -> CDPSession:
        """Open a tab and attach to it; when that fails, the tab is closed again."""
        params: dict[str, Any] = {"url": url}
        if browser_context_id is not None:
            params["browserContextId"] = browser_context_id
        return await self._link.new_tabs.open(params)

    async def close(self) -> None:
        """End the connection, its sessions and its tasks; the browser lives on. May be called again, and in a handler.

        Takes at most 5 s when the other side does not answer the close frame.
        """
        await self._link.close()

    async def wait_closed(self) -> None:
        """Return when the connection has ended, whichever side ended it."""
        await self._link.wait_closed()

    # --- called by the link ---------------------------------------------------------------------------------------

    def _emit(self, name: str, *args: Any) -> None:
        if self._emitter is not None:
            self._link.owner.loop.call_soon(self._emit_now, self._emitter, name, args)

    def _emit_now(self, emitter: AsyncIOEventEmitter, name: str, args: tuple[Any, ...]) -> None:
        try:
            emitter.emit(name, *args)
        except Exception as error:  # noqa: BLE001  # a listener's failure belongs to its owner
            self.report(error, self.root, name)


def prepare_new_tabs(connection: Connection) -> None:
    """Prepare, in the background, what lets `new_tab` take one round trip instead of two: for an owner that opens pages."""
    connection._link.new_tabs.prepare()  # noqa: SLF001  # of a class of this file


def is_far(connection: Connection) -> bool:
    """Return True if a round trip is known to take long: what is sent together saves time then."""
    return connection._link.new_tabs.far  # noqa: SLF001  # of a class of this file


def address_of(connection: Connection) -> str | None:
    """Return the address that a connection was made with, e.g. a `cdpUrl`: a password. None for a pipe."""
    return connection._address  # noqa: SLF001  # of a class of this file
