"""`Tasks`: what agents work on, from the request to the stored result. The one place where a task's state changes.

The table is in `_task_states`. While an agent works, its `_Work` is the truth and the row follows; a row that still says
"working" when a server starts belongs to one that was killed, and is ended then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy.exc import SQLAlchemyError

from cdpbridge._concurrency import TaskSet, mark_retrieved, to_the_end
from cdpbridge._lifecycle import EndReason
from cdpbridge.api._task_models import CreateTaskRequest
from cdpbridge.errors import CDPBridgeError
from cdpbridge.server.files import FileStore, distinct_names
from cdpbridge.server.rentals import KeyReused, Rentals, StartWithdrawn
from cdpbridge.server.store import AgentSession, Store, Task, TaskOutcome, TaskStep

from ._reach import Reach
from ._task_states import END_TEXTS, TaskEnd, TaskLife, TaskSignal, TaskState
from .agent import AgentResult, AgentRun, Agents, AgentSpec, AgentStep

__all__ = ["Tasks"]

logger = logging.getLogger("cdpbridge.server")

# A request to stop is answered when the agent has ended, or after this; then it ends behind the answer's back.
_STOP_WAIT_SECONDS: Final = 15.0
# Between attempts to write a task's end while the database cannot be used.
_RETRY_SECONDS: Final = 1.0
_SIGNALS: Final = {
    EndReason.STOPPED_BY_CALLER: TaskSignal.STOP_SESSION,
    EndReason.EXPIRED: TaskSignal.EXPIRE,
    EndReason.BROWSER_EXITED: TaskSignal.BROWSER_EXIT,
    EndReason.WORKER_LOST: TaskSignal.BROWSER_EXIT,
    EndReason.DISK_LIMIT: TaskSignal.DISK_LIMIT,
    EndReason.MEMORY_LIMIT: TaskSignal.MEMORY_LIMIT,
    EndReason.PROCESS_LIMIT: TaskSignal.PROCESS_LIMIT,
    EndReason.SERVER_LOST: TaskSignal.SERVER_STOP,
}
# Outputs of earlier tasks that a later one gets: more would fill the model's context.
_EARLIER_TASKS: Final = 20


class _Work:
    """An agent at work."""

    def __init__(self, project_id: UUID, task_id: UUID, session: AgentSession) -> None:
        self.project_id = project_id
        self.task_id = task_id
        self.session = session
        self.life = TaskLife()
        self.run: AgentRun | None = None
        self.answered = False
        self.closing = False
        self.lifted: asyncio.Task[None] | None = None
        self.ended = asyncio.Event()
        self.moves = asyncio.Lock()  # the row follows the life in its order

    def steer(self) -> None:
        """Send the task's state to its agent; an agent that is still starting gets it later, from `_drive`."""
        if self.run is not None:
            match self.life.state:
                case TaskState.PAUSED:
                    self.run.pause()
                case TaskState.STARTED:
                    self.run.resume()
                case _:
                    self.run.stop()


@dataclass(frozen=True, slots=True)
class _Creation:
    """A task that is being created for an `Idempotency-Key`."""

    body_hash: str
    task: asyncio.Task[Task]


class Tasks:
    """Every task of this server.

    Args:
        wall: Where dates come from.
    """

    def __init__(
        self,
        store: Store,
        rentals: Rentals,
        agents: Agents,
        files: FileStore,
        reach: Reach,
        *,
        wall: Callable[[], datetime],
    ) -> None:
        self.agents = agents
        self._store = store
        self._rentals = rentals
        self._files = files
        self._reach = reach
        self._wall = wall
        self._working: dict[UUID, _Work] = {}
        self._background = TaskSet(logger)
        self._creations: dict[tuple[UUID, str], _Creation] = {}
        self._closing = False

    async def close(self) -> None:
        """Stop every agent, and note why."""
        self._closing = True
        for work in list(self._working.values()):
            self._signal(work, TaskSignal.SERVER_STOP)
        await self._all_ended()
        await self.agents.close()
        await self._all_ended()
        await self._background.wait(_STOP_WAIT_SECONDS)

    async def _all_ended(self) -> None:
        ends = [asyncio.create_task(work.ended.wait()) for work in self._working.values()]
        if ends:
            _, late = await asyncio.wait(ends, timeout=_STOP_WAIT_SECONDS)
            for end in late:
                end.cancel()

    # --- create ---------------------------------------------------------------------------------------------------

    async def once(
        self, project_id: UUID, key: str, body_hash: str, make: Callable[[], Coroutine[Any, Any, Task]]
    ) -> Task:
        """Return the task of a request with an `Idempotency-Key`: created by the first, found by the others.

        Raises:
            KeyReused: The key came with another body before.
        """
        creation = self._creations.get((project_id, key))
        if creation is None:
            earlier = await self._store.repeated_task(project_id, key)
            # Another request may have begun it meanwhile.
            creation = self._creations.get((project_id, key))
            if creation is None and earlier is not None:
                if earlier.body_hash != body_hash:
                    raise KeyReused("this Idempotency-Key was used with another body")
                return earlier
        if creation is None:
            creation = self._creations[project_id, key] = _Creation(body_hash, asyncio.create_task(make()))
            creation.task.add_done_callback(lambda _task: self._creations.pop((project_id, key), None))
            creation.task.add_done_callback(mark_retrieved)
        if creation.body_hash != body_hash:
            raise KeyReused("this Idempotency-Key was used with another body")
        return await asyncio.shield(creation.task)

    async def start(
        self,
        project_id: UUID,
        session: AgentSession,
        body: CreateTaskRequest,
        *,
        cdp_url: str,
        own_session: bool = False,
        idempotency: tuple[str, str] | None = None,
        ignored_fields: Sequence[str] | None = None,
    ) -> Task:
        """Put an agent to work in a session.

        Args:
            ignored_fields: Of the request, for its record.
            cdp_url: The session's browser, as an agent on this machine reaches it.
            own_session: The session was made for this task: it does not outlive an agent that cannot be started.

        Raises:
            SessionBusy: It works on another task.
            SessionOver: It has been stopped.
            StartWithdrawn: The server is stopping.
        """
        if self._closing:
            raise StartWithdrawn("the server is stopping")
        work = _Work(project_id, uuid4(), session)
        earlier: tuple[str, ...] = ()
        if session.persist_memory:
            before = await self._store.tasks_of_session(session.id)
            earlier = tuple(task.output for task in before[-_EARLIER_TASKS:] if task.output)
        folder, shared = await asyncio.to_thread(self._files.open_task, work.task_id, session.browser_id)
        uploads = await asyncio.to_thread(self._files.listing, self._files.uploads(session.browser_id))
        self._working[work.task_id] = work
        try:
            task = await to_the_end(
                self._store.create_task(
                    project_id,
                    session.id,
                    work.task_id,
                    task=body.task,
                    llm=body.llm,
                    labels=body.metadata,
                    secret_names=list(body.secrets or ()),
                    now=self._wall(),
                    idempotency=idempotency,
                    ignored_fields=ignored_fields,
                )
            )
        except BaseException:
            del self._working[work.task_id]
            await asyncio.to_thread(self._files.close_task, work.task_id, shared)
            await asyncio.to_thread(self._files.remove, task_id=work.task_id)
            raise
        # It ended before this work was known.
        if not self._rentals.running(session.browser_id):
            self._signal(work, TaskSignal.STOP_SESSION)
        spec = AgentSpec(
            task_id=task.id,
            task=body.task,
            cdp_url=cdp_url,
            model=body.llm,
            folder=folder,
            shared=shared,
            collect=partial(self._files.close_task, task.id, shared),
            uploads=tuple(each.file for each in uploads if each.file is not None),
            start_url=body.start_url,
            max_steps=body.max_steps,
            structured_output=body.structured_output,
            secrets=dict(body.secrets or {}),
            allowed_domains=tuple(body.allowed_domains or ()),
            op_vault_id=body.op_vault_id,
            highlight_elements=body.highlight_elements,
            flash_mode=body.flash_mode,
            thinking=body.thinking,
            vision=body.vision,
            system_prompt_extension=body.system_prompt_extension,
            judge=body.judge,
            earlier=earlier,
            on_answer=lambda result: self._answered(work, spec, result),
        )
        self._background.start(self._drive(work, spec, own_session=own_session), f"task {task.id}")
        return task

    # --- while it runs --------------------------------------------------------------------------------------------

    async def _drive(self, work: _Work, spec: AgentSpec, *, own_session: bool) -> None:
        """Run the agent, and store its result."""

        async def on_step(step: AgentStep) -> None:
            await self._keep_step(work.task_id, spec.folder, step)

        log = spec.folder / "agent.log"
        try:
            if spec.allowed_domains:
                await self._reach.limit(work.session.browser_id, spec.allowed_domains)
            work.run = await self.agents.start(spec, on_step)
            if work.life.state is not TaskState.STARTED:
                work.steer()
            result = await work.run.result()
        except CDPBridgeError as error:
            result = AgentResult(
                "died",
                f"The agent could not be started: {error}",
                success=False,
                files=(),
                log=log,
                version=None,
            )
        except Exception:
            logger.exception("task %s: its agent could not be run", work.task_id)
            result = AgentResult("died", None, success=False, files=(), log=log, version=None)
        await self._lift(work, spec)
        try:
            await self._finish(work, spec.folder, result)
        finally:
            self._working.pop(work.task_id, None)
            work.ended.set()
        if not work.session.keep_alive or (work.run is None and own_session):
            await self._close_session(work)

    def _answered(self, work: _Work, spec: AgentSpec, result: AgentResult) -> None:
        """Stop paying for the browser: the agent is done with it, and a judge needs none."""
        work.answered = True
        self._background.start(self._keep_answer(work.task_id, result), f"task {work.task_id}: its answer")
        work.lifted = asyncio.create_task(self._lift(work, spec))
        if not work.session.keep_alive and work.life.reason is None:
            work.closing = True
            self._background.start(self._close_session(work), f"the stop of session {work.session.id}")

    async def _keep_answer(self, task_id: UUID, result: AgentResult) -> None:
        """So that it is not lost when the server is while a judge is at work."""
        if result.output is None:
            return
        try:
            await self._store.answer_task(task_id, result.output)
        except SQLAlchemyError:
            logger.exception("task %s: its answer could not be stored yet", task_id)

    async def _lift(self, work: _Work, spec: AgentSpec) -> None:
        """Before the task's end is stored, since the session takes the next one then."""
        if work.lifted is not None and work.lifted is not asyncio.current_task():
            await work.lifted
        elif spec.allowed_domains:
            try:
                await self._reach.lift(work.session.browser_id)
            except CDPBridgeError:
                logger.exception("session %s stays kept to the domains of its task", work.session.id)

    async def _close_session(self, work: _Work) -> None:
        try:
            await self._rentals.stop(work.project_id, work.session.browser_id)
        except SQLAlchemyError:
            logger.exception("session %s could not be stopped; its time will end it", work.session.id)

    async def _keep_step(self, task_id: UUID, folder: Path, step: AgentStep) -> None:
        screenshot = None
        if step.screenshot is not None:
            screenshot = await asyncio.to_thread(self._files.path_of, step.screenshot, folder)
        row = TaskStep(
            task_id=task_id,
            number=step.number,
            memory=step.memory,
            evaluation_previous_goal=step.evaluation_previous_goal,
            next_goal=step.next_goal,
            url=step.url,
            actions=list(step.actions),
            screenshot=screenshot,
            duration_seconds=step.duration.total_seconds(),
        )
        try:
            await self._store.add_step(row)
        except SQLAlchemyError:
            logger.exception("task %s: step %d could not be stored; the agent goes on", task_id, step.number)

    async def _finish(self, work: _Work, folder: Path, result: AgentResult) -> None:
        if not work.life.take(TaskSignal.ENDED):
            work.life.take(TaskSignal.FINISH if result.how == "finished" else TaskSignal.DIE)
        reason = work.life.reason
        assert reason is not None  # it has ended
        output = result.output
        if reason is not TaskEnd.FINISHED and (result.how == "stopped" or output is None):
            output = END_TEXTS[reason]
        outcome = TaskOutcome(
            state=work.life.state,
            reason=reason,
            output=output,
            # A task that was stopped while it was judged was not judged; one that was stopped before is not achieved.
            is_success=result.success if reason is TaskEnd.FINISHED or result.judgement else False,
            judgement=None if result.judgement is None else asdict(result.judgement),
            browser_use_version=result.version,
            log=await asyncio.to_thread(self._keep_log, folder, result.log, output or ""),
            files=await asyncio.to_thread(self._output_files, folder, result.files),
        )
        while True:
            try:
                async with work.moves:
                    await self._store.finish_task(work.task_id, outcome, now=self._wall())
            except SQLAlchemyError:
                logger.exception("the end of task %s could not be stored; it will be retried", work.task_id)
                if self._closing:  # the next server finds it working, and ends it
                    return
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    def _keep_log(self, folder: Path, log: Path, output: str) -> str | None:
        """Return the log's path in the store; an agent that never came to write one gets one that says why."""
        try:
            if not log.exists():
                log = folder / "agent.log"
                log.write_text(f"{output}\n")
        except FileNotFoundError:  # the session was deleted
            return None
        except OSError as error:
            logger.warning("the log of a task cannot be written: %s", error)
            return None
        return self._files.path_of(log, folder)

    def _output_files(self, folder: Path, files: tuple[Path, ...]) -> list[tuple[str, str]]:
        found = []
        for file in files:
            path = self._files.path_of(file, folder)
            if path is None:
                logger.warning("an output file of a task is not in its folder, and left out")
            else:
                found.append((file.name, path))
        # What the agent has written and what it has downloaded may have one name.
        names = distinct_names(name for name, _ in found)
        return [(name, path) for name, (_, path) in zip(names, found, strict=True)]

    # --- steering -------------------------------------------------------------------------------------------------

    async def signal(self, task_id: UUID, signal: TaskSignal) -> None:
        """Pause, resume or stop a task; nothing when it has ended, or is there already. A stop is waited for, in bounded time."""
        work = self._working.get(task_id)
        if work is None:
            return
        if self._signal(work, signal):
            await self._note_move(work)
        if work.life.reason is not None:  # it is ending
            await self._ended(work)

    def _signal(self, work: _Work, signal: TaskSignal) -> bool:
        if not work.life.take(signal):
            return False
        work.steer()
        return True

    async def _note_move(self, work: _Work) -> None:
        async with work.moves:
            await self._store.move_task(work.task_id, work.life.state, work.life.reason)

    async def _ended(self, work: _Work) -> None:
        try:
            async with asyncio.timeout(_STOP_WAIT_SECONDS):
                await work.ended.wait()
        except TimeoutError:
            logger.warning("task %s: its agent takes long to stop", work.task_id)

    async def idle(self, session_id: UUID) -> None:
        """Return when the session has no agent at work, or when that takes too long."""
        for work in [work for work in self._working.values() if work.session.id == session_id]:
            await self._ended(work)

    def browser_ended(self, browser_id: UUID, reason: EndReason) -> None:
        """End the task of a browser that begins to end; `on_end` of the rentals of agent sessions."""
        for work in self._working.values():
            # A judge needs no browser; only a request to stop the session ends its task.
            needless = work.answered and (work.closing or reason is not EndReason.STOPPED_BY_CALLER)
            if (
                work.session.browser_id == browser_id
                and not needless
                and self._signal(work, _SIGNALS[reason])
            ):
                self._background.start(self._noted(work), f"task {work.task_id}: its state")

    async def _noted(self, work: _Work) -> None:
        try:
            await self._note_move(work)
        except SQLAlchemyError:
            logger.exception("task %s: its state could not be stored; its end will be", work.task_id)
