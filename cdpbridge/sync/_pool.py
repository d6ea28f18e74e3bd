"""`BrowserPool` for programs without an event loop: the asynchronous pool, with leases that threads hold."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sized
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, Concatenate, Final, Literal, ParamSpec, Self, TypeVar, Unpack, overload

from cdpbridge._concurrency import LoopThread
from cdpbridge.api import AsyncClient, Client
from cdpbridge.billing import Receipt
from cdpbridge.browser import Tab as AsyncTab
from cdpbridge.errors import PoolClosed
from cdpbridge.pool import BrowserPool as AsyncBrowserPool
from cdpbridge.pool import PoolStats
from cdpbridge.pool._lease import Lease as AsyncLease
from cdpbridge.pool._pool import IDLE_TIMEOUT, RETRIES
from cdpbridge.pool._progress import ProgressHook
from cdpbridge.providers import of_blocking
from cdpbridge.rental._options import RentalOptions
from cdpbridge.rental._shutdown import exit_on_signals
from cdpbridge.sync._browser import Browser, Tab
from cdpbridge.sync._caller import check_caller
from cdpbridge.sync._leases import LEAVING_SECONDS, Calls, Held, end_leases
from cdpbridge.sync._threads import Threads, plain

__all__ = ["BrowserPool", "Lease"]

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")

_END: Final = object()


class _Pool(AsyncBrowserPool):
    """The pool below, with what the blocking one needs of it."""

    def repeats(self, lease: AsyncLease | None, error: Exception) -> bool:
        """Return True if work that failed with `error` is to be repeated."""
        return self._repeats(lease, error)


class BrowserPool:
    """Tabs for many threads, on as few rented browsers as possible: `with sync.BrowserPool(size=4) as pool`.

    `with pool.tab() as tab` waits for a tab, in any thread; `pool.map` calls a plain function in threads of its own. Arguments,
    guarantees and errors as of `cdpbridge.BrowserPool`; leaving the block stops every browser, also by an exception, Ctrl-C,
    SIGTERM or SIGHUP in the main thread.

    A thread cannot be cancelled: when a lease takes too long, or the pool is closed, every call on its tab fails from then on.

    Args:
        provider: Where, as of `cdpbridge.BrowserPool`; or a blocking client, whose server and key are used.
    """

    def __init__(
        self,
        provider: Client | AsyncClient | str | None = None,
        *,
        size: int = 4,
        tabs_per_browser: int = 8,
        isolated: bool | None = None,
        lease_timeout: float | timedelta | None = None,
        wait_timeout: float | timedelta | None = None,
        idle_timeout: float | timedelta = IDLE_TIMEOUT,
        retire_before: float | timedelta | None = None,
        **rental: Unpack[RentalOptions],
    ) -> None:
        self._pool = _Pool(
            of_blocking(provider) if isinstance(provider, Client) else provider,
            size=size,
            tabs_per_browser=tabs_per_browser,
            isolated=isolated,
            lease_timeout=lease_timeout,
            wait_timeout=wait_timeout,
            idle_timeout=idle_timeout,
            retire_before=retire_before,
            **rental,
        )
        self.receipts = self._pool.receipts
        self._loop: LoopThread | None = None
        self._closed = False
        self._entered = False
        self._pid: int | None = None
        self._stack = ExitStack()
        self._threads = Threads("a map")
        self._held: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return repr(self._pool)

    # --- the block ------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        check_caller("sync.BrowserPool", "async with cdpbridge.BrowserPool() as pool")
        if self._loop is not None:
            raise RuntimeError("a pool is one block; make another BrowserPool")
        with ExitStack() as stack:
            stack.enter_context(exit_on_signals())
            self._loop = stack.enter_context(LoopThread())
            stack.push(self._leave)  # also if an interrupt ends the wait for a pool that is open already
            self._loop.run(self._open())
            self._pid = os.getpid()
            self._stack = stack.pop_all()
        return self

    async def _open(self) -> None:
        await self._pool.__aenter__()
        self._entered = True

    def _leave(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        if self._entered and self._loop is not None:
            self._loop.run(self._close(kind, error, trace))

    async def _close(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._pool.__aexit__(kind, error, trace)
        finally:
            await end_leases(self._held)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if os.getpid() == self._pid:  # what the parent of a fork has rented is the parent's to stop
            try:
                self._stack.__exit__(kind, error, trace)
            finally:
                self._threads.join(LEAVING_SECONDS)

    def _running(self) -> LoopThread:
        if self._loop is None:
            raise PoolClosed("use `with sync.BrowserPool(...) as pool`: this pool is not open")
        if self._closed:
            raise PoolClosed("the pool is closed, its block was left")
        return self._loop

    # --- leases ---------------------------------------------------------------------------------------------------

    def tab(
        self, *, timeout: float | timedelta | None = None, wait_timeout: float | timedelta | None = None
    ) -> AbstractContextManager[Tab]:
        """Return a block with a tab of its own; arguments and errors as of `lease`."""
        return _first_tab(self.lease(timeout=timeout, wait_timeout=wait_timeout))

    def lease(
        self, *, timeout: float | timedelta | None = None, wait_timeout: float | timedelta | None = None
    ) -> AbstractContextManager[Lease]:
        """Return a block with a tab of its own; arguments and errors as of `cdpbridge.BrowserPool.lease`.

        When the block takes longer than `timeout`, calls on the tab raise `LeaseTimeout`, and so does the end of the block.
        """
        return self._leased(self._pool.lease(timeout=timeout, wait_timeout=wait_timeout))

    def _leased(self, block: AbstractAsyncContextManager[AsyncLease]) -> _Leased:
        return _Leased(lambda: Held(self._running(), self._held, block))

    # --- work -----------------------------------------------------------------------------------------------------

    def run(
        self,
        work: Callable[Concatenate[Tab, P], R],
        /,
        *arguments: P.args,
        **options: P.kwargs,
    ) -> R:
        """Return the result of `work(tab, ...)`, called in this thread with a tab of its own.

        Called again, with a tab of another browser, when its browser was lost, up to two times more. Errors as of
        `cdpbridge.BrowserPool.run`.
        """
        plain(work, "the work of a pool")
        left = RETRIES
        while True:
            block = self._leased(self._pool.lease())
            try:
                with block as lease:
                    return work(lease.tab, *arguments, **options)
            except Exception as error:
                if not left or not self._pool.repeats(block.lease, error):
                    raise
                left -= 1

    @overload
    def map(
        self,
        work: Callable[[Tab, T], R],
        items: Iterable[T],
        *,
        ordered: bool = ...,
        concurrency: int | None = ...,
        retries: int = ...,
        timeout: float | timedelta | None = ...,
        return_exceptions: Literal[False] = ...,
        progress: bool | ProgressHook = ...,
    ) -> Iterator[R]: ...

    @overload
    def map(
        self,
        work: Callable[[Tab, T], R],
        items: Iterable[T],
        *,
        ordered: bool = ...,
        concurrency: int | None = ...,
        retries: int = ...,
        timeout: float | timedelta | None = ...,
        return_exceptions: Literal[True],
        progress: bool | ProgressHook = ...,
    ) -> Iterator[R | Exception]: ...

    def map(
        self,
        work: Callable[[Tab, T], R],
        items: Iterable[T],
        *,
        ordered: bool = True,
        concurrency: int | None = None,
        retries: int = RETRIES,
        timeout: float | timedelta | None = None,
        return_exceptions: bool = False,
        progress: bool | ProgressHook = False,
    ) -> Iterator[Any]:
        """Return the result of `work(tab, item)` for each item, as an iterator; each once.

        Arguments and errors as of `cdpbridge.BrowserPool.map`. `work` is called in a thread, several at once; so are `items` and
        `progress`. Leaving the loop early ends what is running: its calls on tabs fail.
        """
        plain(work, "the work of a pool")
        loop = self._running()

        async def one(tab: AsyncTab, item: T) -> R:
            calls = Calls(loop)
            try:
                return await self._threads.run(lambda: work(Tab(tab, calls.run), item))
            finally:
                calls.end(
                    PoolClosed("the lease of this tab has ended: it took too long, or its map was left")
                )

        given: AsyncIterator[T] = (_SizedItems if isinstance(items, Sized) else _Items)(items, self._threads)
        results = self._pool.map(
            one,
            given,
            ordered=ordered,
            concurrency=concurrency,
            retries=retries,
            timeout=timeout,
            return_exceptions=True if return_exceptions else False,  # noqa: SIM210  # the overloads ask for a literal
            progress=progress,
        )
        return self._read(loop, results)

    def _read(self, loop: LoopThread, results: Any) -> Iterator[Any]:
        try:
            while (result := loop.run(anext(results, _END))) is not _END:
                yield result
        finally:
            if not self._closed and os.getpid() == self._pid:  # closing the pool has ended it
                loop.run(results.aclose())

    # --- what it costs, and how it goes ---------------------------------------------------------------------------

    @property
    def receipt(self) -> Receipt:
        """Return what the browsers stopped so far have cost together; see `cdpbridge.BrowserPool.receipt`."""
        return self._pool.receipt

    @property
    def stats(self) -> PoolStats:
        """Return counters, and what is going on now."""
        return self._pool.stats


class Lease:
    """What `BrowserPool.lease` gives: a tab, and the browser it is in. `cdpbridge.pool.Lease` without an event loop."""

    def __init__(self, lease: AsyncLease, calls: Calls) -> None:
        self._lease = lease
        self._calls = calls
        self._tab = Tab(lease.tab, calls.run)

    def __repr__(self) -> str:
        return repr(self._lease)

    @property
    def browser(self) -> Browser:
        """Shared with other leases: do not stop it."""
        return Browser(self._lease.browser, self._calls.run)

    @property
    def context_id(self) -> str | None:
        """Chrome's id of the lease's own browser context; None in the browser's default one."""
        return self._lease.context_id

    @property
    def lost(self) -> bool:
        """True if the browser, or the connection to it, was lost while the lease ran."""
        return self._lease.lost

    @property
    def tab(self) -> Tab:
        """Its first tab."""
        return self._tab

    def new_tab(self) -> Tab:
        """Open one more tab in the same context; it is closed with the lease. Errors as of `cdpbridge.pool.Lease.new_tab`."""
        return Tab(self._calls.run(self._lease.new_tab()), self._calls.run)


class _Leased(AbstractContextManager[Lease]):
    """The block that `lease` returns. Only once."""

    def __init__(self, hold: Callable[[], Held]) -> None:
        self._hold = hold
        self._held: Held | None = None
        self.lease: AsyncLease | None = None

    def __enter__(self) -> Lease:
        if self._held is not None:
            raise RuntimeError("this lease was entered already; ask the pool for another one")
        held = self._held = self._hold()
        self.lease = held.begin()
        return Lease(self.lease, held.calls)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._held is not None  # it was entered
        ended = self._held.end(error)
        if ended is not None and ended is not error:
            raise ended


@contextmanager
def _first_tab(block: AbstractContextManager[Lease]) -> Iterator[Tab]:
    with block as lease:
        yield lease.tab


class _Items(AsyncIterator[T]):
    """The items of a map, each taken in a thread: what gives them may block."""

    def __init__(self, items: Iterable[T], threads: Threads) -> None:
        self._given = items
        self._items = iter(items)
        self._threads = threads

    async def __anext__(self) -> T:
        item = await self._threads.run(lambda: next(self._items, _END))
        if item is _END:
            raise StopAsyncIteration
        return item  # type: ignore[return-value]  # mypy takes the end for an item


class _SizedItems(_Items[T]):
    """The same, where their number is known, for the progress."""

    def __len__(self) -> int:
        return len(self._given)  # type: ignore[arg-type]  # only such are given
