"""Three ways to wait for events: a worker for a coroutine handler, an iterator, and `expect`.

Each has a bounded queue filled in place by the reader, which never waits for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

from cdpbridge._durations import waiting_time
from cdpbridge.errors import CDPError, CommandTimeout, EventsLost

if TYPE_CHECKING:
    from cdpbridge.cdp._session import CDPSession

__all__ = ["EventStream", "Expectation", "Worker"]

T = TypeVar("T")

WORKER_LIMIT: Final = 1000
"""Events a coroutine handler may be behind; measured floods reach 10,000 a second, so a tenth of one."""


class Worker:
    """Runs one coroutine handler, one event after another.

    Args:
        report: Called with an exception of the handler, or `EventsLost` when it is too slow, and the event concerned.
        run: Starts the task and keeps it alive.
    """

    def __init__(
        self,
        handler: Callable[[Any], Coroutine[Any, Any, object]],
        *,
        report: Callable[[BaseException, Any], None],
        run: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        limit: int = WORKER_LIMIT,
    ) -> None:
        self._handler = handler
        self._report = report
        self._start_task = run
        self._limit = limit
        self._queue: deque[Any] = deque()
        self._running = False
        self._lost = 0

    def deliver(self, event: Any) -> None:
        """Queue one event; called by the reader."""
        if len(self._queue) >= self._limit:
            self._lost += 1
            if self._lost == 1:
                self._report(EventsLost(1, what="events of a coroutine handler"), event)
            return
        self._queue.append(event)
        if not self._running:
            self._running = True
            self._start_task(self._run())

    def stop(self) -> None:
        """Forget what is queued; the call that is running goes on."""
        self._queue.clear()

    async def _run(self) -> None:
        queue, handler = self._queue, self._handler
        try:
            while queue:
                event = queue.popleft()
                try:
                    await handler(event)
                except asyncio.CancelledError as error:
                    task = asyncio.current_task()
                    if task is not None and task.cancelling():
                        raise
                    self._report(error, event)  # the handler cancelled itself, not us
                except Exception as error:  # noqa: BLE001  # a handler's failure belongs to its owner
                    self._report(error, event)
        finally:
            self._running = False
            if self._lost > 1:
                self._report(EventsLost(self._lost - 1, what="further events of a coroutine handler"), None)
            self._lost = 0


class _Queue:
    """What a stream and the reader share; it does not know the stream, so that a forgotten stream is collected."""

    __slots__ = ("ended", "events", "limit", "lost", "waiter")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.events: deque[Any] = deque()
        self.lost = 0
        self.ended: CDPError | None = None
        self.waiter: asyncio.Future[None] | None = None

    def put(self, event: Any) -> None:
        if self.lost or len(self.events) >= self.limit:
            self.lost += 1  # from the first loss on, until the reader has passed the gap
            return
        self.events.append(event)
        self.wake()

    def end(self, error: CDPError) -> None:
        self.ended = self.ended or error
        self.wake()

    def wake(self) -> None:
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class EventStream(AsyncIterator[T], Generic[T]):
    """Events as an async iterator, from the moment the block or the loop is entered.

    When the reader falls behind by more than the limit, it gets the events before the gap, then `EventsLost` with the size
    of the gap, and may go on iterating. The stream ends with `TargetClosed` or `ConnectionClosed`.
    """

    def __init__(self, subscribe: Callable[[_Queue], Callable[[], None]], limit: int) -> None:
        self._remove: Callable[[], None] | None = None  # first: `__del__` looks at it
        if limit < 1:
            raise ValueError(f"limit must be 1 or more, not {limit}")
        self._subscribe = subscribe
        self._queue = _Queue(limit)
        self._closed = False

    def _listen(self) -> None:
        if self._remove is None and not self._closed:
            self._remove = self._subscribe(self._queue)

    async def __aenter__(self) -> Self:
        self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        self._listen()
        return self

    async def __anext__(self) -> T:
        queue = self._queue
        self._listen()
        while not queue.events:
            if queue.lost:
                count, queue.lost = queue.lost, 0
                raise EventsLost(count)
            if self._closed:
                raise StopAsyncIteration
            if queue.ended is not None:
                raise queue.ended
            if queue.waiter is not None:
                raise RuntimeError("two tasks read one event stream; give each its own")
            queue.waiter = asyncio.get_running_loop().create_future()
            try:
                await queue.waiter
            finally:
                queue.waiter = None
        event: T = queue.events.popleft()
        return event

    def close(self) -> None:
        """Stop listening; a loop over the stream ends after what is queued."""
        self._closed = True
        if self._remove is not None:
            self._remove()
            self._remove = None
        self._queue.wake()

    def __del__(self) -> None:
        if self._remove is not None:
            self._remove()


class Expectation(Generic[T]):
    """Listens from the start of a block; at its end, waits for the event.

    Attributes:
        event: The event, after the block.
    """

    def __init__(
        self,
        session: CDPSession,
        name: str,
        subscribe: Callable[[Callable[[T], None], Callable[[CDPError], None]], Callable[[], None]],
        predicate: Callable[[T], bool] | None,
        timeout: float | timedelta,
    ) -> None:
        self._session = session
        self._name = name
        self._subscribe = subscribe
        self._predicate = predicate
        self._timeout = waiting_time("timeout", timeout)
        self._future: asyncio.Future[T] | None = None
        self._remove: Callable[[], None] | None = None
        self._deadline = 0.0

    @property
    def event(self) -> T:
        if self._future is None or not self._future.done():
            raise RuntimeError(f"{self._name} has not come yet; read the event after the block")
        return self._future.result()

    async def __aenter__(self) -> Self:
        if self._remove is not None:
            raise RuntimeError("this block is entered already; call expect() again for another one")
        loop = asyncio.get_running_loop()
        self._future = loop.create_future()
        self._deadline = loop.time() + self._timeout.total_seconds()
        self._remove = self._subscribe(self._offer, self._fail)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        future = self._future
        assert future is not None
        try:
            if kind is None and not future.done():
                await self._wait(future)
        finally:
            if self._remove is not None:
                self._remove()
                self._remove = None
            if not future.done():
                future.cancel()
            elif kind is not None and not future.cancelled():
                future.exception()  # the block's own error is the one to show
        if kind is None:
            future.result()

    async def _wait(self, future: asyncio.Future[T]) -> None:
        try:
            async with asyncio.timeout_at(self._deadline):
                await asyncio.wait([future])
        except TimeoutError:  # `asyncio.wait` raises none of its own
            if not future.done():
                raise CommandTimeout(
                    self._name,
                    target=self._session.describe(),
                    waited=self._timeout,
                    hint=self._session.hint(self._name),
                ) from None

    def _offer(self, event: T) -> None:
        """Take an event of the class; called by the reader."""
        future = self._future
        if future is None or future.done():
            return
        try:
            fits = self._predicate is None or self._predicate(event)
        except Exception as error:  # noqa: BLE001  # the predicate is the caller's: so is its failure
            future.set_exception(error)
            return
        if fits:
            future.set_result(event)

    def _fail(self, error: CDPError) -> None:
        """Fail: the target or the connection has closed."""
        if self._future is not None and not self._future.done():
            self._future.set_exception(error)
