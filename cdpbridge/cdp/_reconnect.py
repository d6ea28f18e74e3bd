"""Re-establish a lost connection and replay the state of its sessions: the shell around `_backoff`, `_state`, `_targets`.

One task, while it is needed: it dials until there is a transport or a final refusal, then restores the tree of sessions from
the root down, each level at once. A session's own calls are let through when it has been restored, whatever the others do.
When the transport is lost again meanwhile, all that starts over, within the same limit.

    loss ──> dial ──failed──> wait ──> dial ...    within `limit`, else the connection is abandoned
               └──connected──> restore ──done──> resumed
                                  └──lost again──> dial ...
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from random import random
from typing import TYPE_CHECKING, Any, Final

from cdpbridge.cdp._backoff import delay, is_fatal
from cdpbridge.cdp._payload import Payload
from cdpbridge.cdp._state import Step, text_in
from cdpbridge.cdp._targets import Node
from cdpbridge.cdp._transport import Closed, Transport
from cdpbridge.errors import CDPError, CommandError, CommandTimeout, ConnectionClosed, TargetClosed
from cdpbridge.errors._base import seconds_text

if TYPE_CHECKING:
    from cdpbridge._clock import Clock
    from cdpbridge.cdp._link import Link
    from cdpbridge.cdp._session import CDPSession

__all__ = ["RECONNECT_LIMIT", "NotRestored", "Reconnected", "Reconnecting", "Reopen"]

logger = logging.getLogger("cdpbridge")

Reopen = Callable[[], Awaitable[Transport]]
_Asked = list[tuple[Step, asyncio.Future[Payload]]]

RECONNECT_LIMIT: Final = timedelta(seconds=30)
# seconds for an answer while restoring; a page in a 3 s loop is busy, not hung
_ANSWER: Final = 5.0
_CRASHED: Final = "the renderer has crashed; it is re-sent after the page reloads"
_STOPPED: Final = Closed(1000)
# seconds; a transport that lived shorter counts as a failed try
_STEADY: Final = 1.0


@dataclass(frozen=True, slots=True)
class NotRestored:
    """A command of a session that is not in force any more, or not in full.

    Attributes:
        session: The session.
        method: The command.
        reason: Why, in words.
    """

    session: CDPSession
    method: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reconnected:
    """Report of a connection that was lost and re-established. Events between the loss and the return are always lost.

    Attributes:
        restored: Sessions that go on, the root first.
        lost: Sessions that have ended: their target has closed, or they were still being set up and come as new ones.
        not_restored: Commands of the restored ones that are not in force any more.
        gap: From the loss until all was restored.
        tries: To connect.
        code: WebSocket close code of the loss, 1006 when there was no close frame.
        reason: Reason that came with the code.
    """

    restored: tuple[CDPSession, ...]
    lost: tuple[CDPSession, ...]
    not_restored: tuple[NotRestored, ...]
    gap: timedelta
    tries: int
    code: int
    reason: str


class Reconnecting:
    """Re-establish one connection, as often as it is lost.

    Args:
        link: The connection.
        reopen: Connects.
        limit: How long one loss may take.
    """

    def __init__(self, link: Link, reopen: Reopen, limit: timedelta) -> None:
        self._link = link
        self._reopen = reopen
        self._limit = limit.total_seconds()
        self._task: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None
        # pending while there is a transport
        self._dropped: asyncio.Future[Closed] | None = None
        self._restored: set[Node] = set()
        self._gates: dict[Node, asyncio.Future[None]] = {}
        self._before: list[CDPSession] = []
        # not restored, for good; not answered over the present transport
        self._failed: list[NotRestored] = []
        self._unknown: list[NotRestored] = []
        # crashed nodes, whose state is replayed once the renderer is back
        self._deferred: set[Node] = set()
        self._attempt = 0
        self._steady_at = 0.0

    @property
    def running(self) -> bool:
        """True from the loss until all is restored or abandoned."""
        return self._task is not None

    def gate(self, node: Node) -> asyncio.Future[None] | None:
        """Return what a call on `node` must wait for; None: nothing."""
        if self._task is None or node in self._restored or node.closed is not None:
            return None
        gate = self._gates.get(node)
        if gate is None:
            gate = self._gates[node] = asyncio.get_running_loop().create_future()
        return gate

    # --- what the link reports --------------------------------------------------------------------------------

    def lost(self, closed: Closed) -> None:
        """Start to reconnect; or start over, when the transport is lost again meanwhile."""
        self._restored.clear()
        self._deferred.clear()
        if self._dropped is not None and not self._dropped.done():
            self._dropped.set_result(closed)
        if self._task is None:
            self._before = self._link.sessions
            self._task = self._link.run(self._run(closed))

    def settled(self, node: Node) -> None:
        """Let the calls of a node through: it is restored, or has nothing to restore."""
        if self._task is not None:
            self._restored.add(node)
            self._release(node)

    def returned(self, node: Node, *, waiting: bool) -> None:
        """Restore a node that has been attached to again."""
        if self._group is not None:
            self._group.create_task(self._restore(node, waiting=waiting))

    def revived(self, node: Node) -> None:
        """Replay the state of a node that was crashed while it should have been restored."""
        if node in self._deferred:
            self._deferred.discard(node)
            missing: list[NotRestored] = []
            # at once: before the program, which has just learnt that the page is back, can send anything
            try:
                asked = self._replay_steps(node, missing, missing)
            except ConnectionClosed:
                return
            self._link.run(self._catch_up(node, asked, missing))

    def ended(self, node: Node) -> None:
        """Let the calls of a node through that has ended; they fail."""
        self._deferred.discard(node)
        self._release(node)

    def stop(self) -> bool:
        """Stop trying; return True if there is no transport at present."""
        task, self._task = self._task, None
        if task is None:
            return False
        if task is not asyncio.current_task():
            task.cancel()
        self._finish()
        if self._dropped is None or self._dropped.done():
            return True
        self._dropped.set_result(_STOPPED)
        return False

    def _release(self, node: Node) -> None:
        gate = self._gates.pop(node, None)
        if gate is not None and not gate.done():
            gate.set_result(None)

    def _finish(self) -> None:
        self._task = None
        self._restored.clear()
        self._before, self._failed, self._unknown = [], [], []
        for node in list(self._gates):
            self._release(node)

    # --- the task -------------------------------------------------------------------------------------------------

    async def _run(self, closed: Closed) -> None:
        try:
            await self._resume(closed)
        except Exception as error:
            logger.exception("a lost connection could not be resumed")
            self._link.abandoned(_after(closed, f"resuming failed: {error!r}"))

    async def _resume(self, closed: Closed) -> None:
        link, clock = self._link, self._link.clock
        began = clock.time()
        until = began + self._limit
        if began - self._steady_at > _STEADY:
            self._attempt = 0
        tries = 0
        last = "there was no time"
        while True:
            pause = delay(self._attempt, random())  # noqa: S311  # no secret
            if clock.time() + pause >= until:
                link.abandoned(
                    _after(closed, f"no new connection within {seconds_text(self._limit)}: {last}")
                )
                return
            await _sleep(clock, pause)
            self._attempt += 1
            tries += 1
            try:
                async with _before(clock, until):
                    transport = await self._reopen()
            except Exception as error:  # noqa: BLE001  # each is waited out, or ends the connection
                if is_fatal(error):
                    link.abandoned(_after(closed, f"cannot reconnect: {error}"))
                    return
                last = str(error) or type(error).__name__
                continue
            self._unknown = []
            self._dropped = asyncio.get_running_loop().create_future()
            link.reopened(transport)
            if await self._restore_all(self._dropped):
                break
            closed_again = self._dropped.result()
            # a task group that has failures of its own swallows our cancellation
            if closed_again is _STOPPED:
                return
            last = f"lost again ({closed_again.code} {closed_again.reason})"
        self._steady_at = clock.time()
        report = Reconnected(
            tuple(session for session in self._before if session.closed is None),
            tuple(session for session in self._before if session.closed is not None),
            (*self._failed, *self._unknown),
            timedelta(seconds=clock.time() - began),
            tries,
            closed.code,
            closed.reason,
        )
        self._finish()
        link.resumed(report)

    async def _restore_all(self, dropped: asyncio.Future[Closed]) -> bool:
        """Restore the whole tree; return False when the transport was lost before that was done."""
        root = self._link.targets.root
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._restore(root))
        except* CommandTimeout:  # the browser itself does not answer over this transport
            self._link.abort_transport()
            await asyncio.wait([dropped])
        except* ConnectionClosed:
            await asyncio.wait([dropped])
        finally:
            self._group = None
        return not dropped.done()

    async def _restore(self, node: Node, *, waiting: bool = False) -> None:
        """Replay the state of one session, and attach again to what was attached through it."""
        self._check_connected()
        probe = self._issue(node, "Browser.getVersion") if node.parent is None else None
        await self._repeat_steps(node)
        if probe is not None:
            try:
                await self._await_reply(probe)
            except CommandError:
                pass  # an answer too: not every server knows the command
        if node.closed is None:
            await self._attach_again(node)
            if waiting:
                self._issue(node, "Runtime.runIfWaitingForDebugger")
        self.settled(node)

    async def _repeat_steps(self, node: Node) -> None:
        asked = self._replay_steps(node, self._failed, self._unknown)
        await self._settle(node, asked, self._failed, self._unknown)

    async def _catch_up(self, node: Node, asked: _Asked, missing: list[NotRestored]) -> None:
        try:
            await self._settle(node, asked, missing, missing)
        except ConnectionClosed:
            return  # the next transport starts over
        for one in missing:  # too late for the report
            logger.warning("%s of %s is not in force again: %s", one.method, node.describe(), one.reason)

    def _replay_steps(self, node: Node, failed: list[NotRestored], unknown: list[NotRestored]) -> _Asked:
        """Send the remembered commands; `failed` gets what is lost for good, `unknown` what may come back."""
        asked: _Asked = []
        for step in node.state.steps if node.state is not None else ():
            if step.lost:
                assert node.state is not None
                node.state.failed(step)
                failed.append(
                    NotRestored(
                        node.owner.session, step.method, "what it had begun ended with the connection"
                    )
                )
            elif node.crash is None:
                asked.append((step, self._issue(node, step.method, step.params)))
            else:
                self._deferred.add(node)
                unknown.append(NotRestored(node.owner.session, step.method, _CRASHED))
        return asked

    async def _settle(
        self, node: Node, asked: _Asked, failed: list[NotRestored], unknown: list[NotRestored]
    ) -> None:
        """Wait for the answers to `_replay_steps`."""
        state = node.state
        for step, answer in asked:
            assert state is not None
            try:
                state.repeated(step, await self._await_reply(answer))
                if step.not_restored:
                    unknown.append(NotRestored(node.owner.session, step.method, step.not_restored))
            except ConnectionClosed:
                raise
            except (CommandTimeout, TargetClosed) as error:
                unknown.append(NotRestored(node.owner.session, step.method, str(error)))
            except CDPError as error:
                state.failed(step)
                failed.append(NotRestored(node.owner.session, step.method, str(error)))

    async def _attach_again(self, node: Node) -> None:
        """Attach again to the children of a node.

        Chromium announces what it attaches automatically before it answers: a child that has not come by now has closed.
        """
        link = self._link
        asked: list[tuple[Node, asyncio.Future[Payload]]] = []
        for child in [child for child in link.targets.suspended if child.parent is node]:
            if child.attached_by is None:
                link.lose(child)
                continue
            child.awaited = True
            asked.append((child, self._issue(node, *child.attached_by)))
        for child, answer in asked:
            try:
                session_id = text_in(await self._await_reply(answer), "sessionId")
            except ConnectionClosed:
                raise
            except CDPError as error:
                logger.debug("%s could not be attached to again: %s", child.describe(), error)
                link.lose(child)
                continue
            if child in link.targets.suspended:
                if session_id:  # no event has announced it
                    link.reattach(child, session_id)
                else:
                    link.lose(child)

    def _issue(
        self, node: Node, method: str, params: dict[str, Any] | None = None
    ) -> asyncio.Future[Payload]:
        """Send a command past the gates."""
        answer: asyncio.Future[Payload] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_mark_retrieved)
        try:
            self._link.replay(node, method, params or None, answer, _ANSWER)
        except TargetClosed as error:
            answer.set_exception(error)
        return answer

    async def _await_reply(self, answer: asyncio.Future[Payload]) -> Payload:
        """Return the reply; fail if the transport was replaced meanwhile."""
        try:
            return await answer
        finally:
            self._check_connected()

    def _check_connected(self) -> None:
        """Fail what was begun over a transport that is lost by now: its session ids are not those of the next one."""
        if self._dropped is not None and self._dropped.done():
            closed = self._dropped.result()
            raise ConnectionClosed(closed.code, closed.reason)


def _mark_retrieved(answer: asyncio.Future[Payload]) -> None:
    """Keep asyncio from logging an error that no task reads, when the one that asked was cancelled."""
    if not answer.cancelled():
        answer.exception()


def _after(closed: Closed, what: str) -> Closed:
    return Closed(closed.code, f"{closed.reason}; {what}" if closed.reason else what)


async def _sleep(clock: Clock, seconds: float) -> None:
    if seconds <= 0:
        return
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    timer = clock.call_at(clock.time() + seconds, over.set_result, None)
    try:
        await over
    finally:
        timer.cancel()


@asynccontextmanager
async def _before(clock: Clock, when: float) -> AsyncIterator[None]:
    """Limit a block as `asyncio.timeout_at` does, with any clock."""
    async with asyncio.timeout(None) as timeout:
        timer = clock.call_at(when, lambda: timeout.reschedule(asyncio.get_running_loop().time()))
        try:
            yield
        finally:
            timer.cancel()
