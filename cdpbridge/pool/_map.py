"""`mapped`: a function over many items, several at once, results in order or as they come, nothing unbounded."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
)
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

__all__ = ["Reorder", "mapped"]

T = TypeVar("T")
R = TypeVar("R")

_AHEAD: Final = 2  # times `concurrency`: how many items may be taken whose results are not read yet


@dataclass(frozen=True, slots=True)
class _Outcome:
    number: int
    value: Any = None
    error: Exception | None = None


class Reorder(Generic[T]):
    """Numbered results that come in any order, yielded in the order of their numbers. Pure."""

    def __init__(self) -> None:
        self._next = 0
        self._held: dict[int, T] = {}

    def put(self, number: int, thing: T) -> Iterator[T]:
        """Add one; yield what is next in order now."""
        self._held[number] = thing
        while self._next in self._held:
            yield self._held.pop(self._next)
            self._next += 1


class _Feed(Generic[T]):
    """The items with their numbers, taken one at a time, each by one worker."""

    def __init__(self, items: Iterable[T] | AsyncIterable[T]) -> None:
        self._lock = asyncio.Lock()
        self._count = 0
        self._over = False
        self._later: AsyncIterator[T] | None = None
        self._now: Iterator[T] | None = None
        if isinstance(items, AsyncIterable):
            self._later = aiter(items)
        else:
            self._now = iter(items)

    async def next(self) -> tuple[int, T] | None:
        """Return the next one, None at the end and after a failure."""
        async with self._lock:
            if self._over:
                return None
            try:
                item = next(self._now) if self._now is not None else await anext(self._later)  # type: ignore[arg-type]
            except (StopIteration, StopAsyncIteration):
                self._over = True
                return None
            except BaseException:
                self._over = True
                raise
            self._count += 1
            return self._count - 1, item


async def mapped(
    work: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    *,
    concurrency: int,
    ordered: bool,
    return_exceptions: bool,
    finished: Callable[[int], object],
    start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
) -> AsyncGenerator[R | Exception, None]:
    """Yield the result of `work` for each item.

    Items are taken as workers get free, and no more than a few times `concurrency` ahead of the reader.

    Args:
        finished: Called with how many items are done.
        start: Runs all of this in a task; cancelling that ends the results with its `CancelledError`.
    """
    feed = _Feed(items)
    slots = asyncio.Semaphore(_AHEAD * concurrency)
    results: asyncio.Queue[_Outcome | BaseException | None] = asyncio.Queue()

    async def worker() -> None:
        while True:
            await slots.acquire()
            taken = await feed.next()
            if taken is None:
                return
            number, item = taken
            try:
                outcome = _Outcome(number, await work(item))
            except Exception as error:  # noqa: BLE001  # it is the reader's
                error.add_note(f"item {number} of the map, counted from 0")
                outcome = _Outcome(number, error=error)
            results.put_nowait(outcome)

    async def all_workers() -> None:
        end: BaseException | None = None
        try:
            await _gathered([worker() for _ in range(concurrency)])
        except Exception as error:  # noqa: BLE001  # of the items; raised in the reader
            end = error
        except BaseException as error:
            end = error
            raise
        finally:
            results.put_nowait(end)

    everything = start(all_workers())
    order: Reorder[_Outcome] = Reorder()
    done = 0
    try:
        while (outcome := await results.get()) is not None:
            if isinstance(outcome, BaseException):
                raise outcome
            done += 1
            finished(done)
            for ready in order.put(outcome.number, outcome) if ordered else (outcome,):
                if ready.error is not None and not return_exceptions:
                    raise ready.error
                yield ready.value if ready.error is None else ready.error
                slots.release()
    finally:
        everything.cancel()
        await asyncio.wait({everything})


async def _gathered(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all of `work` at once; cancel the rest when one fails, and return when all have ended."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
