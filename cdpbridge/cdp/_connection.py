"""`Connection`: the thin shell that owns a transport, a multiplexer, one timer and the tasks of handlers."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from msgspec import Raw

from cdpbridge._clock import Clock, TimerHandle
from cdpbridge._durations import waiting_seconds
from cdpbridge.cdp._backoff import resumable
from cdpbridge.cdp._multiplexer import Multiplexer
from cdpbridge.cdp._payload import Payload, as_dict
from cdpbridge.cdp._reconnect import RECONNECT_LIMIT, Reconnected, Reconnecting, Reopen
from cdpbridge.cdp._recorder import Recorder
from cdpbridge.cdp._routing import Stats, Subscription
from cdpbridge.cdp._session import CDPSession, log_handler_error
from cdpbridge.cdp._targets import Node
from cdpbridge.cdp._transport import Closed, Transport
from cdpbridge.errors import (
    CDPError,
    CommandError,
    CommandTimeout,
    ConnectionClosed,
    DecodeError,
    TargetClosed,
)

if TYPE_CHECKING:
    from pyee.asyncio import AsyncIOEventEmitter

    from cdpbridge.protocol import Target

__all__ = ["COMMAND_TIMEOUT", "Connection"]

logger = logging.getLogger("cdpbridge")

_running_loop = asyncio._get_running_loop  # exported by asyncio for event loops; None instead of an error
_COARSE: Final = 0.01  # seconds; a thousand deadlines close together are a few looks at all commands
_CLOSE_TIMEOUT: Final = 5.0  # seconds, for the peer's half of the goodbye
_ALIVE_TIMEOUT: Final = timedelta(seconds=5)
_EVENTS: Final = ("disconnected", "reconnected")

COMMAND_TIMEOUT: Final = timedelta(seconds=30)

HandlerErrorHook = Callable[[BaseException, CDPSession | None, str], object]


class Connection:
    """A DevTools connection: the root session and those attached through it.

    It belongs to the event loop, thread and process that made it.

    Args:
        transport: Connected; the connection owns it from now on.
        command_timeout: Deadline of commands that bring none of their own.
        clock: Where deadlines come from; default: the event loop.
        reopen: Makes another transport to the same browser when the first is lost; None: a lost transport is the end.
        reconnect_limit: How long to try.
        recorder: What its transports pass, if anything.

    Attributes:
        root: Session of the target the address leads to, normally the browser.
        recorder: The flight recorder; None when nothing is recorded.
        close_code: WebSocket close code once it has ended; 1006 when there was no close frame.
        close_reason: The words that came with it.
        on_handler_error: Called with `(error, session, method)` when a handler raises, is too slow for its events, or an
            event cannot be decoded, and with `(error, None, "")` for a message that is no CDP. Default: logged.
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
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._thread = threading.get_ident()
        self._clock: Clock = clock or self._loop
        # asyncio's own is this one, behind a call of 0.1 us
        plain = getattr(type(self._clock), "time", None) is asyncio.BaseEventLoop.time
        self._now = time.monotonic if plain else self._clock.time
        self._timeout = waiting_seconds("command_timeout", command_timeout)
        self._timer: TimerHandle | None = None
        self._timer_at = float("inf")
        self._tasks: set[asyncio.Task[None]] = set()
        # some calls must wait: the other side does not read, the connection is re-established, a listener's domain is enabled
        self.held = False
        self._enabling = 0
        self._paused: asyncio.Future[None] | None = None
        self._reconnecting = Reconnecting(self, reopen, reconnect_limit) if reopen is not None else None
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._emitter: AsyncIOEventEmitter | None = None
        self._mux = Multiplexer(self, remember=reopen is not None)
        self.root = self._mux.targets.root.owner = CDPSession(self, self._mux.targets.root)
        self.recorder = recorder
        self.close_code: int | None = None
        self.close_reason: str = ""
        self.on_handler_error: HandlerErrorHook = log_handler_error
        self.received = self._mux.feed  # no call in between
        self._transport = transport
        transport.start(self)

    def __repr__(self) -> str:
        if self.closed:
            return f"Connection(closed {self.close_code})"
        state = ", reconnecting" if self.reconnecting else ""
        return f"Connection({len(self.sessions) - 1} sessions{state})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def closed(self) -> bool:
        """Whether it has ended for good, by us or by the other side."""
        return self._mux.closed is not None

    @property
    def reconnecting(self) -> bool:
        """Whether the wire was lost and another is being made; calls wait for it up to their deadline."""
        return self._reconnecting is not None and self._reconnecting.running

    @property
    def stats(self) -> Stats:
        """Counters since the beginning."""
        return self._mux.stats

    def flight_record(self) -> list[str]:
        """The last messages, one line each, oldest first, secrets cut: for the report of a failure.

        Empty unless the connection was made with `connect(..., record=N)`; it can be read after the end too. To attach it
        to an error: `error.add_note("\\n".join(connection.flight_record()))`.
        """
        return self.recorder.lines() if self.recorder is not None else []

    @property
    def sessions(self) -> list[CDPSession]:
        """All living sessions, the root first."""
        targets = self._mux.targets
        return [node.owner for node in [*targets.nodes.values(), *targets.away]]

    def on(self, name: str, handler: Callable[..., Any]) -> Callable[[], None]:
        """Call `handler` when something happens to the connection; call the returned function to stop.

        `"disconnected"`, without arguments: it has ended for good. `"reconnected"`, with a `Reconnected`: the wire was lost
        and made anew, and this is what could be restored. Events of the time between are lost.
        """
        if name not in _EVENTS:
            raise ValueError(f"a connection has no event {name!r}; it has {' and '.join(map(repr, _EVENTS))}")
        if self._emitter is None:
            from pyee.asyncio import AsyncIOEventEmitter  # noqa: PLC0415  # most connections need none

            self._emitter = AsyncIOEventEmitter(loop=self._loop)
            self._emitter.on(
                "error", lambda error: self.report(error, self.root, "disconnected or reconnected")
            )
        emitter = self._emitter
        emitter.on(name, handler)
        return lambda: emitter.remove_listener(name, handler)

    def explain_end(self, explain: Callable[[ConnectionClosed], CDPError]) -> None:
        """Have the errors that calls get from the end put in clearer words, by who knows why it came.

        Args:
            explain: Called with each; returns what is raised instead, or the same.
        """
        self._mux.explain = explain

    async def is_alive(self, timeout: float | timedelta = _ALIVE_TIMEOUT) -> bool:
        """Whether the browser answers, however busy or hung its pages are.

        Asked is the browser process, which answers in milliseconds while a page computes. False means that the browser, or
        what lies between, does not answer within `timeout`.
        """
        try:
            await self.root.send("Browser.getVersion", timeout=timeout)
        except CommandError:
            return True  # an answer too: not every server knows the command
        except (CommandTimeout, ConnectionClosed, TargetClosed):
            return False
        return True

    # --- targets --------------------------------------------------------------------------------------------------

    async def targets(self) -> list[Target.TargetInfo]:
        """Every target of the browser that its default filter shows."""
        from cdpbridge.protocol import Target  # noqa: PLC0415  # domains load on first use

        return (await self.root.send(Target.get_targets())).target_infos

    async def attach(self, target_id: str) -> CDPSession:
        """A new session on a target. Two attachments to one target are two sessions, each with its own events."""
        params = {"targetId": target_id, "flatten": True}
        reply = await self.root.send("Target.attachToTarget", params)
        session_id = str(reply.get("sessionId", ""))
        node = self._mux.targets.nodes.get(session_id)
        if node is None:  # the event that announces it is the rule, but not everywhere
            node = self._mux.attach(self._mux.targets.root, session_id, {"targetId": target_id})
        session: CDPSession = node.owner
        return session

    async def new_tab(self, url: str = "about:blank", *, browser_context_id: str | None = None) -> CDPSession:
        """Open a tab and attach to it; when that fails, the tab is closed again."""
        params: dict[str, Any] = {"url": url}
        if browser_context_id is not None:
            params["browserContextId"] = browser_context_id
        reply = await self.root.send("Target.createTarget", params)
        target_id = str(reply.get("targetId", ""))
        try:
            return await self.attach(target_id)
        except BaseException:
            if not self.closed:
                self.spawn(self._try(self.root, "Target.closeTarget", {"targetId": target_id}))
            raise

    # --- for sessions ---------------------------------------------------------------------------------------------

    def begin(
        self, node: Node, method: str, params: Mapping[str, Any] | None, timeout: float | timedelta | None
    ) -> tuple[int, asyncio.Future[Payload]]:
        """Send one command; its id, and what its undecoded result comes to. Who stops waiting calls `give_up`."""
        loop = self._loop
        if _running_loop() is not loop:
            self._check_owner()
        seconds = self._timeout if timeout is None else waiting_seconds("timeout", timeout)
        now = self._now()
        deadline = now + seconds
        waiter: asyncio.Future[Payload] = loop.create_future()
        command_id, data = self._mux.register(node, method, params, waiter, now, deadline)
        try:
            self._transport.send(data)
        except BaseException:
            self._mux.forget(command_id)
            raise
        if deadline < self._timer_at:
            self._arm(deadline)
        return command_id, waiter

    def give_up(self, command_id: int) -> None:
        """Nobody waits for this command any more."""
        self._mux.forget(command_id)

    async def room(self, node: Node, method: str, timeout: float | timedelta | None = None) -> None:
        """Hold a command back until it can go out."""
        seconds = self._timeout if timeout is None else waiting_seconds("timeout", timeout)
        try:
            async with asyncio.timeout(seconds):
                while (gate := self._gate(node)) is not None:
                    await asyncio.wait([gate])
        except TimeoutError:
            cause = (
                "the connection is being made anew" if self.reconnecting else "the other side does not read"
            )
            raise CommandTimeout(
                method,
                target=node.describe(),
                waited=timedelta(seconds=seconds),
                hint=f"it was not sent: {cause}",
            ) from None

    def _gate(self, node: Node) -> asyncio.Future[None] | None:
        gate = self._reconnecting.gate(node) if self._reconnecting is not None else None
        return gate if gate is not None else self._paused

    def listen(self, node: Node, subscription: Subscription) -> Callable[[], None]:
        """Subscribe, and return what takes it back."""
        self._check_owner(in_loop=False)
        if self._mux.closed is not None:
            closed = self._mux.closed
            raise self._mux.explain(ConnectionClosed(closed.code, closed.reason, doing=subscription.method))
        if node.gone is not None:
            raise node.error(subscription.method)
        self._mux.subscribe(node, subscription)
        return lambda: self._mux.unsubscribe(node, subscription)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that is held, and ended when the connection is closed."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def report(self, error: BaseException, session: CDPSession | None, method: str) -> None:
        """Hand a handler's failure to the hook; a hook that fails itself is logged with both."""
        try:
            self.on_handler_error(error, session, method)
        except Exception:
            logger.exception("on_handler_error failed while reporting %r", error)

    async def passable(self, node: Node, doing: str) -> None:
        """Return when a command could go out at once. For those whose parameters would be void by then."""
        if self.held:
            await self.room(node, doing)

    def pending_of(self, session: CDPSession) -> set[int]:
        """Ids of a session's commands without a reply."""
        return {number for number, pending in self._mux.pending.items() if pending.node is session._node}

    def forget(self, session: CDPSession) -> None:
        """End a session that was detached, should its event not have come."""
        self._mux.detach(session.id)

    # --- what the multiplexer tells -------------------------------------------------------------------------------

    def attached(self, node: Node, *, waiting: bool) -> None:
        node.owner = CDPSession(self, node)
        if self._reconnecting is not None:
            self._reconnecting.settled(node)
        if node.parent is not None:
            node.parent.owner.child_attached(node.owner, waiting=waiting)

    def returned(self, node: Node, *, waiting: bool) -> None:
        assert self._reconnecting is not None
        self._reconnecting.returned(node, waiting=waiting)

    def revived(self, node: Node) -> None:
        if self._reconnecting is not None:
            self._reconnecting.revived(node)
        node.owner.revived()

    def gone(self, node: Node) -> None:
        """What hangs on the node has been told by its subscriptions; what waits for its return is told here."""
        if self._reconnecting is not None:
            self._reconnecting.gone(node)

    def failed(self, error: BaseException, node: Node | None, method: str, params: Any) -> None:
        self.report(error, node.owner if node is not None else None, method)
        if node is not None and method == "Fetch.requestPaused" and node.paused:
            self._fail_request(node, params)

    def _fail_request(self, node: Node, event: Any) -> None:
        """A request whose handler raised would stay paused, and freeze its page, for ever."""
        request_id = getattr(event, "request_id", None)
        if isinstance(event, Raw | dict):
            try:
                request_id = as_dict(event).get("requestId")
            except DecodeError:
                return  # as was just reported
        if isinstance(request_id, str) and request_id in node.paused:
            del node.paused[request_id]  # once, however many handlers fail
            params = {"requestId": request_id, "errorReason": "Failed"}
            self.spawn(self._try(node.owner, "Fetch.failRequest", params))

    async def _try(self, session: CDPSession, method: str, params: Mapping[str, Any]) -> None:
        """Clean up after a failure that is already on its way to the user."""
        try:
            await session.send(method, params)
        except CDPError as error:
            logger.debug("%s after a failure: %s", method, error)

    # --- what the transport tells ---------------------------------------------------------------------------------

    def pause(self) -> None:
        if self._paused is None:
            self._paused = self._loop.create_future()
        self.held = True

    def resume(self) -> None:
        paused, self._paused = self._paused, None
        if paused is not None and not paused.done():
            paused.set_result(None)
        self._hold()

    def enabling(self, change: int) -> None:
        """So many domains more are being enabled for listeners."""
        self._enabling += change
        self._hold()

    def _hold(self) -> None:
        self.held = self._paused is not None or self.reconnecting or self._enabling > 0

    def lost(self, closed: Closed, /) -> None:
        reconnecting = self._reconnecting
        if reconnecting is not None and self._mux.closed is None and resumable(closed):
            reconnecting.lost(closed)
            self._mux.interrupt(closed)
            self.resume()
            return
        self._end(closed)
        if not self._lost.done():
            self._lost.set_result(None)

    def reopened(self, transport: Transport) -> None:
        """There is another wire. Called by what makes it."""
        self._transport = transport
        transport.start(self)

    def resumed(self, report: Reconnected) -> None:
        """All is as it was, but for what the report says."""
        self._hold()
        self._emit("reconnected", report)

    def given_up(self, closed: Closed) -> None:
        """There will be no other wire. Called by what makes it."""
        self._end(closed)
        self._transport.abort()

    def _end(self, closed: Closed) -> None:
        if self._mux.closed is not None:
            return
        self.close_code, self.close_reason = closed.code, closed.reason
        self._mux.lost(closed)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        no_wire = self._reconnecting is not None and self._reconnecting.stop()
        if no_wire and not self._lost.done():
            self._lost.set_result(None)
        self.resume()
        self._emit("disconnected")

    def _emit(self, name: str, *args: Any) -> None:
        if self._emitter is not None:
            self._loop.call_soon(self._emit_now, self._emitter, name, args)

    def _emit_now(self, emitter: AsyncIOEventEmitter, name: str, args: tuple[Any, ...]) -> None:
        try:
            emitter.emit(name, *args)
        except Exception as error:  # noqa: BLE001  # a listener's failure belongs to its owner
            self.report(error, self.root, name)

    # --- deadlines ------------------------------------------------------------------------------------------------

    def _arm_for(self, deadline: float) -> None:
        if deadline < self._timer_at:
            self._arm(deadline)

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._clock.call_at(when, self._expire)

    def _expire(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        self._mux.expire(self._now())
        if (when := self._mux.next_deadline()) is not None:
            self._arm(max(when, self._now() + _COARSE))

    # --- the end --------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """End the connection, its sessions and its tasks; the browser lives on. May be called again, and in a handler.

        Takes at most 5 s when the other side does not answer the goodbye.
        """
        self._check_owner()
        try:
            if not self._lost.done():
                self._end(Closed(1000, "closed by this program"))
                self._transport.close(1000)
                await asyncio.wait([self._lost], timeout=_CLOSE_TIMEOUT)
        finally:
            self._transport.abort()
        if not self._lost.done():
            await asyncio.wait([self._lost], timeout=_CLOSE_TIMEOUT)
        await self._end_tasks()
        await asyncio.sleep(0)  # the loop closes the socket in its next turn

    async def _end_tasks(self) -> None:
        current = asyncio.current_task()
        tasks = {task for task in self._tasks if task is not current}
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=_CLOSE_TIMEOUT)
            if stuck:
                logger.warning("%d handlers did not end when their connection was closed", len(stuck))

    async def wait_closed(self) -> None:
        """Return when the connection has ended, whoever ended it."""
        self._check_owner()
        if not self._lost.done():
            await asyncio.wait([self._lost])

    def _check_owner(self, *, in_loop: bool = True) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError(
                f"this connection belongs to process {self._pid}, not to its fork {os.getpid()}; connect again here"
            )
        if threading.get_ident() != self._thread or (in_loop and _running_loop() is not self._loop):
            raise RuntimeError(
                f"this connection belongs to the event loop {self._loop!r} of thread {self._thread}; "
                "use asyncio.run_coroutine_threadsafe, or connect again here"
            )
