"""`client.tasks`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Unpack
from uuid import UUID

from cdpbridge._durations import waiting_time
from cdpbridge.api import _async_io as io
from cdpbridge.api import calls
from cdpbridge.api._models import Page
from cdpbridge.api._task_models import (
    Task,
    TaskCreated,
    TaskItem,
    TaskLogFile,
    TaskStatusView,
    TaskStep,
)
from cdpbridge.api.calls import MAX_PAGE_SIZE, Call, TaskOptions
from cdpbridge.errors import APIError, NotFoundError

from ._group import AsyncGroup
from ._pages import AsyncPages
from ._requests import AsyncRequests
from ._transfers import download
from ._waits import AsyncWaits

__all__ = ["AsyncTasks"]


class AsyncTasks(AsyncGroup):
    """`/tasks`: what agents do in sessions."""

    def __init__(self, requests: AsyncRequests, waits: AsyncWaits) -> None:
        super().__init__(requests)
        self._waits = waits

    async def create(
        self, task: str, *, session_id: UUID | str | None = None, **options: Unpack[TaskOptions]
    ) -> TaskCreated:
        """Start a task; it costs money from now on. `client.run` also waits for it, and stops what it has started.

        Args:
            task: What to do, in words.
            session_id: Where; default: a session of its own. It stays open when the task has ended, and costs money until its
                timeout or until `client.sessions.stop`; `client.run` stops it by itself.
            options: See `TaskOptions`.
        """
        return await self._requests.send(calls.create_task(task, session_id=session_id, **options))

    def list(
        self,
        *,
        status: str | None = None,
        session_id: UUID | str | None = None,
        after: datetime | None = None,
        before: datetime | None = None,
        page_size: int = MAX_PAGE_SIZE,
    ) -> AsyncPages[TaskItem]:
        """List tasks, by `async for` or page by page.

        Args:
            status: One of `TaskStatus`; None for all.
            session_id: Only those of this session.
            after: Only those started later; with a time zone.
            before: Only those started earlier; with a time zone.
            page_size: 1 to 100.
        """
        return AsyncPages(self._requests.send, partial(_page, status, session_id, after, before), page_size)

    async def get(self, task_id: UUID | str) -> Task:
        """Get a task with its steps and files."""
        return await self._requests.send(calls.get_task(task_id))

    async def status(self, task_id: UUID | str) -> TaskStatusView:
        """Get its status, cheaper than the whole task (newer than the reference)."""
        return await self._requests.send(calls.get_task_status(task_id))

    async def stop(self, task_id: UUID | str) -> Task:
        """Stop a task; its session stays. May be repeated."""
        return await self._requests.send(calls.update_task(task_id, "stop"))

    async def pause(self, task_id: UUID | str) -> Task:
        """Pause the agent after its present step; the session goes on and costs money."""
        return await self._requests.send(calls.update_task(task_id, "pause"))

    async def resume(self, task_id: UUID | str) -> Task:
        """Resume a paused agent."""
        return await self._requests.send(calls.update_task(task_id, "resume"))

    async def stop_task_and_session(self, task_id: UUID | str) -> Task:
        """Stop a task and the session it runs in."""
        return await self._requests.send(calls.update_task(task_id, "stop_task_and_session"))

    async def logs(self, task_id: UUID | str) -> TaskLogFile:
        """Get the address of its log; `download_logs` saves it."""
        return await self._requests.send(calls.get_task_logs(task_id))

    async def download_logs(self, task_id: UUID | str, path: Path | str) -> Path:
        """Save its log; see `client.files.download`."""

        async def address() -> tuple[str, str]:
            return (await self.logs(task_id)).download_url, f"{task_id}.log"

        return await download(self._requests, address, path)

    async def wait(
        self, task_id: UUID | str, *, timeout: float | timedelta | None = None, stop_on_cancel: bool = False
    ) -> Task:
        """Wait until a task has ended (finished, stopped or failed), and return it.

        Args:
            task_id: The task.
            timeout: How long to wait: seconds, or a `timedelta`. Default: without limit.
            stop_on_cancel: True if a wait that ends before the task (cancelled, timed out, failed) stops the task. If not, a
                note of the exception says that it goes on.

        Raises:
            TaskTimeout: It has not ended in time.
            APIError: The server refuses, or has not answered for a minute.
        """
        limit = None if timeout is None else waiting_time("timeout", timeout)
        try:
            return await self._waits.end(task_id, limit)
        except BaseException as error:
            await self._abandon(task_id, error, stop=stop_on_cancel)
            raise

    async def steps(
        self,
        task_id: UUID | str,
        *,
        after: int = 0,
        timeout: float | timedelta | None = None,
        stop_on_cancel: bool = False,
    ) -> AsyncIterator[TaskStep]:
        """Yield each step of a task as it comes, to its end.

        Args:
            task_id: The task.
            after: Number of the last step that is known already.
            timeout: How long the task may take: seconds, or a `timedelta`. Default: without limit.
            stop_on_cancel: True if leaving before the end (cancelled, timed out, `break`) stops the task.

        Raises:
            TaskTimeout: It has not ended in time.
            APIError: The server refuses, or has not answered for a minute.
        """
        limit = None if timeout is None else waiting_time("timeout", timeout)
        try:
            async for step in self._waits.steps(task_id, after, limit):
                yield step
        except BaseException as error:
            await self._abandon(task_id, error, stop=stop_on_cancel)
            raise

    async def _abandon(self, task_id: UUID | str, error: BaseException, *, stop: bool) -> None:
        """Stop a task whose wait was left, or say in a note that it goes on."""
        if isinstance(error, NotFoundError):
            return
        if not stop:
            error.add_note(
                f"task {task_id} may go on and cost money; to stop it: client.tasks.stop(...), or "
                f"`cdpbridge tasks stop {task_id}`"
            )
            return
        try:
            await io.to_the_end(self.stop, task_id)
        except APIError as failed:
            error.add_note(f"task {task_id} could not be stopped and may go on and cost money: {failed}")
        else:
            error.add_note(f"task {task_id} was stopped")


def _page(  # noqa: PLR0917  # bound by `partial`, in this order
    status: str | None,
    session_id: UUID | str | None,
    after: datetime | None,
    before: datetime | None,
    number: int,
    size: int,
) -> Call[Page[TaskItem]]:
    return calls.list_tasks(
        status=status,
        session_id=session_id,
        after=after,
        before=before,
        page_number=number,
        page_size=size,
    )
