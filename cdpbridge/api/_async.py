"""`AsyncClient`: the thin shell that sends calls and reads their answers."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from uuid import UUID

import httpx

from cdpbridge.errors import APIError, ConfigurationError, redact_url

from . import _calls
from ._calls import MAX_PAGE_SIZE, Call, ServerChoice, server_default
from ._models import Account, BrowserSession, Page, Profile
from ._pages import AsyncPages
from ._retry import delay_seconds, may_retry
from ._wire import (
    checked_base_url,
    checked_key,
    failure,
    http_options,
    read_answer,
    readable_environment,
    request_of,
    timeout_of,
)

__all__ = ["DEFAULT_BASE_URL", "AsyncClient"]

logger = logging.getLogger("cdpbridge")

T = TypeVar("T")

DEFAULT_BASE_URL: Final = "https://api.browser-use.com/api/v2"
"""The Browser Use Cloud (REST reference, servers)."""

_TIMEOUT: Final = timedelta(seconds=30)
_BLOCKING_SECONDS: Final = 10.0


class AsyncClient:
    """The REST API, as groups of operations: `client.browsers`, `client.profiles`, `client.billing`.

    `async with` opens and closes it, and may be nested; without a block, the first request opens it and `aclose` closes it. It
    can be opened again. It belongs to the event loop that opened it.

    Args:
        api_key: Default: `BROWSER_USE_API_KEY`.
        base_url: Default: `CDPBRIDGE_BASE_URL`, else the Browser Use Cloud.
        timeout: For one try of a request; starting and stopping a browser may take 120 s.
        max_retries: How often a request is tried again; a create only when it certainly did nothing.
        http_client: Your own, for proxies, certificates, tests; it stays open. Stops at the end of the interpreter cannot
            use it: they have no event loop.

    Raises:
        ConfigurationError: No key, or one of them is malformed.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        timeout: timedelta = _TIMEOUT,
        max_retries: int = 2,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        if max_retries < 0:
            raise ConfigurationError(f"max_retries must be zero or more, not {max_retries}")
        if timeout <= timedelta(0):
            raise ConfigurationError(f"timeout must be positive, not {timeout}")
        self._timeout = timeout.total_seconds()
        self._max_retries = max_retries
        self._given_http = http_client
        self._http: httpx.AsyncClient | None = None
        self._users = 0
        self._opening: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self._resources = AsyncExitStack()
        self._set_address(api_key, base_url)
        self.billing = _Billing(self)
        self.profiles = _Profiles(self)
        self.browsers = _Browsers(self)

    def _set_address(self, api_key: str | None, base_url: str | None) -> None:
        key = api_key if api_key is not None else os.environ.get("BROWSER_USE_API_KEY")
        if not key:
            raise ConfigurationError(
                "no API key: set BROWSER_USE_API_KEY, or give it as an argument; for browsers on this machine use local()"
            )
        self._api_key = checked_key(key)
        self._base_url = checked_base_url(
            base_url or os.environ.get("CDPBRIDGE_BASE_URL") or DEFAULT_BASE_URL
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {redact_url(self._base_url)}>"

    # --- open and close -------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether it holds connections."""
        return self._http is not None

    async def __aenter__(self) -> Self:
        await self._open()
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

    @property
    def server_ended(self) -> bool:
        """Whether its server has ended, and with it every browser; never for a server that is not ours."""
        return False

    def stop_advice(self, browser_id: UUID) -> str:
        """What a person can do about a browser that could not be stopped."""
        where = "" if self._base_url == DEFAULT_BASE_URL else f" --provider {self._base_url}"
        return f"run: cdpbridge stop {browser_id}{where}"

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._users -= 1
        async with self._lock():
            if not self._users:  # nobody came while this one waited for its turn
                await self._close()

    def _lock(self) -> asyncio.Lock:
        """One task at a time opens or closes. A lock belongs to a loop, and the client may be opened in another one later."""
        loop = asyncio.get_running_loop()
        if self._opening is None or self._opening[0] is not loop:
            self._opening = loop, asyncio.Lock()
        return self._opening[1]

    async def _open(self) -> httpx.AsyncClient:
        async with self._lock():
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
        """What has to be there before the first request; a subclass may have a server to start."""

    async def aclose(self) -> None:
        """Close its connections; the next request would open it again."""
        async with self._lock():
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
        tries = 0
        while True:
            tries += 1
            try:
                return await self._send_once(call, tries)
            except APIError as error:
                if tries > self._max_retries or not may_retry(call, error):
                    raise
                delay = delay_seconds(tries, error, chance=random.random())  # noqa: S311  # not for secrets
                if delay is None:
                    raise
                logger.debug("%s; trying again in %.1f s", error, delay)
            await asyncio.sleep(delay)

    async def _send_once(self, call: Call[T], tries: int) -> T:
        http = self._http or await self._open()
        started = time.monotonic()
        try:
            response = await http.request(**self._request(call, timeout_of(call, self._timeout)))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise failure(call, error) from error
        seconds = time.monotonic() - started
        logger.debug(
            "%s %s: %d in %.3f s, try %d", call.method, call.path, response.status_code, seconds, tries
        )
        return read_answer(call, response, secret=self._api_key)

    def _request(self, call: Call[T], timeout_seconds: float) -> dict[str, Any]:
        return request_of(call, self._base_url, self._api_key, timeout_seconds)

    def send_blocking(self, call: Call[T]) -> T:
        """The answer to one call, without an event loop and tried once: for the end of the interpreter."""
        with readable_environment():
            http = httpx.Client(**http_options(self._base_url))
        try:
            with http:
                response = http.request(**self._request(call, _BLOCKING_SECONDS))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise failure(call, error) from error
        return read_answer(call, response, secret=self._api_key)


class _Group:
    def __init__(self, client: AsyncClient) -> None:
        self._client = client


class _Billing(_Group):
    """`/billing`."""

    async def account(self) -> Account:
        """Credits and limits."""
        return await self._client.send(_calls.get_account())


class _Profiles(_Group):
    """`/profiles`: saved browser state."""

    async def create(self, *, name: str | None = None) -> Profile:
        """A new, empty profile. Names need not be unique."""
        return await self._client.send(_calls.create_profile(name=name))

    def list(self, *, page_size: int = MAX_PAGE_SIZE) -> AsyncPages[Profile]:
        """Every profile, as `async for`, or page by page."""
        return AsyncPages(self._client.send, _profile_page, page_size)

    async def get(self, profile_id: UUID | str) -> Profile:
        """One profile."""
        return await self._client.send(_calls.get_profile(profile_id))

    async def update(self, profile_id: UUID | str, *, name: str | None) -> Profile:
        """Rename a profile."""
        return await self._client.send(_calls.update_profile(profile_id, name=name))

    async def delete(self, profile_id: UUID | str) -> None:
        """Delete a profile and what it holds; one that is not there is fine."""
        await self._client.send(_calls.delete_profile(profile_id))


class _Browsers(_Group):
    """`/browsers`: rented browsers."""

    async def create(
        self,
        *,
        profile_id: UUID | str | None = None,
        proxy_country: str | ServerChoice | None = server_default,
        timeout: timedelta | None = None,
        idempotency_key: str | None = None,
    ) -> BrowserSession:
        """Rent a browser; it costs money from now on. `cdpbridge.open_browser` also stops it.

        Args:
            profile_id: State to start from.
            proxy_country: Two letters; None for no proxy; default: the server's choice.
            timeout: Whole minutes, 1 to 240. Default: the server's.
            idempotency_key: Two requests with one key rent one browser, on servers that know the header.
        """
        call = _calls.create_browser(
            profile_id=profile_id,
            proxy_country=proxy_country,
            timeout=timeout,
            idempotency_key=idempotency_key,
        )
        return await self._client.send(call)

    def list(
        self, *, status: str | None = None, page_size: int = MAX_PAGE_SIZE
    ) -> AsyncPages[BrowserSession]:
        """Every browser, the newest first, as `async for`, or page by page.

        Args:
            status: `"active"` or `"stopped"`; None for both.
        """
        return AsyncPages(self._client.send, partial(_browser_page, status), page_size)

    async def get(self, browser_id: UUID | str) -> BrowserSession:
        """One browser."""
        return await self._client.send(_calls.get_browser(browser_id))

    async def stop(self, browser_id: UUID | str) -> BrowserSession:
        """Stop a browser; the server gives back the minutes that were not used. May be repeated."""
        return await self._client.send(_calls.stop_browser(browser_id))

    def stop_blocking(self, browser_id: UUID | str) -> BrowserSession:
        """The same without an event loop, tried once."""
        return self._client.send_blocking(_calls.stop_browser(browser_id))


def _profile_page(number: int, size: int) -> Call[Page[Profile]]:
    return _calls.list_profiles(page_number=number, page_size=size)


def _browser_page(status: str | None, number: int, size: int) -> Call[Page[BrowserSession]]:
    return _calls.list_browsers(status=status, page_number=number, page_size=size)
