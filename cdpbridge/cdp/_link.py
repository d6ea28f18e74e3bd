"""`Link`: a transport, the multiplexer above it, one timer for all deadlines, and the tasks of handlers.

The link is what the multiplexer reports to (`_routing.Shell`) and what the transport delivers to (`_transport.Receiver`). The
modules of this package work on the link; `Connection` and `CDPSession` show users only what users call.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from threading import get_ident
from typing import Any, Final

from msgspec import Raw

from cdpbridge._clock import Clock, TimerHandle
from cdpbridge._concurrency import TaskSet
from cdpbridge._durations import waiting_seconds
from cdpbridge.cdp._backoff import resumable
from cdpbridge.cdp._multiplexer import Multiplexer
from cdpbridge.cdp._new_tabs import NewTabs
from cdpbridge.cdp._owner import Owner
from cdpbridge.cdp._payload import Payload, as_dict
from cdpbridge.cdp._reconnect import Reconnected, Reconnecting, Reopen
from cdpbridge.cdp._routing import ExplainEnd, Stats, Subscription
from cdpbridge.cdp._session import CDPSession, Wiring
from cdpbridge.cdp._targets import Node
from cdpbridge.cdp._transport import Closed, Transport
from cdpbridge.errors import CDPError, CommandTimeout, ConnectionClosed, DecodeError

__all__ = ["Link"]

logger = logging.getLogger("cdpbridge")

# seconds; a thousand deadlines close together are a few scans of all commands
_COARSE: Final = 0.01
# seconds to wait for the peer's close frame
_CLOSE_TIMEOUT: Final = 5.0


class Link:
    """Commands, events and the end of one connection, over one transport after another.

    Args:
        transport: Connected; the link owns it from now on. `start` begins to read it.
        command_timeout: Timeout of commands that bring none of their own.
        clock: Source of deadlines; default: the event loop.
        reopen: Makes another transport to the same browser when one is lost; None: a lost transport is the end.
        reconnect_limit: How long to try.
        new_session: Makes the session of an attachment.
        report: Called with `(error, session, method)` when a handler fails.
        emit: Called with an event of the connection and its arguments.
        explain_end: As of `connect`.

    Attributes:
        send_blocked: Commands must wait: the peer does not read, the connection is being re-established, or a listener's
            domain is being enabled.
        received: Takes one message; the multiplexer's own method, without a call in between.
    """

    __slots__ = (
        "_domains_pending",
        "_emit",
        "_loop",
        "_lost",
        "_mux",
        "_new_session",
        "_now",
        "_paused",
        "_reconnecting",
        "_tasks",
        "_timeout",
        "_timer",
        "_timer_at",
        "_transport",
        "clock",
        "new_tabs",
        "owner",
        "received",
        "report",
        "root",
        "send_blocked",
        "targets",
    )

    def __init__(
        self,
        transport: Transport,
        *,
        command_timeout: float | timedelta,
        clock: Clock | None,
        reopen: Reopen | None,
        reconnect_limit: timedelta,
        new_session: Callable[[Wiring], CDPSession],
        report: Callable[[BaseException, CDPSession | None, str], None],
        emit: Callable[..., None],
        explain_end: ExplainEnd | None,
    ) -> None:
        self.owner = Owner()
        self._loop = self.owner.loop
        self.clock: Clock = clock or self._loop
        # asyncio's own is this one, behind a call of 0.1 us
        plain = getattr(type(self.clock), "time", None) is asyncio.BaseEventLoop.time
        self._now = time.monotonic if plain else self.clock.time
        self._timeout = waiting_seconds("command_timeout", command_timeout)
        self._timer: TimerHandle | None = None
        self._timer_at = float("inf")
        self._tasks = TaskSet(logger, self._loop)
        self.send_blocked = False
        self._domains_pending = 0
        self._paused: asyncio.Future[None] | None = None
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._new_session = new_session
        self.report = report
        self._emit = emit
        self._reconnecting = Reconnecting(self, reopen, reconnect_limit) if reopen is not None else None
        self._mux = Multiplexer(self, remember=reopen is not None, explain=explain_end)
        self.targets = self._mux.targets
        self.new_tabs = NewTabs(self)
        self.root: CDPSession = self._new_wiring(self.targets.root).session
        self.received = self._mux.feed
        self._transport = transport

    @property
    def closed(self) -> Closed | None:
        """How the connection has ended for good; None while it lives."""
        return self._mux.closed

    @property
    def reconnecting(self) -> bool:
        """True from the loss of a transport until its replacement is restored."""
        return self._reconnecting is not None and self._reconnecting.running

    @property
    def stats(self) -> Stats:
        """Counters since the beginning."""
        return self._mux.stats

    @property
    def sessions(self) -> list[CDPSession]:
        """All living sessions that programs see, the root first."""
        nodes = [*self.targets.nodes.values(), *self.targets.suspended]
        return [node.owner.session for node in nodes if not node.hidden]

    def _new_wiring(self, node: Node) -> Wiring:
        wiring = node.owner = Wiring(self, node, self._new_session)
        return wiring

    # --- commands -------------------------------------------------------------------------------------------------

    def begin(
        self, node: Node, method: str, params: Mapping[str, Any] | None, timeout: float | timedelta | None
    ) -> tuple[int, asyncio.Future[Payload]]:
        """Send one command; return its id and the future of its undecoded result.

        A caller that stops waiting calls `forget`.
        """
        loop, owner = self._loop, self.owner
        if get_ident() != owner.thread or not loop.is_running():
            owner.check()
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

    def forget(self, command_id: int) -> None:
        """Free the id of a command whose caller no longer waits."""
        self._mux.forget(command_id)

    def replay(
        self,
        node: Node,
        method: str,
        params: Mapping[str, Any] | None,
        waiter: asyncio.Future[Payload],
        seconds: float,
    ) -> None:
        """Send a command that is remembered already, past the gates; `waiter` gets its undecoded result."""
        now = self._now()
        deadline = now + seconds
        command_id, data = self._mux.register(node, method, params, waiter, now, deadline, remember=False)
        try:
            self._transport.send(data)
        except BaseException:
            self._mux.forget(command_id)
            raise
        if deadline < self._timer_at:
            self._arm(deadline)

    def seconds(self, timeout: float | timedelta | None) -> float:
        """Return a command's timeout in seconds; None: that of the connection."""
        return self._timeout if timeout is None else waiting_seconds("timeout", timeout)

    async def wait_sendable(self, node: Node, method: str, timeout: float | timedelta | None = None) -> None:
        """Hold a command back until it can be sent.

        Raises:
            CommandTimeout: It could not be sent in time.
        """
        seconds = self.seconds(timeout)
        try:
            async with asyncio.timeout(seconds):
                while (gate := self.gate(node)) is not None:
                    await asyncio.wait([gate])
        except TimeoutError:  # `asyncio.wait` raises none of its own
            cause = (
                "the connection is being re-established"
                if self.reconnecting
                else "the other side does not read"
            )
            raise CommandTimeout(
                method,
                target=node.describe(),
                waited=timedelta(seconds=seconds),
                hint=f"it was not sent: {cause}",
            ) from None

    async def wait_ready(self, node: Node, doing: str) -> None:
        """Return when a command could be sent at once, for callers whose parameters do not survive a reconnect."""
        if self.send_blocked:
            await self.wait_sendable(node, doing)

    def gate(self, node: Node) -> asyncio.Future[None] | None:
        """Return what a command on `node` must wait for; None: nothing."""
        gate = self._reconnecting.gate(node) if self._reconnecting is not None else None
        return gate if gate is not None else self._paused

    def pending_ids(self, node: Node) -> set[int]:
        """Return the ids of the node's commands without a reply."""
        return {number for number, pending in self._mux.pending.items() if pending.node is node}

    # --- listeners and tasks --------------------------------------------------------------------------------------

    def listen(self, node: Node, subscription: Subscription) -> Callable[[], None]:
        """Subscribe; the returned function unsubscribes."""
        self.owner.check(in_loop=False)
        if (closed := self._mux.closed) is not None:
            raise self._mux.explain(ConnectionClosed(closed.code, closed.reason, doing=subscription.method))
        if node.closed is not None:
            raise node.error(subscription.method)
        self._mux.subscribe(node, subscription)
        return lambda: self._mux.unsubscribe(node, subscription)

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task, keep a reference to it, and cancel it when the connection is closed; log its failure."""
        name = getattr(work, "__qualname__", type(work).__name__)
        return self._tasks.start(work, f"{name}, a task of a connection,")

    def clean_up(self, node: Node, method: str, params: Mapping[str, Any]) -> None:
        """Send a command after a failure that is already on its way to the user; its own failure is logged."""
        if self.closed is None:
            self.run(self._try(node, method, params))

    async def _try(self, node: Node, method: str, params: Mapping[str, Any]) -> None:
        session: CDPSession = node.owner.session
        try:
            await session.send(method, params)
        except CDPError as error:
            logger.debug("%s after a failure: %s", method, error)

    # --- what the multiplexer reports -----------------------------------------------------------------------------

    def attached(self, node: Node, *, waiting: bool) -> None:
        node.hidden = self.new_tabs.hides(node)
        self._new_wiring(node)
        if self._reconnecting is not None:
            self._reconnecting.settled(node)
        if node.parent is not None:
            node.parent.owner.auto_attach.child_attached(node, waiting=waiting)

    def returned(self, node: Node, *, waiting: bool) -> None:
        assert self._reconnecting is not None
        self._reconnecting.returned(node, waiting=waiting)

    def revived(self, node: Node) -> None:
        if self._reconnecting is not None:
            self._reconnecting.revived(node)
        node.owner.enabling.proceed()

    def ended(self, node: Node) -> None:
        if self._reconnecting is not None:
            self._reconnecting.ended(node)

    def failed(self, error: BaseException, node: Node | None, method: str, params: Any) -> None:
        self.report(error, node.owner.session if node is not None else None, method)
        if node is not None and method == "Fetch.requestPaused" and node.paused:
            self._fail_request(node, params)

    def _fail_request(self, node: Node, event: Any) -> None:
        """Fail a request whose handler raised: it would stay paused, and freeze its page, for ever."""
        request_id = getattr(event, "request_id", None)
        if isinstance(event, Raw | dict):
            try:
                request_id = as_dict(event).get("requestId")
            except DecodeError:
                return  # as was just reported
        if isinstance(request_id, str) and request_id in node.paused:
            del node.paused[request_id]  # once, however many handlers fail
            self.clean_up(node, "Fetch.failRequest", {"requestId": request_id, "errorReason": "Failed"})

    # --- changes of the tree by the package's other modules -------------------------------------------------------

    def attach(self, session_id: str, target_id: str) -> CDPSession:
        """Return the session that a reply of the root names; normally an event has announced it."""
        node = self.targets.nodes.get(session_id)
        if node is None:
            node = self._mux.attach(self.targets.root, session_id, {"targetId": target_id})
        session: CDPSession = node.owner.session
        return session

    def detach(self, node: Node) -> None:
        """End a session that was detached, in case its event has not come."""
        self._mux.detach(node.session_id)

    def reattach(self, node: Node, session_id: str) -> None:
        """Give a suspended node its new session id."""
        self._mux.reattach(node, session_id)

    def lose(self, node: Node) -> None:
        """End a suspended node whose target no longer exists."""
        self._mux.lose(node)

    # --- what the transport reports -------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to read the transport."""
        self._transport.start(self)

    def pause(self) -> None:
        if self._paused is None:
            self._paused = self._loop.create_future()
        self.send_blocked = True

    def resume(self) -> None:
        paused, self._paused = self._paused, None
        if paused is not None and not paused.done():
            paused.set_result(None)
        self._update_blocked()

    def domains_pending(self, change: int) -> None:
        """Count the domains that are being enabled for listeners."""
        self._domains_pending += change
        self._update_blocked()

    def _update_blocked(self) -> None:
        self.send_blocked = self._paused is not None or self.reconnecting or self._domains_pending > 0

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

    # --- what a reconnect calls -----------------------------------------------------------------------------------

    def reopened(self, transport: Transport) -> None:
        """Go on over another transport."""
        self._transport = transport
        self.start()

    def abort_transport(self) -> None:
        """Drop a transport over which the browser does not answer."""
        self._transport.abort()

    def resumed(self, report: Reconnected) -> None:
        """Let all calls through; the state is restored as far as the report says."""
        self._update_blocked()
        self._emit("reconnected", report)

    def abandoned(self, closed: Closed) -> None:
        """End the connection: there will be no other transport."""
        self._end(closed)
        self._transport.abort()

    def _end(self, closed: Closed) -> None:
        if self._mux.closed is not None:
            return
        self._mux.lost(closed)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        no_transport = self._reconnecting is not None and self._reconnecting.stop()
        if no_transport and not self._lost.done():
            self._lost.set_result(None)
        self.resume()
        self._emit("disconnected")

    # --- deadlines ------------------------------------------------------------------------------------------------

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self.clock.call_at(when, self._expire)

    def _expire(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        self._mux.expire(self._now())
        if (when := self._mux.next_deadline()) is not None:
            self._arm(max(when, self._now() + _COARSE))

    # --- the end --------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Do what `Connection.close` says."""
        self.owner.check()
        try:
            if not self._lost.done():
                self._end(Closed(1000, "closed by this program"))
                self._transport.close(1000)
                await asyncio.wait([self._lost], timeout=_CLOSE_TIMEOUT)
        finally:
            self._transport.abort()
        if not self._lost.done():
            await asyncio.wait([self._lost], timeout=_CLOSE_TIMEOUT)
        if late := await self._tasks.cancel(_CLOSE_TIMEOUT):
            logger.warning("%d handlers did not end when their connection was closed", late)
        await asyncio.sleep(0)  # the loop closes the socket in its next turn

    async def wait_closed(self) -> None:
        """Do what `Connection.wait_closed` says."""
        self.owner.check()
        if not self._lost.done():
            await asyncio.wait([self._lost])
