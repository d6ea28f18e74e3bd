"""`AsyncClient`: the groups of operations, and the connections they share."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, Unpack, cast, overload

from cdpbridge._durations import waiting_seconds, waiting_time
from cdpbridge.api import _async_io as io
from cdpbridge.api._httpx import httpx
from cdpbridge.api._place import LOCAL, Address, Place, checked_base_url, find_place
from cdpbridge.errors import ConfigurationError, redact_url

# The groups and their models are imported on use: an embedded server starts, or starts a browser, meanwhile.
if TYPE_CHECKING:
    from pydantic import BaseModel

    from cdpbridge._embedded import EmbeddedServer
    from cdpbridge.api._http import RawResponse
    from cdpbridge.api._results import TaskResult
    from cdpbridge.api._task_models import TaskStep
    from cdpbridge.api.calls import Call, RunOptions

    from ._billing import AsyncBilling
    from ._browsers import AsyncBrowsers
    from ._files import AsyncFiles
    from ._profiles import AsyncProfiles
    from ._requests import AsyncRequests
    from ._runs import AsyncTaskRun
    from ._sessions import AsyncSessions
    from ._tasks import AsyncTasks
    from ._waits import AsyncWaits

__all__ = ["AsyncClient"]

T = TypeVar("T")
ModelT = TypeVar("ModelT", bound="BaseModel")

_TIMEOUT: Final = timedelta(seconds=30)
# asynchronous only: for rentals
_OUR_SERVERS_FIELD: Final = "end_reason"  # of a `BrowserSession`; the cloud sends none
# end
# A task that has shown its last step is over, and only has to be read.
_LAST_LOOK: Final = timedelta(seconds=1)


class AsyncClient:
    """The REST API, as groups of operations: `browsers`, `profiles`, `tasks`, `sessions`, `files`, `billing`; and `run`.

    `async with` opens and closes it, and may be nested; without a block, the first request opens it and `aclose` closes it. It
    can be opened again. It belongs to the event loop that opened it.

    Where it sends requests, and with which key: what is not given comes from `CDPBRIDGE_PROVIDER` or `CDPBRIDGE_BASE_URL`, and
    `BROWSER_USE_API_KEY`, else it is the Browser Use Cloud. A key goes to the server that it was given for and nowhere else;
    settings that contradict each other are refused. With `CDPBRIDGE_PROVIDER=local` the embedded server starts when the client
    is opened, and ends when it is closed, as with `local()`.

    Args:
        api_key: Of the server; default: the environment's.
        base_url: E.g. `https://browsers.example.com/api/v2`; default: the environment's.
        timeout: For one try of a request, seconds or a `timedelta`; starting and stopping a browser may take 120 s.
        max_retries: How often a request is tried again; a create only if it certainly had no effect.
        http_client: Your own, for proxies, certificates, tests; it stays open. Stops at the end of the interpreter cannot
            use it: they have no event loop.
        idempotent_creates: True if the server honours `Idempotency-Key`, as cdpbridge's own does: then a create that has a
            key is tried again after a lost answer, too.

    Raises:
        ConfigurationError: No key, one of them is malformed, or they contradict the environment.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        timeout: float | timedelta = _TIMEOUT,
        max_retries: int = 2,
        http_client: httpx.AsyncClient | None = None,
        idempotent_creates: bool = False,
    ) -> None:
        if max_retries < 0:
            raise ConfigurationError(f"max_retries must be zero or more, not {max_retries}")
        seconds = waiting_seconds("timeout", timeout)
        self._options: dict[str, Any] = {
            "timeout": seconds,
            "max_retries": max_retries,
            "http_client": http_client,
            "idempotent_creates": idempotent_creates,
        }
        self._given_http = http_client
        self._http: io.AnyHTTP | None = None
        self._users = 0
        self._counting = threading.Lock()  # the client of threads counts here, too; it is held briefly
        self._turns = io.Turns()
        self._resources = AsyncExitStack()
        place = self._place(api_key, base_url)
        self._base_url, self._api_key = place.base_url or "", place.api_key
        self._is_local = place.is_local
        self._server: EmbeddedServer | None = None
        self._idempotent_creates = idempotent_creates or place.is_local

    def _place(self, api_key: str | None, base_url: str | None) -> Place:
        """Return where it sends requests; a subclass may override it."""
        where = None if base_url is None else checked_base_url(base_url)
        return find_place(os.environ, where, api_key)

    def _settings(self) -> Mapping[str, Any]:
        """Return settings of the embedded server."""
        return {}

    @property
    def is_local(self) -> bool:
        """True if its server is an embedded one, which starts and ends with the client."""
        return self._is_local

    @property
    def server_pid(self) -> int | None:
        """Process id of the embedded server while it runs; None for any other server."""
        return None if self._server is None or self._server.ended else self._server.pid

    @property
    def place(self) -> str:
        """`"local"` for the embedded server, else the base URL of the REST API."""
        return LOCAL if self._is_local else self._base_url

    def address(self) -> Address:
        """Return `base_url` and `api_key` of the server, for another client of it; a password.

        Of an embedded server, those of the last one that ran; both are empty before the first.
        """
        return {"base_url": self._base_url, "api_key": self._api_key}

    def options(self) -> dict[str, Any]:
        """Return the options that it was made with, as keyword arguments: `timeout` in seconds, `max_retries`, ..."""
        return dict(self._options)

    @property
    def base_url(self) -> str:
        """Address of the REST API; of an embedded server, the last one's, and empty before the first."""
        return self._base_url

    def __repr__(self) -> str:
        if self._is_local:
            state = "closed" if self._server is None else self._server.base_url
            return f"<{type(self).__name__} local {state}>"
        return f"<{type(self).__name__} {redact_url(self._base_url)}>"

    # --- groups of operations -------------------------------------------------------------------------------------

    @cached_property
    def billing(self) -> AsyncBilling:
        """`/billing`: the account."""
        from ._billing import AsyncBilling  # noqa: PLC0415  # on use

        return AsyncBilling(self._requests)

    @cached_property
    def browsers(self) -> AsyncBrowsers:
        """`/browsers`: rented browsers."""
        from ._browsers import AsyncBrowsers  # noqa: PLC0415  # on use

        return AsyncBrowsers(self._requests)

    @cached_property
    def files(self) -> AsyncFiles:
        """`/files`: what tasks read and write."""
        from ._files import AsyncFiles  # noqa: PLC0415  # on use

        return AsyncFiles(self._requests)

    @cached_property
    def profiles(self) -> AsyncProfiles:
        """`/profiles`: saved states of browsers."""
        from ._profiles import AsyncProfiles  # noqa: PLC0415  # on use

        return AsyncProfiles(self._requests)

    @cached_property
    def sessions(self) -> AsyncSessions:
        """`/sessions`: what runs tasks."""
        from ._sessions import AsyncSessions  # noqa: PLC0415  # on use

        return AsyncSessions(self._requests)

    @cached_property
    def tasks(self) -> AsyncTasks:
        """`/tasks`: what agents do."""
        from ._tasks import AsyncTasks  # noqa: PLC0415  # on use

        return AsyncTasks(self._requests, self._waits)

    @cached_property
    def _waits(self) -> AsyncWaits:
        from ._waits import AsyncWaits  # noqa: PLC0415  # on use

        return AsyncWaits(self._requests)

    @cached_property
    def _requests(self) -> AsyncRequests:
        from ._requests import AsyncRequests  # noqa: PLC0415  # on use

        return AsyncRequests(
            self._connections,
            self._address,
            timeout_seconds=self._options["timeout"],
            max_retries=self._options["max_retries"],
            idempotent_creates=self._idempotent_creates,
        )

    # --- open and close -------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """True if it holds connections."""
        return self._http is not None

    async def __aenter__(self) -> Self:
        await self._open()
        with self._counting:
            self._users += 1
        return self

    @asynccontextmanager
    async def share(self) -> AsyncIterator[Self]:
        """Open it for a block. The last block closes it; one that was opened without a block stays open."""
        if self.is_open and not self._users:
            yield self
            return
        async with self:
            yield self

    # asynchronous only: for rentals
    async def honours_idempotency_keys(self) -> bool:
        """Return True if the server creates only one browser for one `Idempotency-Key`.

        cdpbridge's own servers do; a field of their answers tells them apart.

        Raises:
            APIError: The server cannot be asked.
        """
        if self._idempotent_creates:
            return True
        async for each in self.browsers.list(page_size=1):
            return _OUR_SERVERS_FIELD in each.model_fields_set
        return False

    # end

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._counting:
            self._users -= 1
        async with self._turns.lock():
            if not self._users:  # it was not entered again while this block waited for the lock
                await self._close()

    async def _open(self) -> io.AnyHTTP:
        async with self._turns.lock():
            if self._http is None:
                async with AsyncExitStack() as stack:
                    await self._prepare(stack)
                    http: io.AnyHTTP
                    if self._given_http is not None:
                        http = self._given_http
                    else:
                        own = io.own_http(self._base_url, is_embedded=self._is_local)
                        http = await stack.enter_async_context(own)
                    self._resources = stack.pop_all()
                    self._http = http
            return self._http

    async def _prepare(self, stack: AsyncExitStack) -> None:
        """Start the embedded server, if that is where requests go."""
        if not self._is_local:
            return
        server = await io.start_server(self._settings())
        stack.push_async_callback(self._end, server)
        self._server = server
        self._base_url, self._api_key = server.base_url, server.api_key

    async def _end(self, server: EmbeddedServer) -> None:
        self._server = None
        await io.stop_server(server)

    async def aclose(self) -> None:
        """Close its connections; the next request opens them again."""
        async with self._turns.lock():
            await self._close()

    async def _close(self) -> None:
        self._http = None
        resources, self._resources = self._resources, AsyncExitStack()
        await resources.aclose()

    # --- requests -------------------------------------------------------------------------------------------------

    async def send(self, call: Call[T]) -> T:
        """Return the answer to one call, tried again as far as that is safe.

        Args:
            call: One of `cdpbridge.api.calls`, or your own for an operation that has none.

        Raises:
            APIError: See its tree; statuses have a class each.
        """
        return await self._requests.send(call)

    async def send_raw(self, call: Call[T]) -> RawResponse[T]:
        """Return the answer to one call with its status, headers and body: `send_raw(calls.get_browser(browser_id))`.

        Errors as of `send`.
        """
        return await self._requests.send_raw(call)

    async def _connections(self) -> io.AnyHTTP:
        """Return what requests go through, opened if need be."""
        return self._http or await self._open()

    def _address(self) -> tuple[str, str]:
        return self._base_url, self._api_key

    # --- tasks in one call ----------------------------------------------------------------------------------------

    @overload
    async def start(self, task: str, **options: Unpack[RunOptions]) -> AsyncTaskRun[None]: ...

    @overload
    async def start(
        self, task: str, *, output_model: type[ModelT], **options: Unpack[RunOptions]
    ) -> AsyncTaskRun[ModelT]: ...

    async def start(
        self, task: str, *, output_model: type[BaseModel] | None = None, **options: Unpack[RunOptions]
    ) -> AsyncTaskRun[Any]:
        """Start a task, to watch it while it runs: `async with await client.start("...") as run`.

        Args:
            task: What to do, in words.
            output_model: Class of the output, a pydantic model; the result's `parsed` is an instance of it.
            options: See `RunOptions` and `TaskOptions`: the session to run in, and settings of the task.

        Raises:
            ConfigurationError: The arguments contradict each other.
            APIError: It could not be started. What was started before is stopped.
        """
        from ._runs import AsyncStartedTask, AsyncTaskRun  # noqa: PLC0415  # most programs have no tasks

        started = AsyncStartedTask(self.tasks, self.sessions, keep_session=options.get("keep_session", False))
        await started.begin(task, output_model, options)
        return AsyncTaskRun(started, self._waits, output_model)

    @overload
    async def run(
        self,
        task: str,
        *,
        timeout: float | timedelta | None = ...,
        on_step: Callable[[TaskStep], Any] | None = ...,
        **options: Unpack[RunOptions],
    ) -> TaskResult[None]: ...

    @overload
    async def run(
        self,
        task: str,
        *,
        output_model: type[ModelT],
        timeout: float | timedelta | None = ...,
        on_step: Callable[[TaskStep], Any] | None = ...,
        **options: Unpack[RunOptions],
    ) -> TaskResult[ModelT]: ...

    async def run(
        self,
        task: str,
        *,
        output_model: type[BaseModel] | None = None,
        timeout: float | timedelta | None = None,
        on_step: Callable[[TaskStep], Any] | None = None,
        **options: Unpack[RunOptions],
    ) -> TaskResult[Any]:
        """Run a task with an agent, and wait for its end: `(await client.run("Find ...")).output`.

        A call that ends before the task (cancelled, timed out, failed) stops the task and what was started for it, or says
        in a note of its exception what could not be stopped.

        Args:
            task: What to do, in words.
            output_model: Class of the output, a pydantic model; the result's `parsed` is an instance of it.
            timeout: How long the task may take: seconds, or a `timedelta`. Default: as long as the server allows.
            on_step: Called with each step as it comes.
            options: See `RunOptions` and `TaskOptions`: the session to run in, and settings of the task.

        Raises:
            TaskTimeout: It has not ended in time, and was stopped.
            TaskOutputError: There is no output of the requested class.
            APIError: It could not be started, or the server does not answer any more.
        """
        limit = None if timeout is None else waiting_time("timeout", timeout)
        # Both overloads of `start` are one function; which class the result has is known here only.
        run: AsyncTaskRun[Any] = await self.start(
            task, output_model=cast("type[BaseModel]", output_model), **options
        )
        async with run:
            began = io.monotonic()
            if on_step is not None:
                async for step in run.steps(timeout=limit):
                    on_step(step)
            if limit is not None:
                limit = max(limit - timedelta(seconds=io.monotonic() - began), _LAST_LOOK)
            return await run.result(timeout=limit)
