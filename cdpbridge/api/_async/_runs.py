"""`client.run` and `client.start`: a task from its words to its result; all that it starts is stopped."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast
from uuid import UUID

from pydantic import BaseModel

from cdpbridge.api import _async_io as io
from cdpbridge.api._results import TaskResult, read_output
from cdpbridge.api._run_options import session_of
from cdpbridge.api._task_models import TaskCreated, TaskStep
from cdpbridge.api.calls import RunOptions
from cdpbridge.errors import (
    APIConnectionError,
    APIError,
    APIResponseError,
    BadRequestError,
    NotFoundError,
)

from ._sessions import AsyncSessions
from ._tasks import AsyncTasks
from ._waits import AsyncWaits

__all__ = ["AsyncStartedTask", "AsyncTaskRun"]

logger = logging.getLogger("cdpbridge")

ParsedT = TypeVar("ParsedT")


class AsyncStartedTask:
    """What `client.start` has started, and how it is stopped.

    A server leaves sessions open when their task has ended, and charges them until they are stopped. So the session of a run
    is stopped with its result, or with its block; it is also requested as one that ends with its task, for a program that is
    killed meanwhile. `keep_session` leaves it open.

    Attributes:
        id: Id of the task.
        session_id: Id of the session it runs in.
        live_url: Where it can be watched, as far as known; a password.
        over: True when nothing is left to stop.
    """

    def __init__(self, tasks: AsyncTasks, sessions: AsyncSessions, *, keep_session: bool) -> None:
        self.id = UUID(int=0)
        self.session_id: UUID | None = None
        self.live_url: str | None = None
        self.over = False
        self._tasks = tasks
        self._sessions = sessions
        self._keep_session = keep_session
        self._owns_session = False
        self._started = False

    async def begin(self, task: str, output_model: type[BaseModel] | None, options: RunOptions) -> None:
        """Start it; when that fails, stop what has been started before.

        Raises:
            ConfigurationError: The options contradict each other.
        """
        self.session_id, session, given = session_of(options, output_model)
        try:
            await io.to_the_end(self._start, task, session, given)
            if self.live_url is None and self.session_id is not None:
                self.live_url = (await self._sessions.get(self.session_id)).live_url
        except BaseException as error:
            if isinstance(error, APIConnectionError) and error.maybe_processed and not self._started:
                error.add_note("a task may have been started all the same; look with: cdpbridge tasks list")
            await io.to_the_end(self.undo, error)
            raise

    async def _start(self, task: str, session: dict[str, Any], options: dict[str, Any]) -> None:
        """Send the requests that cost money, in one piece: their answers are known before a cancellation goes on."""
        if self.session_id is None and session:
            made = await self._sessions.create(**session)
            self.session_id, self.live_url, self._owns_session = made.id, made.live_url, True
            created = await self._create(task, options)
            self._owns_session = not self._keep_session  # until then the caller does not know its id
        else:
            created = await self._create(task, options)
            self._owns_session = self.session_id is None
        self.id, self.session_id, self._started = created.id, created.session_id, True

    async def _create(self, task: str, options: dict[str, Any]) -> TaskCreated:
        try:
            return await self._tasks.create(task, session_id=self.session_id, **options)
        except APIResponseError as error:
            if error.answer_id is not None:  # it was made, though its answer cannot be read
                self.id, self._started = UUID(error.answer_id), True
                self._owns_session |= self.session_id is None
            raise

    async def undo(self, error: BaseException | None) -> None:
        """Stop what was started; name what cannot be stopped in a note of `error`, or in the log."""
        self.over = True
        try:
            if self._started and self._owns_session:
                await self._tasks.stop_task_and_session(self.id)
            elif self._started:
                await self._tasks.stop(self.id)
        except (NotFoundError, BadRequestError):  # it has ended by itself
            pass
        except APIError as failed:
            _say(error, f"task {self.id} could not be stopped and may go on and cost money: {failed}")
        else:
            if error is not None and self._started:
                error.add_note(f"task {self.id} was stopped")
        await self.end_session(error)

    async def end_session(self, error: BaseException | None = None) -> None:
        """Stop a session that was made for this task, if the server has not done so."""
        if not self._owns_session or self.session_id is None:
            return
        self._owns_session = False
        try:
            await self._sessions.stop(self.session_id)
        except (NotFoundError, BadRequestError):  # it has ended by itself
            pass
        except APIError as failed:
            _say(
                error,
                f"session {self.session_id} could not be stopped and may go on and cost money: {failed}; "
                f"try `cdpbridge sessions stop {self.session_id}`",
            )


class AsyncTaskRun(Generic[ParsedT]):
    """A task that was started. Leaving its block before the result stops the task, and the session if it was made for it."""

    def __init__(
        self, started: AsyncStartedTask, waits: AsyncWaits, output_model: type[BaseModel] | None
    ) -> None:
        self._started = started
        self._waits = waits
        self._output_model = output_model

    @property
    def id(self) -> UUID:
        """Id of the task."""
        return self._started.id

    @property
    def session_id(self) -> UUID | None:
        """Id of the session it runs in."""
        return self._started.session_id

    @property
    def live_url(self) -> str | None:
        """Where it can be watched, as far as known; a password."""
        return self._started.live_url

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._started.over:
            await io.to_the_end(self._started.undo, error)

    async def steps(
        self, *, after: int = 0, timeout: float | timedelta | None = None
    ) -> AsyncIterator[TaskStep]:
        """Yield each step as it comes; see `client.tasks.steps`."""
        async for step in self._waits.steps(self.id, after, timeout):
            yield step

    async def result(self, *, timeout: float | timedelta | None = None) -> TaskResult[ParsedT]:
        """Return the result when the task has ended; a session that was made for it is stopped.

        Args:
            timeout: How long to wait: seconds, or a `timedelta`. Default: without limit.

        Raises:
            TaskTimeout: It has not ended in time; leaving the block stops it.
            TaskOutputError: There is no output of the requested class.
        """
        task = await self._waits.end(self.id, timeout)
        self._started.over = True
        await io.to_the_end(self._started.end_session)
        parsed = None if self._output_model is None else read_output(self._output_model, task)
        return TaskResult(task, self.live_url, cast("ParsedT", parsed))

    async def stop(self) -> None:
        """Stop the task, and the session if it was made for it."""
        await self._started.undo(None)


def _say(error: BaseException | None, text: str) -> None:
    if error is None:
        logger.error("%s", text)
    else:
        error.add_note(text)
