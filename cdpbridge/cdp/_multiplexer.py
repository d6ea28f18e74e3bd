"""The pure router between a transport and its callers: bytes and `now` go in, calls come out. No asyncio, no I/O.

Out: `register` gives a command its id and its bytes. In: `feed`, which is that of `_intake`, answers a pending command (by id
alone: Chromium leaves the session id out of some replies), hands an event to the subscriptions of its node, or drops it. What
it has no short way for is read here.

Chromium's events about targets change the tree before they are delivered, so that calls on a closed target fail at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Mapping
from datetime import timedelta
from typing import Any, Final

from cdpbridge.cdp._domains import SWITCHES, switch
from cdpbridge.cdp._intake import Intake
from cdpbridge.cdp._payload import (
    ABSENT,
    Envelope,
    FullCommand,
    Payload,
    Reply,
    as_dict,
    encode,
    encode_full,
    read_envelope,
)
from cdpbridge.cdp._routing import (
    ExplainEnd,
    Pending,
    Remembering,
    Shell,
    Stats,
    Subscription,
    Waiter,
    command_error,
    deliver,
    end_error,
    fail,
)
from cdpbridge.cdp._state import ATTACHING, NOTED, SessionState, text_in
from cdpbridge.cdp._targets import REVIVING, Crash, Node, Targets
from cdpbridge.cdp._transport import MAX_OUTGOING_BYTES, Closed
from cdpbridge.errors import (
    CDPError,
    CommandError,
    CommandTimeout,
    ConnectionClosed,
    DecodeError,
    MessageTooBig,
)

__all__ = ["MAX_ID", "Multiplexer"]

logger = logging.getLogger("cdpbridge")

MAX_ID: Final = 2**31 - 1
"""Chromium answers larger ids with an error that carries no id."""

# abandoned ids whose late reply is recognised
_REMEMBERED: Final = 4096
_LATE_SECONDS: Final = 0.25
"""More than a timer is late on a loaded machine: the event loop itself was held up."""
# "Session with given id not found."
_NO_SUCH_SESSION: Final = -32001


class Multiplexer:
    """Commands, replies and events of one connection.

    Args:
        shell: The owner, which gets the reports.
        last_id: The id before the first; the counter belongs to the connection, never to a session or a transport.
        remember: Note the commands to replay on each session after a reconnect.
        explain: As `explain_end` of `connect`.
    """

    def __init__(
        self,
        shell: Shell,
        *,
        last_id: int = 0,
        remember: bool = False,
        explain: ExplainEnd | None = None,
    ) -> None:
        self.targets = Targets()
        self._stats = Stats()
        self.closed: Closed | None = None
        self._explain = explain
        self._shell = shell
        self._remember = remember
        self._noted: Container[str] = NOTED if remember else SWITCHES
        self._nodes = self.targets.nodes
        self._last_id = last_id
        self._abandoned: dict[int, None] = {}
        self._sent = 0
        self._warned_unknown = False
        self._observers: dict[str, Callable[[Node, Payload], None]] = {
            "Target.attachedToTarget": self._attached,
            "Target.detachedFromTarget": self._detached,
            "Target.targetCrashed": self._target_crashed,
            "Inspector.targetCrashed": self._crashed,
            "Inspector.targetReloadedAfterCrash": self._revive,
            "Page.javascriptDialogOpening": Node.dialog_opening,
            "Page.javascriptDialogClosed": Node.dialog_closed,
            "Fetch.requestPaused": Node.request_paused,
            "Fetch.authRequired": Node.request_paused,
        }
        self._intake = Intake(self.targets, self._stats, shell, self._observers, self._other)
        self.pending = self._intake.pending
        self.feed = self._intake.feed  # no call in between

    @property
    def stats(self) -> Stats:
        """Counters since the beginning."""
        self._stats.commands = self._sent  # counted once
        return self._stats

    # --- out ------------------------------------------------------------------------------------------------------

    def register(  # noqa: PLR0917  # the hot path; keywords cost
        self,
        node: Node,
        method: str,
        params: Mapping[str, Any] | None,
        waiter: Waiter,
        now: float,
        deadline: float,
        remember: bool = True,
    ) -> tuple[int, bytes]:
        """Give a command an id and its bytes, and wait for its reply until `deadline` (seconds, as `now`).

        Args:
            remember: False: it replays what is remembered already.

        Raises:
            ConnectionClosed: The connection has ended.
            TargetClosed: The target has closed, or has crashed and is not yet revived; nothing is sent.
            MessageTooBig: Chromium would cut the connection.
        """
        if self.closed is not None:
            raise self.explain(
                ConnectionClosed(self.closed.code, self.closed.reason, sent=False, doing=method)
            )
        if (node.closed is not None or node.crash is not None) and not node.allows(method):
            raise node.error(method)
        if method in self._noted and remember:
            switch(node.enabled, method)
            if self._remember:
                waiter = Remembering(node, method, params, waiter, self._note)
                if node.state is not None:
                    params = node.state.translate(method, params)
        pending, command_id = self.pending, self._last_id + 1
        if command_id in pending or command_id > MAX_ID:
            command_id = self._free_id(command_id)
        session_id = node.session_id
        if session_id and params is not None:
            try:  # as `encode` does, without its call
                data = encode_full(FullCommand(command_id, method, params, session_id))
            except UnicodeEncodeError:
                data = encode(command_id, method, params, session_id)
        else:
            data = encode(command_id, method, params, session_id)
        if len(data) > MAX_OUTGOING_BYTES:
            raise MessageTooBig(
                f"{method}: a command of {len(data)} bytes was not sent, Chromium reads at most {MAX_OUTGOING_BYTES}",
                limit_bytes=MAX_OUTGOING_BYTES,
                size_bytes=len(data),
            )
        if node.paused:
            node.sends(method, params)
        self._last_id = command_id
        self._sent = number = self._sent + 1
        pending[command_id] = Pending(node, method, waiter, now, deadline, number)
        return command_id, data

    def _free_id(self, command_id: int) -> int:
        while command_id in self.pending or command_id > MAX_ID:
            command_id = command_id + 1 if command_id < MAX_ID else 1
        return command_id

    def _note(self, node: Node, method: str, params: dict[str, Any], result: Payload) -> Payload:
        """Remember a command that has been carried out and changed its session."""
        if method in ATTACHING:
            session_id = text_in(result, "sessionId")
            if session_id and node.closed is None:
                child = self.attach(node, session_id, params)  # in case that no event has announced it
                child.attached_by = (method, params)
            return result
        if node.state is None:
            node.state = SessionState()
        return node.state.succeeded(method, params, result)

    def forget(self, command_id: int) -> None:
        """Free the id of a command whose caller no longer waits; a late reply is only counted."""
        if self.pending.pop(command_id, None) is not None:
            self._abandon(command_id)

    def next_deadline(self) -> float | None:
        """Return when `expire` should be called next.

        Asked only when a timer fires, every 30 s as a rule: a heap would cost 0.3 us for each command.
        """
        return min((pending.deadline for pending in self.pending.values()), default=None)

    def expire(self, now: float) -> None:
        """Fail the commands whose deadline has passed."""
        late = [number for number, pending in self.pending.items() if pending.deadline <= now]
        for command_id in late:
            pending = self.pending.pop(command_id)
            self._abandon(command_id)
            # The timeout itself, without the moments of the timer; more when the event loop was held up.
            until = now if now - pending.deadline > _LATE_SECONDS else pending.deadline
            fail(
                pending,
                CommandTimeout(
                    pending.method,
                    target=pending.node.describe(),
                    waited=timedelta(seconds=until - pending.since),
                    hint=pending.node.hint(),
                ),
            )

    # --- subscriptions --------------------------------------------------------------------------------------------

    def subscribe(self, node: Node, subscription: Subscription) -> None:
        """Deliver a node's events of one method from the next message on."""
        node.listeners[subscription.method] = (*node.listeners.get(subscription.method, ()), subscription)
        self._intake.want(subscription.method)

    def unsubscribe(self, node: Node, subscription: Subscription) -> None:
        """Stop delivering, also within the dispatch that is running."""
        if not subscription.active:
            return
        subscription.active = False
        method = subscription.method
        rest = tuple(other for other in node.listeners[method] if other is not subscription)
        if rest:
            node.listeners[method] = rest
        else:
            del node.listeners[method]
        self._intake.unwant(method)

    # --- in -------------------------------------------------------------------------------------------------------

    def _other(self, data: bytes | bytearray, reply: Reply | None, pending: Pending | None) -> None:
        """Read a message that the intake has passed on; `reply` and `pending` if it is a reply, and a caller waited for it."""
        if self.closed is not None:
            return
        if reply is not None:
            self._reply(reply, reply.id, pending, data)
            return
        try:
            envelope = read_envelope(data)
        except DecodeError as error:
            self._violation(error)
            return
        if envelope.id is not None:
            self._reply(envelope, envelope.id, self.pending.pop(envelope.id, None), data)
        elif envelope.method is not None:
            self._event(envelope, envelope.method)
        elif envelope.error is not ABSENT:
            self._unaddressed(envelope.error)
        else:
            self._violation(DecodeError("a message has neither id nor method", raw=bytes(data[:1000])))

    def _reply(
        self,
        envelope: Envelope | Reply | Any,
        command_id: int,
        pending: Pending | None,
        data: bytes | bytearray,
    ) -> None:
        if pending is None:
            self._stray(command_id)
            return
        self._stats.replies += 1
        if envelope.result is not ABSENT and envelope.result is not None:
            node = pending.node
            if pending.method in REVIVING:
                self._revive(node)
            if not pending.waiter.done():
                pending.waiter.set_result(envelope.result)
        elif envelope.error is not ABSENT:
            error = command_error(pending.method, envelope.error)
            if isinstance(error, CommandError) and error.code == _NO_SUCH_SESSION:
                error = self._unknown_session(pending, error)
            fail(pending, error)
        else:
            self._stats.protocol_violations += 1
            fail(
                pending,
                DecodeError(
                    f"{pending.method}: the reply has neither result nor error", raw=bytes(data[:1000])
                ),
            )

    def _unknown_session(self, pending: Pending, cause: CommandError) -> CDPError:
        """End a session that the browser no longer knows and has not announced, e.g. a relay restarted behind its address."""
        node = pending.node
        if node.parent is None:
            return cause
        self.detach(node.session_id)
        error = node.error(pending.method)
        error.__cause__ = cause
        return error

    def _stray(self, command_id: int) -> None:
        if command_id in self._abandoned:
            del self._abandoned[command_id]
            self._stats.late_replies += 1
        elif 1 <= command_id <= self._last_id:
            self._stats.duplicate_replies += 1
        else:
            self._stats.unknown_ids += 1
            if not self._warned_unknown:
                self._warned_unknown = True
                logger.warning("a reply has the unknown id %d; further ones are only counted", command_id)

    def _unaddressed(self, payload: Payload) -> None:
        self._stats.unaddressed_errors += 1
        error = command_error("a command", payload)
        logger.warning("the browser sent an error without an id: %s", error)
        if len(self.pending) == 1:
            command_id, pending = self.pending.popitem()
            self._abandon(command_id)
            fail(pending, command_error(pending.method, payload))

    def _event(self, envelope: Envelope | Any, method: str) -> None:
        node = self._nodes.get(envelope.sessionId)
        if node is None:
            self._stats.events_dropped += 1
            return
        observer = self._observers.get(method)
        params = envelope.params
        if observer is not None:
            try:
                observer(node, params)
            except DecodeError as error:
                self._shell.failed(error, node, method, params)
        subscriptions = node.listeners.get(method)
        if subscriptions is None:
            self._stats.events_dropped += observer is None
        else:
            self._stats.events += 1
            deliver(self._shell, node, method, params, subscriptions)
        if method == "Inspector.targetCrashed":  # after its listeners, which may wait for just this event
            self._spread_crash(node)

    def _violation(self, error: DecodeError) -> None:
        self._stats.protocol_violations += 1
        self._shell.failed(error, None, "", ABSENT)

    def _abandon(self, command_id: int) -> None:
        self._abandoned[command_id] = None
        if len(self._abandoned) > _REMEMBERED:
            del self._abandoned[next(iter(self._abandoned))]

    # --- events about targets ---------------------------------------------------------------------------------------

    def _attached(self, node: Node, payload: Payload) -> None:
        params = as_dict(payload)
        info, session_id = params.get("targetInfo"), params.get("sessionId")
        if not isinstance(session_id, str) or not session_id:
            raise DecodeError("Target.attachedToTarget without a sessionId")
        info = info if isinstance(info, dict) else {}
        self.attach(node, session_id, info, waiting=bool(params.get("waitingForDebugger")))

    def attach(
        self, parent: Node, session_id: str, info: Mapping[str, Any], *, waiting: bool = False
    ) -> Node:
        """Return the node of an attachment that an event or a reply announces."""
        target_id = str(info.get("targetId", ""))
        if self.targets.suspended and session_id not in self._nodes:
            absent = self.targets.absent(parent, target_id)
            if absent is not None:
                self.reattach(absent, session_id, waiting=waiting)
                return absent
        node, new = self.targets.attach(parent, session_id, target_id, str(info.get("type", "other")))
        if new:
            self._shell.attached(node, waiting=waiting)
        return node

    def reattach(self, node: Node, session_id: str, *, waiting: bool = False) -> None:
        """Give a suspended node its new session id."""
        self.targets.rebind(node, session_id)
        self._shell.returned(node, waiting=waiting)

    def _detached(self, node: Node, payload: Payload) -> None:
        session_id = as_dict(payload).get("sessionId")
        self.detach(session_id if isinstance(session_id, str) else node.session_id)

    def detach(self, session_id: str) -> None:
        """End a node and its descendants; fail their pending commands and subscriptions."""
        self._end_nodes(self.targets.detach(session_id))

    def lose(self, node: Node) -> None:
        """Do as `detach`, for a node that may be suspended."""
        self._end_nodes(self.targets.remove(node))

    def _end_nodes(self, nodes: list[Node]) -> None:
        self._fail_on(nodes)
        for node in nodes:
            self._end_subscriptions(node, node.error)
            self._shell.ended(node)

    def _fail_on(self, nodes: list[Node]) -> None:
        dead = set(nodes)
        for command_id, pending in [item for item in self.pending.items() if item[1].node in dead]:
            del self.pending[command_id]
            self._abandon(command_id)
            fail(pending, pending.node.error(pending.method))

    def _end_subscriptions(self, node: Node, error: Callable[[], CDPError]) -> None:
        listeners, node.listeners = node.listeners, {}
        subscriptions = [each for of_method in listeners.values() for each in of_method]
        # All of them first: `ended` may remove others.
        for subscription in subscriptions:
            subscription.active = False
            self._intake.unwant(subscription.method)
        for subscription in subscriptions:
            if subscription.ended is not None:
                subscription.ended(error())

    def _crashed(self, node: Node, _payload: Payload) -> None:
        self.targets.crash(node, Crash())
        self._fail_on([node])

    def _target_crashed(self, _node: Node, payload: Payload) -> None:
        params = as_dict(payload)
        target_id = params.get("targetId")
        if not isinstance(target_id, str) or not target_id:
            raise DecodeError("Target.targetCrashed without a targetId")  # "" is the root's
        status, code = params.get("status"), params.get("errorCode")
        crash = Crash(
            status if isinstance(status, str) else None,
            code if isinstance(code, int) else None,
        )
        for node in self.targets.crash_target(target_id, crash):
            self._fail_on([node])
            self._spread_crash(node)

    def _spread_crash(self, node: Node) -> None:
        for subscriptions in list(node.listeners.values()):
            for subscription in subscriptions:
                if subscription.crashed is not None and subscription.active:
                    subscription.crashed(node.error())

    def _revive(self, node: Node, _payload: Payload = ABSENT) -> None:
        if node.crash is not None:
            self.targets.revive(node)
            self._shell.revived(node)

    # --- the end --------------------------------------------------------------------------------------------------

    def lost(self, closed: Closed) -> None:
        """End the connection: fail all pending commands and subscriptions. Only the first call counts."""
        if self.closed is not None:
            return
        self.closed = closed
        self._intake.ended = True
        self._fail_all(closed)
        for node in [*self._nodes.values(), *self.targets.suspended]:
            self._end_subscriptions(node, lambda: self._end_error(closed))
            self._shell.ended(node)

    def interrupt(self, closed: Closed) -> None:
        """Go on without a transport until there is another: fail the pending commands, keep the subscriptions.

        Children that were not yet set up end; they come back as new ones, and are set up from the beginning.
        """
        self._fail_all(closed)
        self._abandoned.clear()
        for node in [node for node in self._nodes.values() if not node.ready]:
            node.detaching = True
            self.lose(node)
        self.targets.suspend()

    def _fail_all(self, closed: Closed) -> None:
        pending = list(self.pending.values())
        self.pending.clear()
        left = self._sent - closed.unsent
        for one in pending:
            fail(one, self._end_error(closed, one.method, sent=one.number <= left))

    def _end_error(self, closed: Closed, doing: str = "", *, sent: bool | None = None) -> CDPError:
        error = end_error(closed, doing, sent=sent)
        return self.explain(error) if isinstance(error, ConnectionClosed) else error

    def explain(self, error: ConnectionClosed) -> CDPError:
        """Return what a call gets instead of `error`, by the owner's `explain_end`."""
        if self._explain is None:
            return error
        try:
            return self._explain(error)
        except Exception:  # it must not keep the others from their errors
            logger.exception("explain_end failed for %s", error)
            return error
