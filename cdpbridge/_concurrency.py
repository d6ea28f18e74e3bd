"""Work that must run to its end, whatever is cancelled or fails meanwhile."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

__all__ = ["in_pool", "in_thread", "to_the_end", "unhindered"]

logger = logging.getLogger("cdpbridge")

T = TypeVar("T")

_LOOK_SECONDS = 0.05


async def to_the_end(work: Awaitable[T]) -> T:
    """The result of `work`, which runs to its end however often the caller is cancelled; then that is passed on.

    `work` needs a bound of its own. When it fails and the caller was cancelled, its error is logged.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    if not task.cancelled() and (failed := task.exception()) is not None:
        logger.error("%s", failed, exc_info=None if str(failed) else failed)
    raise cancelled


@contextmanager
def unhindered(doing: str) -> Iterator[None]:
    """A block whose failure is logged and ends there, because what follows it has to be done: the stop of a paid browser.

    A cancellation ends there too, so this is for tasks of our own, which are cancelled only by the end of their loop.

    Args:
        doing: What the block does, for the log.
    """
    try:
        yield
    except asyncio.CancelledError:
        logger.debug("%s was cancelled", doing)
    except Exception:
        logger.exception("%s failed", doing)


async def in_pool(work: Callable[..., T], *arguments: Any) -> T:
    """The result of short blocking `work` in the loop's pool of threads; it runs to its end however often the caller is cancelled.

    So what it uses, e.g. a file, may be closed right after.
    """
    return await to_the_end(asyncio.to_thread(work, *arguments))


async def in_thread(work: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """The result of blocking `work`, which runs to its end however often the caller is cancelled.

    In a thread of its own and not in the loop's pool: a fork would wait for the threads of that one.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        tell: Callable[[], None]
        try:
            result = work(*arguments, **options)
        except BaseException as error:  # noqa: BLE001  # it is the caller's, who would wait for ever without it
            tell = partial(done.set_exception, error)
        else:
            tell = partial(done.set_result, result)
        try:
            loop.call_soon_threadsafe(tell)
        except RuntimeError:
            logger.debug("nobody waits for %r any more: its loop is closed", work)

    try:
        threading.Thread(target=run, name="cdpbridge-work").start()
    except RuntimeError:  # the interpreter ends and starts no more threads
        return work(*arguments, **options)
    return await to_the_end(_awake(done))


async def _awake(done: asyncio.Future[T]) -> T:
    """Its result. A fork that has closed its copy of the loop leaves ours deaf to other threads, so the loop looks by itself."""
    while not done.done():
        await asyncio.wait({done}, timeout=_LOOK_SECONDS)
    return done.result()
