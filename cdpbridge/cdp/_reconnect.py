"""A lost wire is made anew and everything on it restored: the shell around `_backoff`, `_state` and `_targets`.

One task, while it is needed: it dials until there is a wire or no hope, then restores the tree of sessions from the root
down, each level at once. A session's own calls are let through when it has been restored, whatever the others do. When the
wire is lost again meanwhile, all that begins anew, within the same limit.
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

from cdpbridge.cdp._backoff import delay, hopeless
from cdpbridge.cdp._payload import Payload
from cdpbridge.cdp._state import Step, text_in
from cdpbridge.cdp._targets import Node
from cdpbridge.cdp._transport import Closed, Transport
from cdpbridge.errors import CDPError, CommandError, CommandTimeout, ConnectionClosed, TargetClosed

if TYPE_CHECKING:
    from cdpbridge._clock import Clock
    from cdpbridge.cdp._connection import Connection
    from cdpbridge.cdp._session import CDPSession

__all__ = ["RECONNECT_LIMIT", "NotRestored", "Reconnected", "Reconnecting", "Reopen"]

logger = logging.getLogger("cdpbridge")

Reopen = Callable[[], Awaitable[Transport]]
_Asked = list[tuple[Step, asyncio.Future[Payload]]]

RECONNECT_LIMIT: Final = timedelta(seconds=30)
_ANSWER: Final = 5.0  # seconds for an answer while restoring; a page in a 3 s loop is busy, not hung
_CRASHED: Final = "the renderer has crashed; it is given again when the page is loaded again"
_STOPPED: Final = Closed(1000)
_STEADY: Final = 1.0  # seconds; a wire that lived shorter counts as a failed try


@dataclass(frozen=True, slots=True)
class NotRestored:
    """Something that a session had been told and does not know any more, or not all of it.

    Attributes:
        session: Whose.
        method: The command.
        reason: Why, in words.
    """

    session: CDPSession
    method: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reconnected:
    """What became of a connection whose wire was lost. Events between the loss and the return are lost in any case.

    Attributes:
        restored: Sessions that go on, the root first.
        lost: Sessions that have ended: their target was gone, or they were still being set up and come as new ones.
        not_restored: What the restored ones had been told and is not in force any more.
        gap: From the loss until all was restored.
        tries: To connect.
        code: WebSocket close code of the loss, 1006 when there was no close frame.
        reason: The words that came with it.
    """

    restored: tuple[CDPSession, ...]
    lost: tuple[CDPSession, ...]
    not_restored: tuple[NotRestored, ...]
    gap: timedelta
    tries: int
    code: int
    reason: str


class Reconnecting:
    """Makes the wire of one connection anew, as often as it is lost.

    Args:
        reopen: Connects.
        limit: How long one loss may take.
    """

    def __init__(self, connection: Connection, reopen: Reopen, limit: timedelta) -> None:
        self._connection = connection
        self._reopen = reopen
        self._limit = limit.total_seconds()
        self._task: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._dropped: asyncio.Future[Closed] | None = None  # pending: there is a wire
        self._passable: set[Node] = set()
        self._gates: dict[Node, asyncio.Future[None]] = {}
        self._before: list[CDPSession] = []
        self._failed: list[NotRestored] = []  # for good
        self._unknown: list[NotRestored] = []  # not answered on the present wire
        self._owed: set[Node] = set()  # were crashed when they should have been told
        self._attempt = 0
        self._steady_at = 0.0

    @property
    def running(self) -> bool:
        """From the loss until all is restored or given up."""
        return self._task is not None

    def gate(self, node: Node) -> asyncio.Future[None] | None:
        """What a call on `node` must wait for; None: nothing."""
        if self._task is None or node in self._passable or node.gone is not None:
            return None
        gate = self._gates.get(node)
        if gate is None:
            gate = self._gates[node] = asyncio.get_running_loop().create_future()
        return gate

    # --- what the connection tells --------------------------------------------------------------------------------

    def lost(self, closed: Closed) -> None:
        """The wire is lost, for the first time or again."""
        self._passable.clear()
        self._owed.clear()
        if self._dropped is not None and not self._dropped.done():
            self._dropped.set_result(closed)
        if self._task is None:
            self._before = self._connection.sessions
            self._task = self._connection.spawn(self._run(closed))

    def settled(self, node: Node) -> None:
        """A node has nothing to be restored, or it has been."""
        if self._task is not None:
            self._passable.add(node)
            self._open(node)

    def returned(self, node: Node, *, waiting: bool) -> None:
        """A node has been attached to again."""
        if self._group is not None:
            self._group.create_task(self._restore(node, waiting=waiting))

    def revived(self, node: Node) -> None:
        """A crashed node can be told what it knew before the wire was lost."""
        if node in self._owed:
            self._owed.discard(node)
            missing: list[NotRestored] = []
            try:  # at once: before the program, which has just learnt that the page is back, can send anything
                asked = self._ask_again(node, missing, missing)
            except ConnectionClosed:
                return
            self._connection.spawn(self._catch_up(node, asked, missing))

    def gone(self, node: Node) -> None:
        """A node has ended: who waits for it shall know."""
        self._owed.discard(node)
        self._open(node)

    def stop(self) -> bool:
        """No more tries. Whether there is no wire at present."""
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

    def _open(self, node: Node) -> None:
        gate = self._gates.pop(node, None)
        if gate is not None and not gate.done():
            gate.set_result(None)

    def _finish(self) -> None:
        self._task = None
        self._passable.clear()
        self._before, self._failed, self._unknown = [], [], []
        for node in list(self._gates):
            self._open(node)

    # --- the task -------------------------------------------------------------------------------------------------

    async def _run(self, closed: Closed) -> None:
        try:
            await self._resume(closed)
        except Exception as error:
            logger.exception("a lost connection could not be resumed")
            self._connection.given_up(_after(closed, f"resuming failed: {error!r}"))

    async def _resume(self, closed: Closed) -> None:
        connection, clock = self._connection, self._connection._clock
        began = clock.time()
        until = began + self._limit
        if began - self._steady_at > _STEADY:
            self._attempt = 0
        tries = 0
        last = "there was no time"
        while True:
            pause = delay(self._attempt, random())  # noqa: S311  # no secret
            if clock.time() + pause >= until:
                connection.given_up(_after(closed, f"no new connection within {self._limit:g} s: {last}"))
                return
            await _sleep(clock, pause)
            self._attempt += 1
            tries += 1
            try:
                async with _before(clock, until):
                    transport = await self._reopen()
            except Exception as error:  # noqa: BLE001  # each is either waited out or told
                if hopeless(error):
                    connection.given_up(_after(closed, f"no way back: {error}"))
                    return
                last = str(error) or type(error).__name__
                continue
            self._unknown = []
            self._dropped = asyncio.get_running_loop().create_future()
            connection.reopened(transport)
            if await self._restore_all(self._dropped):
                break
            closed_again = self._dropped.result()
            if (
                closed_again is _STOPPED
            ):  # a task group that has failures of its own swallows our cancellation
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
        connection.resumed(report)

    async def _restore_all(self, dropped: asyncio.Future[Closed]) -> bool:
        """Restore the whole tree; False when the wire was lost before that was done."""
        root = self._connection._mux.targets.root
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._restore(root))
        except* CommandTimeout:  # the browser itself does not answer: this wire leads nowhere
            self._connection._transport.abort()
            await asyncio.wait([dropped])
        except* ConnectionClosed:
            await asyncio.wait([dropped])
        finally:
            self._group = None
        return not dropped.done()

    async def _restore(self, node: Node, *, waiting: bool = False) -> None:
        """Tell one session again what it knew, and attach again to what was attached through it."""
        self._check_wire()
        probe = self._issue(node, "Browser.getVersion") if node.parent is None else None
        await self._repeat_steps(node)
        if probe is not None:
            try:
                await self._told(probe)
            except CommandError:
                pass  # an answer too: not every server knows the command
        if node.gone is None:
            await self._attach_again(node)
            if waiting:
                self._issue(node, "Runtime.runIfWaitingForDebugger")
        self.settled(node)

    async def _repeat_steps(self, node: Node) -> None:
        await self._settle(
            node, self._ask_again(node, self._failed, self._unknown), self._failed, self._unknown
        )

    async def _catch_up(self, node: Node, asked: _Asked, missing: list[NotRestored]) -> None:
        try:
            await self._settle(node, asked, missing, missing)
        except ConnectionClosed:
            return  # the next wire begins anew
        for one in missing:  # the report has been given
            logger.warning("%s of %s is not in force again: %s", one.method, node.describe(), one.reason)

    def _ask_again(self, node: Node, failed: list[NotRestored], unknown: list[NotRestored]) -> _Asked:
        """Tell a session what it knew; `failed` gets what is lost for good, `unknown` what may come back."""
        asked: _Asked = []
        for step in node.state.steps if node.state is not None else ():
            if step.lost:
                assert node.state is not None
                node.state.failed(step)
                failed.append(
                    NotRestored(node.owner, step.method, "what it had begun ended with the connection")
                )
            elif node.crash is None:
                asked.append((step, self._issue(node, step.method, step.params)))
            else:
                self._owed.add(node)
                unknown.append(NotRestored(node.owner, step.method, _CRASHED))
        return asked

    async def _settle(
        self, node: Node, asked: _Asked, failed: list[NotRestored], unknown: list[NotRestored]
    ) -> None:
        """Wait for the answers to `_ask_again`."""
        state = node.state
        for step, answer in asked:
            assert state is not None
            try:
                state.repeated(step, await self._told(answer))
                if step.lacks:
                    unknown.append(NotRestored(node.owner, step.method, step.lacks))
            except ConnectionClosed:
                raise
            except (CommandTimeout, TargetClosed) as error:
                unknown.append(NotRestored(node.owner, step.method, str(error)))
            except CDPError as error:
                state.failed(step)
                failed.append(NotRestored(node.owner, step.method, str(error)))

    async def _attach_again(self, node: Node) -> None:
        """Chromium announces what it attaches automatically before it answers; who has not come by now is gone."""
        mux = self._connection._mux
        asked: list[tuple[Node, asyncio.Future[Payload]]] = []
        for child in [child for child in mux.targets.away if child.parent is node]:
            if child.attached_by is None:
                mux.lose(child)
                continue
            child.awaited = True
            asked.append((child, self._issue(node, *child.attached_by)))
        for child, answer in asked:
            try:
                session_id = text_in(await self._told(answer), "sessionId")
            except ConnectionClosed:
                raise
            except CDPError as error:
                logger.debug("%s could not be attached to again: %s", child.describe(), error)
                mux.lose(child)
                continue
            if child in mux.targets.away:
                if session_id:  # no event has announced it
                    mux.bring_back(child, session_id)
                else:
                    mux.lose(child)

    def _issue(
        self, node: Node, method: str, params: dict[str, Any] | None = None
    ) -> asyncio.Future[Payload]:
        """Send a command past the gates."""
        connection = self._connection
        answer: asyncio.Future[Payload] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_look_at)
        now = connection._now()
        try:
            command_id, data = connection._mux.repeat(
                node, method, params or None, answer, now, now + _ANSWER
            )
        except TargetClosed as error:
            answer.set_exception(error)
            return answer
        try:
            connection._transport.send(data)
        except BaseException:
            connection._mux.forget(command_id)
            raise
        connection._arm_for(now + _ANSWER)
        return answer

    async def _told(self, answer: asyncio.Future[Payload]) -> Payload:
        """The answer, unless the wire was lost behind it."""
        try:
            return await answer
        finally:
            self._check_wire()

    def _check_wire(self) -> None:
        """End what was begun on a wire that is lost by now: session ids and absences are those of the next one."""
        if self._dropped is not None and self._dropped.done():
            closed = self._dropped.result()
            raise ConnectionClosed(closed.code, closed.reason)


def _look_at(answer: asyncio.Future[Payload]) -> None:
    """The task that asked may have been cancelled; nobody else is to be told."""
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
    """As `asyncio.timeout_at`, by any clock."""
    async with asyncio.timeout(None) as timeout:
        timer = clock.call_at(when, lambda: timeout.reschedule(asyncio.get_running_loop().time()))
        try:
            yield
        finally:
            timer.cancel()
