"""`client.tasks`."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel

from cdpbridge._durations import waiting_time
from cdpbridge.api import _async_io as io
from cdpbridge.api import _calls
from cdpbridge.api._calls import MAX_PAGE_SIZE, Call
from cdpbridge.api._models import Page
from cdpbridge.api._retry import may_retry
from cdpbridge.api._task_models import (
    Task,
    TaskCreated,
    TaskItem,
    TaskLogFile,
    TaskStatusView,
    TaskStep,
)
from cdpbridge.api._waiting import Watch, is_over
from cdpbridge.errors import APIError, APIStatusError, NotFoundError, TaskTimeout

from ._group import AsyncGroup
from ._pages import AsyncPages
from ._transfers import download

if TYPE_CHECKING:
    from ._client import AsyncClient

__all__ = ["AsyncTasks"]

logger = logging.getLogger("cdpbridge")

T = TypeVar("T")


class AsyncTasks(AsyncGroup):
    """`/tasks`: what agents do in sessions."""

    def __init__(self, client: AsyncClient) -> None:
        super().__init__(client)
        self._has_status = True  # until the server says that it does not know the operation

    async def create(
        self,
        task: str,
        *,
        session_id: UUID | str | None = None,
        llm: str | None = None,
        start_url: str | None = None,
        max_steps: int | None = None,
        structured_output: str | Mapping[str, Any] | type[BaseModel] | None = None,
        metadata: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        allowed_domains: Sequence[str] | None = None,
        op_vault_id: str | None = None,
        highlight_elements: bool | None = None,
        flash_mode: bool | None = None,
        thinking: bool | None = None,
        vision: bool | Literal["auto"] | None = None,
        system_prompt_extension: str | None = None,
        judge: bool | None = None,
        extra_body: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> TaskCreated:
        """Start a task; it costs money from now on. `client.run` also waits for it, and stops what it has started.

        Args:
            task: What is to be done, in words.
            session_id: Where; default: a session of its own. It stays open when the task is done, and costs money until its
                time is over or `client.sessions.stop` ends it; `client.run` ends it by itself.
            llm: Model, e.g. `"browser-use-llm"`. Default: the server's.
            start_url: Where the browser goes first.
            max_steps: Steps after which the agent gives up. Default: the server's.
            structured_output: Schema of the output: a pydantic class, a JSON schema, or its text.
            metadata: Labels, 16 KiB at most.
            secrets: Values that stand for placeholders in the task; the model does not see them.
            allowed_domains: The only hosts that the browser reaches while the task runs, e.g. `["example.com", "*.shop.com"]`.
            op_vault_id: 1Password vault to take logins from.
            highlight_elements: Whether elements are marked in the page.
            flash_mode: Whether the agent skips evaluating its steps.
            thinking: Whether the model thinks before a step.
            vision: Whether the model sees screenshots.
            system_prompt_extension: Text behind the agent's own instructions.
            judge: Whether a judge decides `is_success`; False leaves it to the agent's own word (newer than the reference).
                Default: the server's, and ours asks a judge.
            extra_body: Further fields of the request, by their names on the wire.
            idempotency_key: Two requests with one key start one task, on servers that know the header.
        """
        return await self._client.send(
            _calls.create_task(
                task,
                session_id=session_id,
                llm=llm,
                start_url=start_url,
                max_steps=max_steps,
                structured_output=structured_output,
                metadata=metadata,
                secrets=secrets,
                allowed_domains=allowed_domains,
                op_vault_id=op_vault_id,
                highlight_elements=highlight_elements,
                flash_mode=flash_mode,
                thinking=thinking,
                vision=vision,
                system_prompt_extension=system_prompt_extension,
                judge=judge,
                extra_body=extra_body,
                idempotency_key=idempotency_key,
            )
        )

    def list(
        self,
        *,
        status: str | None = None,
        session_id: UUID | str | None = None,
        after: datetime | None = None,
        before: datetime | None = None,
        page_size: int = MAX_PAGE_SIZE,
    ) -> AsyncPages[TaskItem]:
        """Every task, as `async for`, or page by page.

        Args:
            status: One of `TaskStatus`; None for all.
            session_id: Only those of this session.
            after: Only those started later; with a time zone.
            before: Only those started earlier; with a time zone.
            page_size: 1 to 100.
        """
        return AsyncPages(self._client.send, partial(_page, status, session_id, after, before), page_size)

    async def get(self, task_id: UUID | str) -> Task:
        """One task with its steps and files."""
        return await self._client.send(_calls.get_task(task_id))

    async def status(self, task_id: UUID | str) -> TaskStatusView:
        """How it stands, cheaper than the whole task (newer than the reference)."""
        return await self._client.send(_calls.get_task_status(task_id))

    async def stop(self, task_id: UUID | str) -> Task:
        """Stop a task; its session stays. May be repeated."""
        return await self._client.send(_calls.update_task(task_id, "stop"))

    async def pause(self, task_id: UUID | str) -> Task:
        """Let the agent wait after its present step; the session goes on and costs money."""
        return await self._client.send(_calls.update_task(task_id, "pause"))

    async def resume(self, task_id: UUID | str) -> Task:
        """Let a paused agent go on."""
        return await self._client.send(_calls.update_task(task_id, "resume"))

    async def stop_task_and_session(self, task_id: UUID | str) -> Task:
        """Stop a task and the session it runs in."""
        return await self._client.send(_calls.update_task(task_id, "stop_task_and_session"))

    async def logs(self, task_id: UUID | str) -> TaskLogFile:
        """Where its log can be had; `download_logs` brings it."""
        return await self._client.send(_calls.get_task_logs(task_id))

    async def download_logs(self, task_id: UUID | str, path: Path | str) -> Path:
        """Save its log; see `client.files.download`."""

        async def address() -> tuple[str, str]:
            return (await self.logs(task_id)).download_url, f"{task_id}.log"

        return await download(self._client, address, path)

    async def wait(
        self, task_id: UUID | str, *, timeout: float | timedelta | None = None, stop_on_cancel: bool = False
    ) -> Task:
        """The task, when it has ended: finished, stopped or failed.

        Args:
            task_id: The task.
            timeout: How long to wait. Default: for ever.
            stop_on_cancel: Whether a wait that ends before the task (cancelled, timed out, failed) stops the task. If not, a
                note of the exception says that it goes on.

        Raises:
            TaskTimeout: It has not ended in time.
            APIError: The server cannot be asked, for a minute on end if that may pass.
        """
        limit = None if timeout is None else waiting_time("timeout", timeout)
        try:
            return await self._wait(task_id, limit)
        except BaseException as error:
            await self._abandon(task_id, error, stop=stop_on_cancel)
            raise

    async def _wait(self, task_id: UUID | str, timeout: float | timedelta | None) -> Task:
        watch = Watch.begin(io.monotonic(), timeout)
        while True:
            seen = await self._look(watch, partial(self._brief, task_id))
            if seen is not None and is_over(seen):
                return seen if isinstance(seen, Task) else await self.get(task_id)
            await self._pause(watch, task_id)

    async def steps(
        self,
        task_id: UUID | str,
        *,
        after: int = 0,
        timeout: float | timedelta | None = None,
        stop_on_cancel: bool = False,
    ) -> AsyncIterator[TaskStep]:
        """Each step of a task as it comes, to its end.

        Args:
            task_id: The task.
            after: Number of the last step that is known already.
            timeout: How long the task may take. Default: for ever.
            stop_on_cancel: Whether leaving before the end (cancelled, timed out, `break`) stops the task.

        Raises:
            TaskTimeout: It has not ended in time.
            APIError: The server cannot be asked, for a minute on end if that may pass.
        """
        limit = None if timeout is None else waiting_time("timeout", timeout)
        try:
            async for step in self._steps(task_id, after, limit):
                yield step
        except BaseException as error:
            await self._abandon(task_id, error, stop=stop_on_cancel)
            raise

    async def _steps(
        self, task_id: UUID | str, after: int, timeout: float | timedelta | None
    ) -> AsyncIterator[TaskStep]:
        watch = Watch.begin(io.monotonic(), timeout)
        while True:
            task = await self._look(watch, partial(self._whole, task_id))
            if task is not None:
                for step in sorted(task.steps, key=_number):
                    if step.number > after:
                        after = step.number
                        watch.answered(io.monotonic(), news=True)
                        yield step
                if is_over(task):
                    return
            await self._pause(watch, task_id)

    async def _brief(self, task_id: UUID | str, within: float | None) -> Task | TaskStatusView:
        if self._has_status:
            try:
                return await self._client._ask(_calls.get_task_status(task_id), within)
            except APIStatusError as error:
                if error.status not in {404, 405, 501}:
                    raise
            task = await self._whole(task_id, within)  # a 404 from here is about the task
            self._has_status = False
            return task
        return await self._whole(task_id, within)

    async def _whole(self, task_id: UUID | str, within: float | None) -> Task:
        return await self._client._ask(_calls.get_task(task_id), within)

    async def _look(self, watch: Watch, ask: Callable[[float | None], Awaitable[T]]) -> T | None:
        """What the server says; None when it is away and may come back."""
        try:
            seen = await ask(watch.left(io.monotonic()))
        except APIError as error:
            if not may_retry(_ANY_READ, error) or not watch.may_go_on(io.monotonic()):
                raise
            logger.debug("%s; looking again", error)
            return None
        watch.answered(io.monotonic())
        return seen

    async def _pause(self, watch: Watch, task_id: UUID | str) -> None:
        now = io.monotonic()
        pause = watch.pause(now, chance=random.random())  # noqa: S311  # not for secrets
        if pause is None:
            raise TaskTimeout(task_id=task_id, waited=timedelta(seconds=now - watch.started))
        await io.sleep(pause)

    async def _abandon(self, task_id: UUID | str, error: BaseException, *, stop: bool) -> None:
        """Stop a task that nobody waits for any more, or say that it goes on."""
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


_ANY_READ = _calls.get_account()


def _number(step: TaskStep) -> int:
    return step.number


def _page(  # noqa: PLR0917  # bound by `partial`, in this order
    status: str | None,
    session_id: UUID | str | None,
    after: datetime | None,
    before: datetime | None,
    number: int,
    size: int,
) -> Call[Page[TaskItem]]:
    return _calls.list_tasks(
        status=status,
        session_id=session_id,
        after=after,
        before=before,
        page_number=number,
        page_size=size,
    )
