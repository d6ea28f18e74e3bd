"""`client.run` and `client.start`: a task from its words to its result, with everything it started ended."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack, cast, overload
from uuid import UUID

from pydantic import BaseModel

from cdpbridge._durations import waiting_time
from cdpbridge.api import _async_io as io
from cdpbridge.api._calls import ServerChoice, server_default
from cdpbridge.api._results import TaskOptions, TaskResult, read_output
from cdpbridge.api._task_models import TaskCreated, TaskStep
from cdpbridge.errors import (
    APIConnectionError,
    APIError,
    APIResponseError,
    BadRequestError,
    ConfigurationError,
    NotFoundError,
)

if TYPE_CHECKING:
    from ._client import AsyncClient
    from ._sessions import AsyncSessions
    from ._tasks import AsyncTasks

__all__ = ["AsyncRuns", "AsyncTaskRun"]

logger = logging.getLogger("cdpbridge")

ModelT = TypeVar("ModelT", bound=BaseModel)
ParsedT = TypeVar("ParsedT")


class AsyncTaskRun(Generic[ParsedT]):
    """A task that was started. Leaving its block before the result stops the task, and the session if it was made for it.

    A server leaves sessions open when their task is done, and charges them until they are stopped. So the session of a run is
    stopped with its result, or with its block; it is also asked for as one that ends with its task, for a program that is
    killed meanwhile. `keep_session` leaves it open.

    Attributes:
        id: Of the task.
        session_id: Of the session it runs in.
        live_url: Where it can be watched, as far as known; a password.
    """

    def __init__(
        self, client: AsyncClient, output_model: type[BaseModel] | None, *, keep_session: bool
    ) -> None:
        self.id = UUID(int=0)
        self.session_id: UUID | None = None
        self.live_url: str | None = None
        self._client = client
        self._output_model = output_model
        self._keep_session = keep_session
        self._owns_session = False
        self._started = False
        self._over = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._over:
            await io.to_the_end(self._undo, error)

    async def steps(
        self, *, after: int = 0, timeout: float | timedelta | None = None
    ) -> AsyncIterator[TaskStep]:
        """Each step as it comes; see `client.tasks.steps`."""
        async for step in self._client.tasks._steps(self.id, after, timeout):
            yield step

    async def result(self, *, timeout: float | timedelta | None = None) -> TaskResult[ParsedT]:
        """What came of it, when it has ended; a session that was made for it is stopped.

        Args:
            timeout: How long to wait. Default: for ever.

        Raises:
            TaskTimeout: It has not ended in time; leaving the block stops it.
            TaskOutputError: There is no output of the class that was asked for.
        """
        task = await self._client.tasks._wait(self.id, timeout)
        self._over = True
        await io.to_the_end(self._end_session)
        parsed = None if self._output_model is None else read_output(self._output_model, task)
        return TaskResult(task, self.live_url, cast("ParsedT", parsed))

    async def stop(self) -> None:
        """Stop the task, and the session if it was made for it."""
        await self._undo(None)

    async def _start(self, task: str, session: dict[str, Any], options: dict[str, Any]) -> None:
        """The requests that cost money, in one piece: what they bring is known before a cancellation goes on."""
        if self.session_id is None and session:
            made = await self._client.sessions.create(**session)
            self.session_id, self.live_url, self._owns_session = made.id, made.live_url, True
            created = await self._create(task, options)
            self._owns_session = not self._keep_session  # until then nobody else knows of it
        else:
            created = await self._create(task, options)
            self._owns_session = self.session_id is None
        self.id, self.session_id, self._started = created.id, created.session_id, True

    async def _create(self, task: str, options: dict[str, Any]) -> TaskCreated:
        try:
            return await self._client.tasks.create(task, session_id=self.session_id, **options)
        except APIResponseError as error:
            if error.answer_id is not None:  # it was made, though its answer cannot be read
                self.id, self._started = UUID(error.answer_id), True
                self._owns_session |= self.session_id is None
            raise

    async def _undo(self, error: BaseException | None) -> None:
        """Stop what was started; what cannot be stopped is named."""
        self._over = True
        try:
            if self._started and self._owns_session:
                await self._client.tasks.stop_task_and_session(self.id)
            elif self._started:
                await self._client.tasks.stop(self.id)
        except (NotFoundError, BadRequestError):  # it has ended by itself
            pass
        except APIError as failed:
            _say(error, f"task {self.id} could not be stopped and may go on and cost money: {failed}")
        else:
            if error is not None and self._started:
                error.add_note(f"task {self.id} was stopped")
        await self._end_session(error)

    async def _end_session(self, error: BaseException | None = None) -> None:
        """Stop a session that was made for this task, where the server has not done so."""
        if not self._owns_session or self.session_id is None:
            return
        self._owns_session = False
        try:
            await self._client.sessions.stop(self.session_id)
        except (NotFoundError, BadRequestError):  # it has ended by itself
            pass
        except APIError as failed:
            _say(
                error,
                f"session {self.session_id} could not be stopped and may go on and cost money: {failed}; "
                f"try `cdpbridge sessions stop {self.session_id}`",
            )


class AsyncRuns:
    """What a client can do with a task in one call."""

    tasks: AsyncTasks
    sessions: AsyncSessions

    @overload
    async def start(
        self,
        task: str,
        *,
        session_id: UUID | str | None = ...,
        profile_id: UUID | str | None = ...,
        proxy_country: str | ServerChoice | None = ...,
        keep_session: bool = ...,
        **options: Unpack[TaskOptions],
    ) -> AsyncTaskRun[None]: ...

    @overload
    async def start(
        self,
        task: str,
        *,
        output_model: type[ModelT],
        session_id: UUID | str | None = ...,
        profile_id: UUID | str | None = ...,
        proxy_country: str | ServerChoice | None = ...,
        keep_session: bool = ...,
        **options: Unpack[TaskOptions],
    ) -> AsyncTaskRun[ModelT]: ...

    async def start(
        self,
        task: str,
        *,
        output_model: type[BaseModel] | None = None,
        session_id: UUID | str | None = None,
        profile_id: UUID | str | None = None,
        proxy_country: str | ServerChoice | None = server_default,
        keep_session: bool = False,
        **options: Unpack[TaskOptions],
    ) -> AsyncTaskRun[Any]:
        """Start a task, to watch it while it runs: `async with await client.start("...") as run`.

        Args:
            task: What is to be done, in words.
            output_model: Class of the output, a pydantic model; the result's `parsed` is an instance of it.
            session_id: Where it runs; such a session stays. Default: one of its own, stopped with the task.
            profile_id: State that its own session starts from.
            proxy_country: Of its own session; two letters, None for no proxy.
            keep_session: Whether its own session stays, e.g. for further tasks; it costs money until it is stopped.
            options: See `client.tasks.create`.

        Raises:
            ConfigurationError: The arguments contradict each other.
        """
        if output_model is not None and options.get("structured_output") is not None:
            raise ConfigurationError("output_model is the structured output: give one of them")
        session: dict[str, Any] = {}
        if profile_id is not None:
            session["profile_id"] = profile_id
        if not isinstance(proxy_country, ServerChoice):
            session["proxy_country"] = proxy_country
        if session_id is not None and (session or keep_session):
            raise ConfigurationError(
                "a session that is there already has its profile and proxy, and stays: with session_id, leave out "
                + ", ".join([*session, *(["keep_session"] if keep_session else [])])
            )
        given: dict[str, Any] = dict(options)
        if keep_session or session:  # made before its task
            session["keep_alive"] = keep_session
        elif session_id is None:
            more = dict(given.get("extra_body") or {})
            settings = {"keepAlive": False} | dict(more.get("sessionSettings") or {})
            given["extra_body"] = more | {"sessionSettings": settings}
        if output_model is not None:
            given["structured_output"] = output_model
        client = cast("AsyncClient", self)
        run: AsyncTaskRun[Any] = AsyncTaskRun(client, output_model, keep_session=keep_session)
        if session_id is not None:
            run.session_id = session_id if isinstance(session_id, UUID) else UUID(session_id)
        try:
            await io.to_the_end(run._start, task, session, given)
            if run.live_url is None and run.session_id is not None:
                run.live_url = (await self.sessions.get(run.session_id)).live_url
        except BaseException as error:
            if isinstance(error, APIConnectionError) and error.maybe_processed and not run._started:
                error.add_note("a task may have been started all the same; look with: cdpbridge tasks list")
            await io.to_the_end(run._undo, error)
            raise
        return run

    @overload
    async def run(
        self,
        task: str,
        *,
        timeout: float | timedelta | None = ...,
        on_step: Callable[[TaskStep], Any] | None = ...,
        session_id: UUID | str | None = ...,
        profile_id: UUID | str | None = ...,
        proxy_country: str | ServerChoice | None = ...,
        keep_session: bool = ...,
        **options: Unpack[TaskOptions],
    ) -> TaskResult[None]: ...

    @overload
    async def run(
        self,
        task: str,
        *,
        output_model: type[ModelT],
        timeout: float | timedelta | None = ...,
        on_step: Callable[[TaskStep], Any] | None = ...,
        session_id: UUID | str | None = ...,
        profile_id: UUID | str | None = ...,
        proxy_country: str | ServerChoice | None = ...,
        keep_session: bool = ...,
        **options: Unpack[TaskOptions],
    ) -> TaskResult[ModelT]: ...

    async def run(
        self,
        task: str,
        *,
        output_model: type[BaseModel] | None = None,
        timeout: float | timedelta | None = None,
        on_step: Callable[[TaskStep], Any] | None = None,
        session_id: UUID | str | None = None,
        profile_id: UUID | str | None = None,
        proxy_country: str | ServerChoice | None = server_default,
        keep_session: bool = False,
        **options: Unpack[TaskOptions],
    ) -> TaskResult[Any]:
        """Let an agent do a task, and wait for it: `(await client.run("Find ...")).output`.

        A call that ends before the task (cancelled, timed out, failed) stops the task and what was started for it, or says
        in a note of its exception what could not be stopped.

        Args:
            task: What is to be done, in words.
            output_model: Class of the output, a pydantic model; the result's `parsed` is an instance of it.
            timeout: How long the task may take. Default: as long as the server lets it.
            on_step: Called with each step as it comes.
            session_id: Where it runs; such a session stays. Default: one of its own, stopped with the task.
            profile_id: State that its own session starts from.
            proxy_country: Of its own session; two letters, None for no proxy.
            keep_session: Whether its own session stays, e.g. for further tasks; it costs money until it is stopped.
            options: See `client.tasks.create`.

        Raises:
            TaskTimeout: It has not ended in time, and was stopped.
            TaskOutputError: There is no output of the class that was asked for.
            APIError: It could not be started, or the server went away.
        """
        limit = None if timeout is None else waiting_time("timeout", timeout)
        # Both overloads of `start` are one function; which class the result has is known here only.
        run: AsyncTaskRun[Any] = await self.start(
            task,
            output_model=cast("type[BaseModel]", output_model),
            session_id=session_id,
            profile_id=profile_id,
            proxy_country=proxy_country,
            keep_session=keep_session,
            **options,
        )
        async with run:
            began = io.monotonic()
            if on_step is not None:
                async for step in run.steps(timeout=limit):
                    on_step(step)
            if limit is not None:
                limit = max(limit - timedelta(seconds=io.monotonic() - began), _A_LOOK)
            return await run.result(timeout=limit)


_A_LOOK = timedelta(seconds=1)  # a task that has shown its last step is over, and only has to be read


def _say(error: BaseException | None, text: str) -> None:
    if error is None:
        logger.error("%s", text)
    else:
        error.add_note(text)
