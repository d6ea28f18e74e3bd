"""Leases that threads hold: a lease lives in a task of the event loop, and what its thread does with it ends with the lease."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeVar

from cdpbridge._concurrency import LoopThread, mark_retrieved
from cdpbridge.errors import PoolClosed
from cdpbridge.pool._lease import Lease

__all__ = ["LEAVING_SECONDS", "Calls", "Held", "end_leases"]

T = TypeVar("T")

# seconds; threads of a closed pool fail with their next call on a tab, those that make none are left behind
LEAVING_SECONDS: Final = 5.0


class Calls:
    """Runs what a thread calls on the tabs of one lease, until the lease ends."""

    def __init__(self, loop: LoopThread) -> None:
        self._loop = loop
        self._running: set[asyncio.Task[Any]] = set()
        self._cancelled = False
        self._why: BaseException | None = None
        self._known = asyncio.Event()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of `work`, which runs in the event loop.

        Raises:
            LeaseTimeout: The lease took too long, before or meanwhile.
            PoolClosed: It has ended otherwise.
        """
        try:
            if self._known.is_set() and self._why is not None:  # the loop may have ended, too
                raise self._why
            return self._loop.run(self._call(work))
        finally:
            work.close()  # in case it has not begun

    async def _call(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.current_task()
        assert task is not None  # `LoopThread.run` makes one
        if self._cancelled:
            raise await self._reason()
        self._running.add(task)
        try:
            return await work
        except asyncio.CancelledError:
            if not self._cancelled:  # Ctrl-C
                raise
            raise await self._reason() from None
        finally:
            self._running.discard(task)

    async def _reason(self) -> BaseException:
        await self._known.wait()
        assert self._why is not None  # set before
        return self._why

    def cancel(self) -> None:
        """Cancel the calls under way, and let no other begin; they fail once `end` says why."""
        self._cancelled = True
        for task in self._running:
            task.cancel()

    def end(self, why: BaseException) -> None:
        """Cancel the calls; they, and all later ones, raise `why`."""
        self._why = why
        self.cancel()
        self._known.set()


class Held:
    """A lease of the pool, held by a task for a thread.

    The task waits inside the lease's block. So the lease ends at its deadline, and with the pool, whatever its thread does.

    Args:
        tasks: The leases that the pool's threads hold.

    Attributes:
        calls: Runs what the thread does with the lease.
    """

    def __init__(
        self, loop: LoopThread, tasks: set[asyncio.Task[None]], block: AbstractAsyncContextManager[Lease]
    ) -> None:
        self.calls = Calls(loop)
        self._loop = loop
        self._tasks = tasks
        self._block = block
        self._task: asyncio.Task[None] | None = None
        self._over: asyncio.Future[None] | None = None

    def begin(self) -> Lease:
        """Wait for the lease and return it. Errors as of the pool's `lease`."""
        try:
            return self._loop.run(self._begin())
        except Exception:
            raise
        except BaseException:  # Ctrl-C: it may have begun all the same
            self._loop.run(self._cancel())
            raise

    async def _begin(self) -> Lease:
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[Lease] = loop.create_future()
        self._over = loop.create_future()
        self._over.add_done_callback(mark_retrieved)  # the lease may have ended before
        self._task = loop.create_task(self._hold(opened, self._over))
        self._tasks.add(self._task)
        self._task.add_done_callback(self._ended)
        either: set[asyncio.Future[Any]] = {self._task, opened}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not opened.done():
            self._task.result()  # raises what has kept it from opening
        return opened.result()

    async def _hold(self, opened: asyncio.Future[Lease], over: asyncio.Future[None]) -> None:
        async with self._block as lease:
            opened.set_result(lease)
            try:
                await over
            finally:
                self.calls.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        self.calls.end(error or PoolClosed("the lease of this tab has ended"))

    async def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def end(self, error: BaseException | None) -> BaseException | None:
        """End the lease; return what its end has raised.

        Args:
            error: What the thread's block has raised.
        """
        assert self._task is not None  # it has begun
        if not self._task.done():
            self._loop.run(self._end(error))
        if not self._task.cancelled():
            return self._task.exception()
        if error is not None and not isinstance(error, Exception):
            return None
        closed = PoolClosed("the pool was closed while this lease was held")
        closed.__cause__ = error
        return closed

    async def _end(self, error: BaseException | None) -> None:
        assert self._task is not None  # it has begun
        assert self._over is not None
        if not self._over.done():
            # Others would end the event loop, or cannot pass through a future; they say nothing about the browser.
            if isinstance(error, Exception) and not isinstance(error, StopIteration):
                self._over.set_exception(error)
            else:
                self._over.set_result(None)
        await asyncio.wait({self._task})


async def end_leases(tasks: set[asyncio.Task[None]]) -> None:
    """End the leases that threads hold, once their browsers are stopped: each has failed or fails with its next call."""
    if tasks:
        _, held = await asyncio.wait(tasks, timeout=LEAVING_SECONDS)
        for task in held:
            task.cancel()
        if held:
            await asyncio.wait(held)
