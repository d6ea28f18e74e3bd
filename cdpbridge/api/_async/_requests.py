"""Send calls: open connections, read answers, try again what may be repeated. All groups of a client share one of these."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final, TypeVar

from cdpbridge.api import _async_io as io
from cdpbridge.api._http import (
    IgnoredFieldsLog,
    RawResponse,
    failure,
    read_answer,
    request_of,
    timeout_of,
)
from cdpbridge.api._httpx import httpx
from cdpbridge.api._retry import delay_seconds, may_retry
from cdpbridge.api.calls._base import IDEMPOTENCY_HEADER, Call
from cdpbridge.errors import APIError

__all__ = ["AsyncRequests"]

logger = logging.getLogger("cdpbridge")

T = TypeVar("T")

_SHORTEST_SECONDS: Final = 1.0


class AsyncRequests:
    """The requests of one client.

    Args:
        connections: Gives the open connections, and opens them if need be.
        address: Gives the server's base URL and key, once the connections are open.
        timeout_seconds: For one try.
        max_retries: How often a request is tried again.
        idempotent_creates: True if the server honours `Idempotency-Key`.
    """

    def __init__(
        self,
        connections: Callable[[], Awaitable[io.AnyHTTP]],
        address: Callable[[], tuple[str, str]],
        *,
        timeout_seconds: float,
        max_retries: int,
        idempotent_creates: bool,
    ) -> None:
        self.connections = connections
        self.timeout_seconds = timeout_seconds
        self._address = address
        self._max_retries = max_retries
        self._idempotent_creates = idempotent_creates
        self._ignored_fields = IgnoredFieldsLog()

    async def send(self, call: Call[T]) -> T:
        """Return the answer to a call; see `AsyncClient.send`."""
        return (await self.send_raw(call)).parsed

    async def send_raw(self, call: Call[T]) -> RawResponse[T]:
        """Return the answer to a call with status, headers and body."""
        if self._idempotent_creates and IDEMPOTENCY_HEADER in call.headers:
            call = replace(call, repeatable=True)
        seconds = timeout_of(call, self.timeout_seconds)
        return await self.repeat(call, lambda tries: self._once(call, seconds, tries))

    async def send_once(self, call: Call[T], within: float | None) -> T:
        """Return the answer to a call that is tried once, for a caller that repeats it anyway.

        Args:
            call: The request.
            within: Seconds it may take at most, at least one; None for as long as any request.
        """
        seconds = timeout_of(call, self.timeout_seconds)
        if within is not None:
            seconds = min(seconds, max(within, _SHORTEST_SECONDS))
        return (await self._once(call, seconds, 1)).parsed

    async def repeat(self, call: Call[Any], once: Callable[[int], Awaitable[T]]) -> T:
        """Return the result of `once`, which is tried again as far as that is safe for `call`."""
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

    async def _once(self, call: Call[T], timeout_seconds: float, tries: int) -> RawResponse[T]:
        http = await self.connections()
        base_url, api_key = self._address()
        started = io.monotonic()
        try:
            response = await http.request(**request_of(call, base_url, api_key, timeout_seconds))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise failure(call, error) from error
        seconds = io.monotonic() - started
        logger.debug(
            "%s %s: %d in %.3f s, try %d", call.method, call.path, response.status_code, seconds, tries
        )
        answer = read_answer(call, response, secret=api_key)
        self._ignored_fields.note(call, response)
        return RawResponse.of(response, answer)
