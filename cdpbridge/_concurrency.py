"""Event loops and background work: tasks that a class owns, and work that runs to its end whatever is cancelled meanwhile."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, Self, TypeVar

__all__ = [
    "LoopThread",
    "TaskSet",
    "at_once",
    "in_pool",
    "in_thread",
    "is_coroutine_function",
    "loop_factory",
    "mark_retrieved",
    "pooled",
    "to_the_end",
    "unhindered",
]

logger = logging.getLogger("cdpbridge")

T = TypeVar("T")

_POLL_SECONDS: Final = 0.05
_SIGNAL_SECONDS: Final = 0.25


class TaskSet:
    """The background tasks of one owner.

    asyncio keeps weak references to tasks, so a task that no variable holds may be collected before it ends. A set holds its tasks
    until they end, and logs the exception of each that fails: no caller awaits them.

    Args:
        log: Where failures are logged; default: the logger `cdpbridge`.
        loop: Runs the tasks; default: the loop that runs when a task is started.
    """

    __slots__ = ("_log", "_loop", "_tasks")

    def __init__(self, log: logging.Logger = logger, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._log = log
        self._loop = loop

    def __len__(self) -> int:
        """Return the number of tasks that have not ended."""
        return len(self._tasks)

    def __iter__(self) -> Iterator[asyncio.Task[Any]]:
        """Iterate over the tasks that have not ended."""
        return iter(tuple(self._tasks))

    def start(self, work: Coroutine[Any, Any, T], what: str) -> asyncio.Task[T]:
        """Run `work` in a task.

        Args:
            work: A coroutine.
            what: What it does, for the log: "the export of cookies".
        """
        task = (self._loop or asyncio.get_running_loop()).create_task(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, what))
        return task

    def _ended(self, what: str, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("%s failed", what, exc_info=error)

    async def wait(self, timeout: float | None = None) -> int:
        """Wait for the tasks to end, those too that start meanwhile; the caller's own task is left out.

        Args:
            timeout: Seconds; None waits without a limit.

        Returns:
            How many have not ended in time.
        """
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while others := self._others():
            left = None if deadline is None else deadline - loop.time()
            if left is not None and left <= 0:
                return len(others)
            await asyncio.wait(others, timeout=left)
        return 0

    async def cancel(self, timeout: float | None = None) -> int:
        """Cancel the tasks and wait for them to end; the caller's own task is left out.

        Args:
            timeout: Seconds to wait for those that clean up; None waits without a limit.

        Returns:
            How many have not ended in time.
        """
        others = self._others()
        for task in others:
            task.cancel()
        if not others:
            return 0
        _, late = await asyncio.wait(others, timeout=timeout)
        return len(late)

    def _others(self) -> set[asyncio.Task[Any]]:
        return self._tasks - {asyncio.current_task()}


async def at_once(work: Coroutine[Any, Any, T]) -> asyncio.Task[T] | None:
    """Return the task of what ends, or fails, within a turn of the loop; None for what would wait, which is cancelled."""
    task = asyncio.create_task(work)
    await asyncio.sleep(0)
    if task.done():
        task.add_done_callback(mark_retrieved)
        return task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return None


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the event loop of a program of ours: uvloop's, where it is installed; None for asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415  # optional: not on every platform
    except ModuleNotFoundError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def mark_retrieved(future: asyncio.Future[Any]) -> None:
    """Read a future's exception, so that asyncio does not log it as never retrieved; a done callback.

    For a future whose result a caller may, but need not, await.
    """
    if not future.cancelled():
        future.exception()


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Return True if a call gives a coroutine: of a function, a method, a `partial` of one, or an object with such a `__call__`."""
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  # the method itself is asked what it is
    )


async def to_the_end(work: Awaitable[T]) -> T:
    """Return the result of `work`, which runs to its end however often the caller is cancelled; re-raise the cancellation then.

    `work` needs a time limit of its own. When it fails and the caller was cancelled, its error is logged.
    """
    return await _ended(asyncio.ensure_future(work))


async def _ended(work: asyncio.Future[T], poll_seconds: float | None = None) -> T:
    """Return the result of `work`, however often the caller is cancelled; see `to_the_end`.

    Args:
        poll_seconds: Look so often whether it has ended, besides waiting for it.
    """
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work}, timeout=poll_seconds)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return work.result()
    if not work.cancelled() and (failed := work.exception()) is not None:
        logger.error("%s", failed, exc_info=None if str(failed) else failed)
    raise cancelled


@contextmanager
def unhindered(doing: str) -> Iterator[None]:
    """Log a failure of the block and go on, because what follows has to be done: the stop of a paid browser.

    A cancellation is caught too, so this is for tasks of our own, which only the end of their loop cancels.

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
    """Run short blocking `work` in the loop's thread pool, to its end however often the caller is cancelled.

    So what it uses, e.g. a file, may be closed right after.
    """
    return await to_the_end(pooled(work, *arguments))


def pooled(work: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
    """Start blocking `work` in the loop's thread pool.

    The future is no task, as `asyncio.to_thread` in one would be: the end of a loop cancels all tasks, and such a task would count as
    done while its thread still runs.
    """
    run = partial(contextvars.copy_context().run, work, *arguments)
    return asyncio.get_running_loop().run_in_executor(None, run)


async def in_thread(work: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Run blocking `work` to its end however often the caller is cancelled.

    In a thread of its own and not in the loop's pool: a fork would wait for the threads of the pool.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        settle: Callable[[], None]
        try:
            result = work(*arguments, **options)
        except BaseException as error:  # noqa: BLE001  # it is raised in the caller, who would wait for ever without it
            settle = partial(done.set_exception, error)
        else:
            settle = partial(done.set_result, result)
        try:
            loop.call_soon_threadsafe(settle)
        except RuntimeError:
            logger.debug("the result of %r has no reader: its event loop is closed", work)

    try:
        threading.Thread(target=run, name="cdpbridge-work").start()
    except RuntimeError:  # the interpreter ends and starts no more threads
        return work(*arguments, **options)
    # A forked process that closes its copy of the loop breaks our wake-up pipe: no thread can wake this loop after that.
    return await _ended(done, _POLL_SECONDS)


class LoopThread:
    """A block with an event loop in a thread of its own, for programs that have none.

    In a thread, because Playwright's synchronous API runs a loop in the caller's. At the end of the block, tasks that are left are
    cancelled and waited for, and the thread has ended.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop
        self._ready = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._main, name="cdpbridge", daemon=True)

    def _main(self) -> None:
        try:
            with asyncio.Runner() as runner:
                self._loop = runner.get_loop()
                self._ready.set()
                self._loop.run_forever()
        finally:
            self._ended.set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._thread.is_alive():  # in a fork, which has no copy of the thread
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        try:
            _wait(self._ended, lambda: None)
        finally:
            self._thread.join()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`, which runs in the loop. When the caller is interrupted, cancel it and wait for its end.

        Raises:
            RuntimeError: The block is left, or this is a fork, or the caller is the loop's own thread, e.g. an event handler.
        """
        problem = None
        if threading.current_thread() is self._thread:
            problem = "a blocking call in an event handler would wait for itself"
        elif not self._thread.is_alive():
            problem = "the block is left, or this is a fork of its process: its event loop does not run here"
        if problem is not None:
            work.close()
            raise RuntimeError(problem)
        done = threading.Event()
        tasks: list[asyncio.Task[T]] = []

        def begin() -> None:
            tasks.append(self._loop.create_task(work))
            tasks[0].add_done_callback(lambda _task: done.set())

        def cancel() -> None:
            if tasks:
                tasks[0].cancel()
            else:  # the interrupt came before `begin` was handed over
                work.close()
                done.set()

        try:
            self._loop.call_soon_threadsafe(begin)
            _wait(done, lambda: self._loop.call_soon_threadsafe(cancel))
        except BaseException:
            # An interrupt right before `_wait`, which would have seen to it.
            if not done.is_set():
                self._loop.call_soon_threadsafe(cancel)
                _wait(done, lambda: None)
            raise
        return tasks[0].result()


def _wait(event: threading.Event, interrupted: Callable[[], object]) -> None:
    """Wait for `event`, however often the caller is interrupted; call `interrupted` each time, then raise the last interrupt."""
    interrupt: BaseException | None = None
    while not event.is_set():
        try:
            # Not for ever: a signal that comes right before the thread sleeps is not handled until it wakes up.
            event.wait(_SIGNAL_SECONDS)
        except BaseException as error:  # noqa: BLE001  # of a signal; raised below
            interrupt = error
            interrupted()
    if interrupt is not None:
        raise interrupt
