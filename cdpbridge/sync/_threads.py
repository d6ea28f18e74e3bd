"""Threads for functions of the user's that may block, which the event loop of the blocking API waits for, but never at its end."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from cdpbridge._concurrency import is_coroutine_function
from cdpbridge.errors import ConfigurationError

__all__ = ["Threads", "plain"]

logger = logging.getLogger("cdpbridge")

T = TypeVar("T")


def plain(function: Callable[..., T], what: str) -> Callable[..., T]:
    """Return `function`, which the blocking API calls in a thread.

    Raises:
        ConfigurationError: It is a coroutine function, which no event loop would run.
    """
    if is_coroutine_function(function):
        raise ConfigurationError(
            f"{what} of the blocking API is a plain function: write `def`, not `async def`"
        )
    return function


class Threads:
    """Threads for the user's own functions: the work of a pool's maps, or handlers of events; one for each call.

    Not the event loop's pool: its few threads are for this library's files, and the end of the loop would wait for them. A thread cannot be cancelled, so who waits for it can, and it goes on alone. They are daemons, so that none of them keeps the
    interpreter from ending.

    Args:
        what: Their owner, for messages: "a map".
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._threads: set[threading.Thread] = set()

    async def run(self, work: Callable[[], T]) -> T:
        """Return the result of `work`, called in a thread; a cancelled caller does not wait for it."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[tuple[T | None, BaseException | None]] = loop.create_future()

        def settle(outcome: tuple[T | None, BaseException | None]) -> None:
            self._threads.discard(thread)
            if not done.done():
                done.set_result(outcome)

        def main() -> None:
            try:
                outcome: tuple[T | None, BaseException | None] = context.run(work), None
            except BaseException as error:  # noqa: BLE001  # raised in the caller
                outcome = None, error
            try:
                loop.call_soon_threadsafe(settle, outcome)
            except RuntimeError:
                logger.debug("a thread of %s has outlived its event loop", self._what)

        context = contextvars.copy_context()
        thread = threading.Thread(target=main, name=f"cdpbridge-{self._what.split()[-1]}", daemon=True)
        self._threads.add(thread)
        thread.start()
        result, error = await done
        if error is None:
            return result  # type: ignore[return-value]  # None only where T is
        if isinstance(error, Exception):
            raise error
        raise RuntimeError(f"{error!r} was raised in a thread of {self._what}") from error

    def join(self, seconds: float) -> None:
        """Wait `seconds` for the threads that still run, once the pool is closed; log that some go on."""
        deadline = time.monotonic() + seconds
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))
        if left := sum(thread.is_alive() for thread in self._threads):
            logger.warning("%d threads of %s go on although their pool is closed", left, self._what)
