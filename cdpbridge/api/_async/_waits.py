"""Wait for tasks: ask the server again and again, through failures that pass."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import TypeVar
from uuid import UUID

from cdpbridge.api import _async_io as io
from cdpbridge.api import calls
from cdpbridge.api._retry import passes
from cdpbridge.api._task_models import Task, TaskStatusView, TaskStep
from cdpbridge.api._waiting import Watch, is_over
from cdpbridge.errors import APIError, APIStatusError, TaskTimeout

from ._requests import AsyncRequests

__all__ = ["AsyncWaits"]

logger = logging.getLogger("cdpbridge")

T = TypeVar("T")


class AsyncWaits:
    """Waits for tasks of one client. What a wait that is left does to its task is the caller's business."""

    def __init__(self, requests: AsyncRequests) -> None:
        self._requests = requests
        self._has_status = True  # until the server says that it does not know the operation

    async def end(self, task_id: UUID | str, timeout: float | timedelta | None) -> Task:
        """Return the task when it has ended; see `client.tasks.wait`."""
        watch = Watch.begin(io.monotonic(), timeout)
        while True:
            seen = await self._look(watch, partial(self._brief, task_id))
            if seen is not None and is_over(seen):
                return seen if isinstance(seen, Task) else await self._requests.send(calls.get_task(task_id))
            await self._pause(watch, task_id)

    async def steps(
        self, task_id: UUID | str, after: int, timeout: float | timedelta | None
    ) -> AsyncIterator[TaskStep]:
        """Yield each step of a task as it comes; see `client.tasks.steps`."""
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
                return await self._requests.send_once(calls.get_task_status(task_id), within)
            except APIStatusError as error:
                if error.status not in {404, 405, 501}:
                    raise
            task = await self._whole(task_id, within)  # a 404 from here is about the task
            self._has_status = False
            return task
        return await self._whole(task_id, within)

    async def _whole(self, task_id: UUID | str, within: float | None) -> Task:
        return await self._requests.send_once(calls.get_task(task_id), within)

    async def _look(self, watch: Watch, ask: Callable[[float | None], Awaitable[T]]) -> T | None:
        """Return the server's answer; None after a failure that may pass."""
        try:
            seen = await ask(watch.left(io.monotonic()))
        except APIError as error:
            if not passes(error) or not watch.may_go_on(io.monotonic()):
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


def _number(step: TaskStep) -> int:
    return step.number
