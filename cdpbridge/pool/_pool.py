"""`BrowserPool`: leases on tabs, and work that is repeated when a browser is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Sized,
)
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import Any, Concatenate, Final, Literal, ParamSpec, Self, TypedDict, TypeVar, Unpack, overload

from cdpbridge._concurrency import TaskSet, to_the_end, unhindered
from cdpbridge._durations import waiting_seconds, waiting_time
from cdpbridge.api import AsyncClient
from cdpbridge.billing import Receipt
from cdpbridge.browser._tab import Tab
from cdpbridge.errors import CDPError, ConfigurationError, LeaseTimeout, PoolClosed, StopFailed
from cdpbridge.errors._base import seconds_text
from cdpbridge.rental._options import RentalOptions, check
from cdpbridge.rental._shutdown import guard

from ._fleet import Fleet
from ._lease import Lease, browser_lost
from ._map import mapped
from ._progress import ProgressHook, progress_of
from ._schedule import Phase, Place, Rules
from ._stats import PoolStats

__all__ = ["IDLE_TIMEOUT", "RETRIES", "BrowserPool"]

logger = logging.getLogger("cdpbridge")

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")

IDLE_TIMEOUT: Final = timedelta(seconds=30)
RETRIES: Final = 2


class _MapOptions(TypedDict, total=False):
    """Arguments of `BrowserPool.map` that do not change what it gives."""

    ordered: bool
    concurrency: int | None
    retries: int
    timeout: float | timedelta | None
    progress: bool | ProgressHook


class BrowserPool:
    """Tabs for many tasks, on as few rented browsers as possible: `async with BrowserPool(size=4) as pool`.

    `async with pool.tab() as tab` waits for a tab, first come, first served. `pool.run` and `pool.map` also repeat the work on
    another browser when the one it ran on was lost. Leaving the block stops every browser, in every way out.

    Browsers are opened when leases wait, filled before another is opened, replaced before their paid time ends or after a
    fault, and stopped when idle, at the end of the minute that is paid anyway.

    Args:
        provider: Where, as for `open_browser`. Its client is kept open as long as the pool's block.
        size: Browsers at once, at most, counted until their stop is confirmed.
        tabs_per_browser: Leases of one browser at once.
        isolated: True if each lease has a browser context of its own, with its own cookies, which is removed after it.
            Otherwise all leases of a browser share its default context, where the profile is. Default: True without a
            profile, False with one.
        lease_timeout: How long the block of a lease may take; a browser with less paid time left does not get it. Default:
            no limit; a lease that outlives its browser's paid time fails with it.
        wait_timeout: How long a lease may wait for its tab. Default: no limit.
        idle_timeout: How long a browser without leases is kept, before the minute it has begun is used up.
        retire_before: How long before the end of its paid time a browser gets no more leases. Default: a tenth of that time,
            a minute at most.
        rental: Arguments of `open_browser`, for each browser, e.g. `timeout`, `proxy_country`, `stop_timeout`. With a
            `profile`, all browsers start from it, and the server saves one of those that run at once.

    Attributes:
        receipts: One for each browser that was stopped.

    Raises:
        ConfigurationError: An argument is out of range, or contradicts another.
        StopFailed: When the block is left, if a stop could not be confirmed and the block itself did not fail.
    """

    def __init__(
        self,
        provider: AsyncClient | str | None = None,
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
        _check_counts(size=size, tabs_per_browser=tabs_per_browser)
        options = check(provider, rental)
        if isolated and options.profile is not None:
            raise ConfigurationError(
                "isolated leases see nothing of a profile: leave one of `isolated` and `profile` out"
            )
        self._client = options.client
        self._isolated = options.profile is None if isolated is None else isolated
        self._lease_timeout = _limit("lease_timeout", lease_timeout)
        self._wait_timeout = _limit("wait_timeout", wait_timeout)
        if (
            options.timeout is not None
            and self._lease_timeout is not None
            and self._lease_timeout > options.timeout
        ):
            raise ConfigurationError(
                f"lease_timeout ({self._lease_timeout}) must not be longer than timeout ({options.timeout})"
            )
        self._capacity = size * tabs_per_browser
        rules = Rules(
            size,
            tabs_per_browser,
            waiting_seconds("idle_timeout", idle_timeout, zero=True),
            None if retire_before is None else waiting_seconds("retire_before", retire_before, zero=True),
        )
        self._fleet = Fleet(options, rules)
        self.receipts = self._fleet.receipts
        self._uses = AsyncExitStack()
        self._maps = TaskSet(logger)
        self._removals = TaskSet(logger)
        self._retried = 0

    def __repr__(self) -> str:
        now = self.stats
        state = "closed" if self._fleet.closed else f"{now.leases} leases on {now.browsers} browsers"
        return f"<BrowserPool {state}>"

    # --- the block ------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._fleet.start()
        await self._uses.enter_async_context(self._client.share())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await to_the_end(self._close(error))
        finally:
            await guard.ended()

    async def _close(self, error: BaseException | None) -> None:
        with unhindered(f"ending the work of {self!r}"):
            await asyncio.gather(self._fleet.close(), self._maps.cancel())
        failures: list[StopFailed] = []
        try:
            failures = await self._fleet.stop()
            await self._removals.wait()
        finally:
            with unhindered(f"closing the client of {self!r}"):
                await self._uses.aclose()
        for failed in failures[1:] if error is None else failures:
            logger.error("%s", failed)
            if error is not None:
                error.add_note(str(failed))
        if failures and error is None:
            raise failures[0]

    # --- leases ---------------------------------------------------------------------------------------------------

    def tab(
        self, *, timeout: float | timedelta | None = None, wait_timeout: float | timedelta | None = None
    ) -> AbstractAsyncContextManager[Tab]:
        """Return a block with a tab of its own; arguments and errors as of `lease`."""
        return _first_tab(self.lease(timeout=timeout, wait_timeout=wait_timeout))

    def lease(
        self, *, timeout: float | timedelta | None = None, wait_timeout: float | timedelta | None = None
    ) -> AbstractAsyncContextManager[Lease]:
        """Return a block with a tab of its own, in a browser that may have other leases; both are released with the block.

        Args:
            timeout: How long the block may take. Default: the pool's `lease_timeout`.
            wait_timeout: How long to wait for the tab. Default: the pool's.

        Raises:
            LeaseTimeout: There was no tab in time, or the block took too long; `waiting` tells which.
            PoolClosed: The pool's block was left, or not entered; also when that ends what the block was doing.
            APIError: No browser can be rented, and there is none to wait for.
            ConfigurationError: A time is out of range; raised at the call.
        """
        limit = self._limit(timeout)
        wait = self._wait_timeout if wait_timeout is None else waiting_time("wait_timeout", wait_timeout)
        return self._leased(limit, wait)

    def _limit(self, timeout: float | timedelta | None) -> timedelta | None:
        return self._lease_timeout if timeout is None else waiting_time("timeout", timeout)

    @asynccontextmanager
    async def _leased(
        self, limit: timedelta | None, wait: timedelta | None, *, of_run: bool = False
    ) -> AsyncIterator[Lease]:
        """See `lease`.

        Args:
            of_run: Of `run` or `map`, which are called many times: no lease waits for a round trip that another can begin or end.
        """
        place, lease = await self._acquire(limit, wait, of_run=of_run)
        removed_later = False
        deadline = asyncio.timeout(None if limit is None else limit.total_seconds())
        try:
            try:
                async with deadline:
                    yield lease
            except TimeoutError:
                if not deadline.expired() or limit is None:
                    raise
                raise LeaseTimeout(
                    f"the lease of a tab took more than {seconds_text(limit)}", waiting=False
                ) from None
            removed_later = of_run and len(self._removals) < self._fleet.schedule.rules.tabs
        except Exception as error:
            lease.lost = await browser_lost(lease.browser, error)
            if lease.lost and self._fleet.closed:
                raise PoolClosed("the pool was closed while this lease was held") from error
            raise
        finally:
            if removed_later:
                self._fleet.release(place, lost=False, cleared=True)
                self._removals.start(self._remove(place, lease), "removing a tab")
            else:
                await self._release(place, lease)

    async def _remove(self, place: Place, lease: Lease) -> None:
        """Remove what a lease has created, whose place has been released: the round trip is not waited for."""
        if not self._fleet.closed and not await lease.close():
            self._fleet.drain(place)

    async def _acquire(
        self, limit: timedelta | None, wait: timedelta | None, *, of_run: bool
    ) -> tuple[Place, Lease]:
        """Wait for a place and open a tab in it. When its browser is lost meanwhile, try the next one."""
        need = 0.0 if limit is None else limit.total_seconds()
        try:
            async with asyncio.timeout(None if wait is None else wait.total_seconds()) as deadline:
                for left in reversed(range(RETRIES + 1)):
                    place = await self._fleet.place(need)
                    contexts = self._fleet.contexts[place] if self._isolated else None
                    lease = Lease(self._fleet.browsers[place], contexts)
                    try:
                        await lease.open(and_ahead=of_run)
                    except BaseException as error:
                        lease.lost = isinstance(error, CDPError) and await browser_lost(lease.browser, error)
                        await self._release(place, lease)
                        if not lease.lost or not left:
                            raise
                    else:
                        return place, lease
        except TimeoutError as error:
            if wait is None or not deadline.expired():
                raise
            raise self._late(wait) from (self._fleet.schedule.failure or error)
        raise AssertionError("the last try returns or raises")

    def _late(self, wait: timedelta) -> LeaseTimeout:
        now, schedule = self.stats, self._fleet.schedule
        why = (
            f"{now.leases} leases are held on {now.browsers} browsers, {now.opening} are being opened, "
            f"{now.stopping} stopped, and {now.waiting} other leases wait; the pool has {schedule.rules.size} browsers "
            f"of {schedule.rules.tabs} tabs"
        )
        if schedule.failure is not None:
            why += f"; the last browser could not be opened: {schedule.failure}"
        return LeaseTimeout(f"no tab within {seconds_text(wait)}: {why}", waiting=True)

    async def _release(self, place: Place, lease: Lease) -> None:
        try:
            cleared = self._fleet.closed or await lease.close()
        except asyncio.CancelledError:
            cleared = True  # no sign that it failed
            raise
        finally:
            lost = lease.lost and (lease.browser.connection.closed or not cleared)
            self._fleet.release(place, lost=lost, cleared=cleared)

    # --- work -----------------------------------------------------------------------------------------------------

    async def run(
        self,
        work: Callable[Concatenate[Tab, P], Awaitable[R]],
        /,
        *arguments: P.args,
        **options: P.kwargs,
    ) -> R:
        """Return the result of `work(tab, ...)`, called with a tab of its own.

        When its browser, or the connection to it, is lost, `work` is called again, with a tab of another one, up to two times
        more. So its effects elsewhere may happen twice. Work that fails by itself is not repeated.

        Raises:
            Exception: What `work` raises, and what `lease` does.
        """
        return await self._run(lambda tab: work(tab, *arguments, **options), retries=RETRIES, timeout=None)

    async def _run(
        self, work: Callable[[Tab], Awaitable[R]], *, retries: int, timeout: float | timedelta | None
    ) -> R:
        limit = self._limit(timeout)
        left = retries
        while True:
            lease: Lease | None = None
            try:
                async with self._leased(limit, self._wait_timeout, of_run=True) as lease:
                    return await work(lease.tab)
            except Exception as error:
                if not left or not self._repeats(lease, error):
                    raise
                left -= 1

    def _repeats(self, lease: Lease | None, error: Exception) -> bool:
        """Return True if work that failed with `error` is to be repeated, because its browser was lost; count it then."""
        if lease is None or not lease.lost or self._fleet.closed:
            return False
        self._retried += 1
        logger.info("browser %s was lost (%s); its work is repeated", lease.browser.id, error)
        return True

    @overload
    def map(
        self,
        work: Callable[[Tab, T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        return_exceptions: Literal[False] = ...,
        **options: Unpack[_MapOptions],
    ) -> AsyncGenerator[R, None]: ...

    @overload
    def map(
        self,
        work: Callable[[Tab, T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        return_exceptions: Literal[True],
        **options: Unpack[_MapOptions],
    ) -> AsyncGenerator[R | Exception, None]: ...

    def map(
        self,
        work: Callable[[Tab, T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        ordered: bool = True,
        concurrency: int | None = None,
        retries: int = RETRIES,
        timeout: float | timedelta | None = None,
        return_exceptions: bool = False,
        progress: bool | ProgressHook = False,
    ) -> AsyncGenerator[Any, None]:
        """Return the result of `work(tab, item)` for each item, as an async iterator; each once.

        Items are taken as tabs get free, and no more than twice `concurrency` ahead of the reader. Leaving the loop early
        ends what is running.

        Args:
            work: Called with a tab of its own; called again, with another, when its browser was lost.
            ordered: Results in the order of the items, or as they come.
            concurrency: Items in work at once. Default: `size * tabs_per_browser`.
            retries: How often an item is repeated because its browser was lost.
            timeout: For each call of `work`. Default: the pool's `lease_timeout`.
            return_exceptions: An item's failure takes its place among the results instead of ending them.
            progress: True for a progress bar on standard error; or a function, called with how many items are done and how
                many there are (None when `items` has no length).

        Raises:
            Exception: What `work` or `items` raises, and what `lease` does. A note says which item it was.
            ConfigurationError: An argument is out of range; raised at the call.
        """
        limit = _limit("timeout", timeout)
        workers = self._capacity if concurrency is None else concurrency
        if workers < 1 or retries < 0:
            raise ConfigurationError(
                f"concurrency must be at least 1 and retries at least 0, not {workers} and {retries}"
            )

        async def one(item: T) -> R:
            return await self._run(lambda tab: work(tab, item), retries=retries, timeout=limit)

        return self._mapped(
            one,
            items,
            concurrency=workers,
            ordered=ordered,
            return_exceptions=return_exceptions,
            progress=progress,
        )

    async def _mapped(
        self,
        one: Callable[[T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        concurrency: int,
        ordered: bool,
        return_exceptions: bool,
        progress: bool | ProgressHook,
    ) -> AsyncGenerator[R | Exception, None]:
        total = len(items) if isinstance(items, Sized) else None
        with progress_of(progress, total, lambda: self.stats.browsers) as finished:
            results = mapped(
                one,
                items,
                concurrency=concurrency,
                ordered=ordered,
                return_exceptions=return_exceptions,
                finished=finished,
                start=lambda workers: self._maps.start(workers, "a map of the pool"),
            )
            try:
                async for result in results:
                    yield result
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._fleet.closed and task is not None and not task.cancelling():
                    raise PoolClosed("the pool was closed before the map was at its end") from None
                raise
            finally:
                await results.aclose()

    # --- what it costs, and how it goes ---------------------------------------------------------------------------

    @property
    def receipt(self) -> Receipt:
        """Return what the browsers stopped so far have cost together.

        `booked` is the sum of the server's own figures, None when it did not give all of them. Rentals that run at once move
        the account balance together, so `account_change` is None.
        """
        return replace(Receipt.total(self.receipts), account_change=None)

    @property
    def stats(self) -> PoolStats:
        """Return counters, and what is going on now."""
        phases = [place.phase for place in self._fleet.schedule.places]
        return PoolStats(
            browsers=phases.count(Phase.READY) + phases.count(Phase.DRAINING),
            opening=phases.count(Phase.OPENING),
            stopping=phases.count(Phase.STOPPING),
            leases=sum(place.leases for place in self._fleet.schedule.places),
            waiting=len(self._fleet.schedule.waiting),
            opened=self._fleet.opened,
            lost=self._fleet.lost,
            granted=self._fleet.granted,
            retried=self._retried,
        )


@asynccontextmanager
async def _first_tab(block: AbstractAsyncContextManager[Lease]) -> AsyncIterator[Tab]:
    async with block as lease:
        yield lease.tab


def _check_counts(**given: object) -> None:
    for name, value in given.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise ConfigurationError(f"{name} must be a whole number, not {value!r}")
        if value < 1:
            raise ConfigurationError(f"{name} must be at least 1, not {value}")


def _limit(name: str, value: float | timedelta | None) -> timedelta | None:
    return None if value is None else waiting_time(name, value)
