"""`AsyncClient`: the thin shell that sends calls and reads their answers."""

from __future__ import annotations

import logging
import os
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from uuid import UUID

import httpx

from cdpbridge._durations import waiting_seconds
from cdpbridge.api import _async_io as io
from cdpbridge.api._calls import IDEMPOTENCY_HEADER, Call
from cdpbridge.api._place import DEFAULT_BASE_URL, Place, checked_base_url, find_place
from cdpbridge.api._retry import delay_seconds, may_retry
from cdpbridge.api._wire import (
    IgnoredFieldsLog,
    RawResponse,
    failure,
    http_options,
    read_answer,
    readable_environment,
    request_of,
    timeout_of,
)
from cdpbridge.errors import APIError, ConfigurationError, redact_url

from ._billing import AsyncBilling
from ._browsers import AsyncBrowsers
from ._files import AsyncFiles
from ._profiles import AsyncProfiles
from ._raw import AsyncRawClient
from ._runs import AsyncRuns
from ._sessions import AsyncSessions
from ._tasks import AsyncTasks

if TYPE_CHECKING:
    from cdpbridge._local_server import ServerProcess

__all__ = ["AsyncClient"]

logger = logging.getLogger("cdpbridge")

T = TypeVar("T")

_TIMEOUT: Final = timedelta(seconds=30)
_SHORTEST_SECONDS: Final = 1.0
# asynchronous only: end of the interpreter
_BLOCKING_SECONDS: Final = 10.0
# end


class AsyncClient(AsyncRuns):
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
        timeout: For one try of a request; starting and stopping a browser may take 120 s.
        max_retries: How often a request is tried again; a create only when it certainly did nothing.
        http_client: Your own, for proxies, certificates, tests; it stays open. Stops at the end of the interpreter cannot
            use it: they have no event loop.
        idempotent_creates: Whether the server knows `Idempotency-Key`, as cdpbridge's own does: then a create that has a key
            is tried again after a lost answer too.

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
        self._timeout = waiting_seconds("timeout", timeout)
        self._max_retries = max_retries
        self._given_http = http_client
        self._http: httpx.AsyncClient | None = None
        self._ignored_fields = IgnoredFieldsLog()
        self._users = 0
        self._counting = threading.Lock()  # the client of threads counts here too; nobody waits long
        self._turns = io.Turns()
        self._resources = AsyncExitStack()
        place = self._place(api_key, base_url)
        self._base_url, self._api_key = place.base_url or "", place.api_key
        self._is_local = place.is_local
        self._server: ServerProcess | None = None
        self._idempotent_creates = idempotent_creates or place.is_local
        self.billing = AsyncBilling(self)
        self.browsers = AsyncBrowsers(self)
        self.files = AsyncFiles(self)
        self.profiles = AsyncProfiles(self)
        self.sessions = AsyncSessions(self)
        self.tasks = AsyncTasks(self)

    def _place(self, api_key: str | None, base_url: str | None) -> Place:
        """Where it sends requests; a subclass may know better."""
        where = None if base_url is None else checked_base_url(base_url)
        return find_place(os.environ, where, api_key)

    def _settings(self) -> Mapping[str, Any]:
        """Settings of the embedded server."""
        return {}

    @property
    def is_local(self) -> bool:
        """True if its server is an embedded one, which starts and ends with the client."""
        return self._is_local

    @property
    def server_pid(self) -> int | None:
        """Process id of the embedded server while it runs; None for any other server."""
        return None if self._server is None else self._server.pid

    @property
    def with_raw_response(self) -> AsyncRawClient:
        """The same operations, answered with status, headers and body besides the model."""
        return AsyncRawClient(self)

    def __repr__(self) -> str:
        if self._is_local:
            state = "closed" if self._server is None else self._server.base_url
            return f"<{type(self).__name__} local {state}>"
        return f"<{type(self).__name__} {redact_url(self._base_url)}>"

    # --- open and close -------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether it holds connections."""
        return self._http is not None

    async def __aenter__(self) -> Self:
        await self._open()
        with self._counting:
            self._users += 1
        return self

    @asynccontextmanager
    async def share(self) -> AsyncIterator[Self]:
        """A block in which it is open. The last block closes it; one that was opened without a block stays open."""
        if self.is_open and not self._users:
            yield self
            return
        async with self:
            yield self

    # asynchronous only: for rentals
    @property
    def server_ended(self) -> bool:
        """True if its embedded server has ended: it stops its browsers on the way, and Chromium leaves with it in any case.

        Always False for any other server.
        """
        return self._is_local and (self._server is None or self._server.ended)

    def stop_advice(self, browser_id: UUID) -> str:
        """What a person can do about a browser that could not be stopped."""
        if self._is_local:
            return "it ends with the embedded server, and the next one settles its bill"
        where = "" if self._base_url == DEFAULT_BASE_URL else f" --provider {self._base_url}"
        return f"run: cdpbridge stop {browser_id}{where}"

    # end

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._counting:
            self._users -= 1
        async with self._turns.lock():
            if not self._users:  # nobody came while this one waited for its turn
                await self._close()

    async def _open(self) -> httpx.AsyncClient:
        async with self._turns.lock():
            if self._http is None:
                async with AsyncExitStack() as stack:
                    await self._prepare(stack)
                    if self._given_http is not None:
                        http = self._given_http
                    else:
                        with readable_environment():
                            own = httpx.AsyncClient(**http_options(self._base_url))
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

    async def _end(self, server: ServerProcess) -> None:
        self._server = None
        await io.stop_server(server)

    async def aclose(self) -> None:
        """Close its connections; the next request would open it again."""
        async with self._turns.lock():
            await self._close()

    async def _close(self) -> None:
        self._http = None
        resources, self._resources = self._resources, AsyncExitStack()
        await resources.aclose()

    # --- requests -------------------------------------------------------------------------------------------------

    async def send(self, call: Call[T]) -> T:
        """The answer to one call, tried again as far as that is safe.

        Raises:
            APIError: See its tree; statuses have a class each.
        """
        return (await self.send_raw(call)).parsed

    async def send_raw(self, call: Call[T]) -> RawResponse[T]:
        """The same with status, headers and body."""
        if self._idempotent_creates and IDEMPOTENCY_HEADER in call.headers:
            call = replace(call, repeatable=True)
        seconds = timeout_of(call, self._timeout)
        return await self._tried(call, lambda tries: self._once(call, seconds, tries))

    async def _ask(self, call: Call[T], within: float | None) -> T:
        """The answer to one call, tried once, for who asks again anyway.

        Args:
            call: What to ask.
            within: Seconds it may take at most, one at least; None for as long as any request.
        """
        seconds = timeout_of(call, self._timeout)
        if within is not None:
            seconds = min(seconds, max(within, _SHORTEST_SECONDS))
        return (await self._once(call, seconds, 1)).parsed

    async def _once(self, call: Call[T], timeout_seconds: float, tries: int) -> RawResponse[T]:
        http = await self._connections()
        started = io.monotonic()
        try:
            response = await http.request(**request_of(call, self._base_url, self._api_key, timeout_seconds))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise failure(call, error) from error
        seconds = io.monotonic() - started
        logger.debug(
            "%s %s: %d in %.3f s, try %d", call.method, call.path, response.status_code, seconds, tries
        )
        answer = read_answer(call, response, secret=self._api_key)
        self._ignored_fields.note(call, response)
        return RawResponse.of(response, answer)

    async def _tried(self, call: Call[Any], once: Callable[[int], Awaitable[T]]) -> T:
        """What `once` brings, tried again as far as that is safe for `call`."""
        tries = 0
        while True:
            tries += 1
            try:
                return await once(tries)
            except APIError as error:
                if tries > self._max_retries or not may_retry(call, error):
                    raise
                delay = delay_seconds(tries, error, chance=random.random())  # noqa: S311  # not for secrets
                if delay is None:
                    raise
                logger.debug("%s; trying again in %.1f s", error, delay)
            await io.sleep(delay)

    async def _connections(self) -> httpx.AsyncClient:
        """What requests go through, opened if need be."""
        return self._http or await self._open()

    # asynchronous only: end of the interpreter
    def send_blocking(self, call: Call[T]) -> T:
        """The answer to one call, without an event loop and tried once."""
        with readable_environment():
            http = httpx.Client(**http_options(self._base_url))
        try:
            with http:
                response = http.request(**request_of(call, self._base_url, self._api_key, _BLOCKING_SECONDS))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise failure(call, error) from error
        return read_answer(call, response, secret=self._api_key)

    # end
