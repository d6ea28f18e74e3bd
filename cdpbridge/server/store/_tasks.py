"""Tasks with their steps and files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.exc import IntegrityError

from cdpbridge.errors import CDPBridgeError
from cdpbridge.server.tasks._task_states import END_TEXTS, WORKING, TaskEnd, TaskState

from ._database import Database, changed
from ._models import HOLDS_SLOT, AgentSession, Browser, Task, TaskFile, TaskStep

__all__ = ["SessionBusy", "SessionOver", "TaskOutcome", "Tasks"]


_UNJUDGED: Final[Mapping[str, Any]] = {
    "model": None,
    "independent": None,
    "verdict": None,
    "reasoning": "",
    "failure_reason": "",
    "error": "the server ended unexpectedly before the judge had a verdict",
    "screenshots": 0,
}


class SessionBusy(CDPBridgeError):
    """The session works on another task."""


class SessionOver(CDPBridgeError):
    """The session has been stopped."""


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """The end of a task.

    Attributes:
        files: Name and path in the file store of each output file.
        log: Path in the file store.
        judgement: What the judge has said, as a JSON object.
    """

    state: TaskState
    reason: TaskEnd
    output: str | None
    is_success: bool | None
    browser_use_version: str | None = None
    log: str | None = None
    files: Sequence[tuple[str, str]] = ()
    judgement: Mapping[str, Any] | None = None


class Tasks(Database):
    """Queries and transactions of tasks."""

    async def create_task(
        self,
        project_id: UUID,
        session_id: UUID,
        task_id: UUID,
        *,
        task: str,
        llm: str,
        labels: Mapping[str, str] | None,
        secret_names: Sequence[str],
        now: datetime,
        idempotency: tuple[str, str] | None = None,
        ignored_fields: Sequence[str] | None = None,
    ) -> Task:
        """Insert a task that works from now on.

        Args:
            ignored_fields: Of the request; see `Unused`.
            secret_names: Placeholders; their values are not stored.
            idempotency: The request's key and the hash of its body.

        Raises:
            SessionBusy: Another one works.
            SessionOver: The session takes no more.
        """
        key, body_hash = idempotency or (None, None)
        row = Task(
            id=task_id,
            project_id=project_id,
            session_id=session_id,
            llm=llm,
            task=task,
            labels=self._labels(labels),
            secret_names=sorted(secret_names) or None,
            state=TaskState.STARTED,
            created_at=now,
            idempotency_key=key,
            body_hash=body_hash,
            ignored_fields=list(ignored_fields) if ignored_fields else None,
            owner=self.server_id,
        )
        try:
            async with self._write() as session:
                state = select(Browser.state).join(AgentSession, AgentSession.browser_id == Browser.id)
                # The session cannot be stopped before the task is there.
                state = state.where(AgentSession.id == session_id).with_for_update(read=True)
                if await session.scalar(state) not in HOLDS_SLOT:
                    raise SessionOver("the session has been stopped")
                working = select(Task.id).where(Task.session_id == session_id, Task.state.in_(WORKING))
                if await session.scalar(working) is not None:
                    raise SessionBusy("the session works on another task")
                session.add(row)
        except IntegrityError as error:  # two at once, on a database with several writers
            raise SessionBusy("the session works on another task") from error
        return row

    async def repeated_task(self, project_id: UUID, key: str) -> Task | None:
        """Return the task of an earlier request with this `Idempotency-Key`."""
        async with self._read() as session:
            where = (Task.project_id == project_id, Task.idempotency_key == key)
            return await session.scalar(select(Task).where(*where))

    async def task(self, project_id: UUID, task_id: UUID) -> Task | None:
        async with self._read() as session:
            return await session.scalar(select(Task).where(Task.id == task_id, Task.project_id == project_id))

    async def task_ended(self, task_id: UUID) -> bool:
        """Return True for a task of any project that its agent is done with."""
        async with self._read() as session:
            task = await session.get(Task, task_id)
            return task is not None and not task.working

    async def task_owner(self, task_id: UUID) -> UUID | None:
        """Return the server whose agent works on a task of any project, or did; None when there is no such task."""
        async with self._read() as session:
            return await session.scalar(select(Task.owner).where(Task.id == task_id))

    async def task_details(self, task_id: UUID) -> tuple[Sequence[TaskStep], Sequence[TaskFile]]:
        """Return its steps in order, and its files by name."""
        async with self._read() as session:
            steps = select(TaskStep).where(TaskStep.task_id == task_id).order_by(TaskStep.number)
            files = select(TaskFile).where(TaskFile.task_id == task_id)
            return (
                (await session.scalars(steps)).all(),
                (await session.scalars(files.order_by(TaskFile.file_name, TaskFile.id))).all(),
            )

    async def step_counts(self, task_ids: Sequence[UUID]) -> dict[UUID, int]:
        """Return how many steps each of these tasks has; those without one are left out."""
        async with self._read() as session:
            counted = select(TaskStep.task_id, func.count()).where(TaskStep.task_id.in_(task_ids))
            rows = await session.execute(counted.group_by(TaskStep.task_id))
            return {row[0]: row[1] for row in rows}

    async def task_file(self, task_id: UUID, file_id: UUID) -> TaskFile | None:
        async with self._read() as session:
            where = (TaskFile.id == file_id, TaskFile.task_id == task_id)
            return await session.scalar(select(TaskFile).where(*where))

    async def files_of_tasks(self, task_ids: Sequence[UUID]) -> Sequence[TaskFile]:
        """Return the files of these tasks, by name."""
        rows = select(TaskFile).where(TaskFile.task_id.in_(task_ids))
        async with self._read() as session:
            return (await session.scalars(rows.order_by(TaskFile.file_name, TaskFile.id))).all()

    async def tasks(
        self,
        project_id: UUID,
        *,
        offset: int,
        limit: int,
        session_id: UUID | None = None,
        states: Sequence[TaskState] | None = None,
        after: datetime | None = None,
        before: datetime | None = None,
        hidden: Collection[UUID] = (),
    ) -> tuple[Sequence[Task], int]:
        """Return one page, newest first, and how many there are.

        Args:
            after: Only those made after that instant.
            before: Only those made before it.
        """
        rows = select(Task).where(Task.project_id == project_id)
        if session_id is not None:
            rows = rows.where(Task.session_id == session_id)
        if states is not None:
            rows = rows.where(Task.state.in_(states))
        if after is not None:
            rows = rows.where(Task.created_at > after)
        if before is not None:
            rows = rows.where(Task.created_at < before)
        if hidden:
            theirs = select(AgentSession.id).join(Browser, Browser.id == AgentSession.browser_id)
            rows = rows.where(Task.session_id.not_in(theirs.where(Browser.key_id.in_(hidden))))
        return await self._page(rows, (Task.created_at.desc(), Task.id), offset, limit)

    async def tasks_of_session(self, session_id: UUID) -> Sequence[Task]:
        """Return all of them, oldest first."""
        async with self._read() as session:
            return (await session.scalars(_of_session(session_id))).all()

    async def move_task(self, task_id: UUID, state: TaskState, reason: TaskEnd | None) -> None:
        """Note where a task is that still works."""
        async with self._write() as session:
            rows = update(Task).where(Task.id == task_id, Task.state.in_(WORKING))
            await session.execute(rows.values(state=state, end_reason=reason))

    async def answer_task(self, task_id: UUID, output: str) -> None:
        """Note the answer of a task whose judge is at work; it counts when the server is lost meanwhile."""
        async with self._write() as session:
            rows = update(Task).where(Task.id == task_id, Task.state.in_(WORKING))
            await session.execute(rows.values(output=output))

    async def add_step(self, step: TaskStep) -> None:
        """Keep a step; the same number again replaces it."""
        async with self._write() as session:
            # Else deleted meanwhile.
            if await session.get(Task, step.task_id, with_for_update={"read": True, "key_share": True}):
                await session.merge(step)

    async def finish_task(self, task_id: UUID, outcome: TaskOutcome, *, now: datetime) -> bool:
        """Note the end; False when that has been done, or the task was deleted."""
        values = {
            "state": outcome.state,
            "end_reason": outcome.reason,
            "output": outcome.output,
            "is_success": outcome.is_success,
            "judgement": None if outcome.judgement is None else dict(outcome.judgement),
            "browser_use_version": outcome.browser_use_version,
            "log": outcome.log,
            "finished_at": now,
        }
        async with self._write() as session:
            rows = update(Task).where(Task.id == task_id, Task.state.in_(WORKING))
            if not await changed(session, rows.values(values)):
                return False
            session.add_all(
                TaskFile(id=uuid4(), task_id=task_id, file_name=name, path=path)
                for name, path in outcome.files
            )
        return True

    async def purge_tasks(self, session_id: UUID) -> None:
        """Remove what the session's tasks have seen and written, and their instructions; their records stay."""
        ids = select(Task.id).where(Task.session_id == session_id)
        async with self._write() as session:
            await session.execute(delete(TaskStep).where(TaskStep.task_id.in_(ids)))
            await session.execute(delete(TaskFile).where(TaskFile.task_id.in_(ids)))
            rows = update(Task).where(Task.session_id == session_id)
            await session.execute(
                rows.values(task="", output=None, labels=None, secret_names=None, log=None, judgement=None)
            )

    async def lose_tasks(self, former: UUID | None = None, *, now: datetime) -> int:
        """End every task that worked when its server was killed; how many.

        Args:
            former: That server. None: with SQLite every one before this; else those of a version that knew one server only.
        """
        whose = Task.owner == former
        if former is None and self.one_writer:
            whose = Task.owner.is_distinct_from(self.server_id)
        async with self._write() as session:
            rows = select(Task).where(whose, Task.state.in_(WORKING)).with_for_update(key_share=True)
            lost = (await session.scalars(rows)).all()
            for task in lost:
                task.finished_at = now
                if task.output is not None:  # its agent was done
                    task.state = TaskState.STOPPED if task.end_reason else TaskState.FINISHED
                    task.end_reason = task.end_reason or TaskEnd.FINISHED
                    task.is_success, task.judgement = None, dict(_UNJUDGED)
                    continue
                task.state, task.is_success = TaskState.STOPPED, False
                task.end_reason = task.end_reason or TaskEnd.SERVER_LOST
                task.output = END_TEXTS[TaskEnd(task.end_reason)]
        return len(lost)


def _of_session(session_id: UUID) -> Select[Any]:
    return select(Task).where(Task.session_id == session_id).order_by(Task.created_at, Task.id)
