"""`BrowserPool`: leases on tabs of a few rented browsers, which are opened when needed and stopped when not."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import uuid
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Sized,
)
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import TracebackType
from typing import Any, Concatenate, Final, Literal, ParamSpec, Self, TypeVar, overload

from cdpbridge._guard import guard
from cdpbridge._pool_lease import Lease, browser_lost
from cdpbridge._pool_map import mapped
from cdpbridge._pool_progress import ProgressHook, progress_of
from cdpbridge._pool_schedule import Action, Grant, Open, Phase, Place, Refuse, Rules, Schedule, Stop, Ticket
from cdpbridge._shield import to_the_end
from cdpbridge.api import AsyncClient, Profile, ServerChoice, server_default
from cdpbridge.billing import Receipt
from cdpbridge.browser import Browser, open_browser
from cdpbridge.errors import (
    APIError,
    APIStatusError,
    CDPBridgeError,
    CDPError,
    ConfigurationError,
    LeaseTimeout,
    PoolClosed,
    RateLimitError,
    RentalError,
    ServerError,
    StopFailed,
)
from cdpbridge.providers import provider
from cdpbridge.tab import Tab

__all__ = ["BrowserPool", "Lease", "PoolStats"]

logger = logging.getLogger("cdpbridge")

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")

_IDLE_TIMEOUT: Final = timedelta(seconds=30)
_RETRIES: Final = 2


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A pool at one moment.

    Attributes:
        browsers: That take or hold leases now.
        opening: That are being rented.
        stopping: Whose stop is not confirmed yet.
        leases: Tabs in use.
        waiting: Leases that wait for a tab.
        opened: Browsers rented since the beginning.
        lost: Of these, that ended or were cut off while the pool needed them.
        granted: Leases given since the beginning.
        retried: Leases repeated because their browser was lost.
    """

    browsers: int
    opening: int
    stopping: int
    leases: int
    waiting: int
    opened: int
    lost: int
    granted: int
    retried: int


class BrowserPool:
    """Tabs for many tasks, on as few rented browsers as will do: `async with BrowserPool(size=4) as pool`.

    `async with pool.tab() as tab` waits for a tab, first come, first served. `pool.run` and `pool.map` also repeat the work on
    another browser when the one it ran on was lost. Leaving the block stops every browser, in every way out.

    Browsers are opened when leases wait, filled before another is opened, replaced before their paid time ends or after a
    fault, and stopped when idle, at the end of the minute that is paid anyway.

    Args:
        client: Where, as for `open_browser`. It is kept open for the pool's life.
        size: Browsers at once, at most, counted until their stop is confirmed.
        tabs_per_browser: Leases of one browser at once.
        profile: As for `open_browser`. All browsers start from it; the server saves one of those that run at once.
        proxy_country: As for `open_browser`.
        timeout: Paid time of each browser, as for `open_browser`.
        isolated: Whether each lease has a browser context of its own, with its own cookies, which is removed after it.
            Otherwise all leases of a browser share its default context, where the profile is. Default: True without a
            profile, False with one.
        lease_timeout: How long the block of a lease may take; a browser with less paid time left does not get it. Default:
            no limit; a lease that outlives its browser's paid time fails with it.
        wait_timeout: How long a lease may wait for its tab. Default: no limit.
        idle_timeout: How long a browser without leases is kept, before the minute it has begun is used up.
        retire_before: How long before the end of its paid time a browser gets no more leases. Default: a tenth of that time,
            a minute at most.
        rental: More arguments of `open_browser`, for each browser, e.g. `tariff`, `stop_timeout`.

    Attributes:
        receipts: One for each browser that was stopped.

    Raises:
        ConfigurationError: An argument is out of range, or contradicts another.
        StopFailed: When the block is left, if a stop could not be confirmed and the block itself did not fail.
    """

    def __init__(
        self,
        client: AsyncClient | str | None = None,
        *,
        size: int = 4,
        tabs_per_browser: int = 8,
        profile: str | uuid.UUID | Profile | None = None,
        proxy_country: str | ServerChoice | None = server_default,
        timeout: timedelta | None = None,
        isolated: bool | None = None,
        lease_timeout: timedelta | None = None,
        wait_timeout: timedelta | None = None,
        idle_timeout: timedelta = _IDLE_TIMEOUT,
        retire_before: timedelta | None = None,
        **rental: Any,
    ) -> None:
        _check(
            size=size,
            tabs_per_browser=tabs_per_browser,
            timeout=timeout,
            lease_timeout=lease_timeout,
            wait_timeout=wait_timeout,
            idle_timeout=idle_timeout,
            retire_before=retire_before,
        )
        unknown = rental.keys() - inspect.signature(open_browser).parameters.keys()
        if unknown:
            raise ConfigurationError(f"neither a pool nor open_browser has an argument {min(unknown)!r}")
        if isolated and profile is not None:
            raise ConfigurationError(
                "isolated leases see nothing of a profile: leave one of `isolated` and `profile` out"
            )
        self.receipts: list[Receipt] = []
        self._client = provider(client)
        self._rental = {
            "profile": profile,
            "proxy_country": proxy_country,
            "timeout": timeout,
            **rental,
        }
        self._isolated = profile is None if isolated is None else isolated
        self._lease_timeout = lease_timeout
        self._wait_timeout = wait_timeout
        self._capacity = size * tabs_per_browser
        self._schedule = Schedule(
            Rules(
                size,
                tabs_per_browser,
                idle_timeout.total_seconds(),
                None if retire_before is None else retire_before.total_seconds(),
            )
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._holder: asyncio.Task[Any] | None = None
        self._uses = AsyncExitStack()
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: dict[Ticket, asyncio.Future[Place]] = {}
        self._browsers: dict[Place, Browser] = {}
        self._openings: set[asyncio.Task[None]] = set()
        self._stops: set[asyncio.Task[None]] = set()
        self._unstopped: list[Browser] = []
        self._maps: set[asyncio.Task[None]] = set()
        self._opened = self._lost = self._granted = self._retried = 0

    def __repr__(self) -> str:
        now = self.stats
        state = "closed" if self._closed else f"{now.leases} leases on {now.browsers} browsers"
        return f"<BrowserPool {state}>"

    # --- the block ------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise RuntimeError("a pool is one block; make another BrowserPool")
        self._loop = asyncio.get_running_loop()
        self._holder = asyncio.current_task()
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
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for waiter in self._waiters.values():
            if not waiter.done():
                waiter.set_exception(PoolClosed("the pool was closed while a lease waited for a tab"))
        tasks = self._maps | self._openings
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        async with self._uses:
            for place in list(self._browsers):
                self._stop(place)
            if self._stops:
                await asyncio.wait(self._stops)
            failures = [each for each in [await self._stop_again(one) for one in self._unstopped] if each]
        for failed in failures:
            if error is None:
                raise failed
            logger.error("%s", failed)
            error.add_note(str(failed))

    async def _stop_again(self, browser: Browser) -> StopFailed | None:
        try:
            self.receipts.append(await browser.stop())
        except StopFailed as failed:
            return failed
        return None

    # --- leases ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def tab(
        self, *, timeout: timedelta | None = None, wait_timeout: timedelta | None = None
    ) -> AsyncIterator[Tab]:
        """A block with a tab of its own; see `lease`."""
        async with self.lease(timeout=timeout, wait_timeout=wait_timeout) as lease:
            yield lease.tab

    @asynccontextmanager
    async def lease(
        self, *, timeout: timedelta | None = None, wait_timeout: timedelta | None = None
    ) -> AsyncIterator[Lease]:
        """A block with a tab of its own, in a browser that may have other leases; both go with the block.

        Args:
            timeout: How long the block may take. Default: the pool's `lease_timeout`.
            wait_timeout: How long to wait for the tab. Default: the pool's.

        Raises:
            LeaseTimeout: There was no tab in time, or the block took too long; `waiting` tells which.
            PoolClosed: The pool's block was left, or not entered; also when that ends what the block was doing.
            APIError: No browser can be rented, and there is none to wait for.
        """
        limit = self._lease_timeout if timeout is None else timeout
        wait = self._wait_timeout if wait_timeout is None else wait_timeout
        _check(timeout=limit, wait_timeout=wait)
        place, lease = await self._furnished(limit, wait)
        deadline = asyncio.timeout(None if limit is None else limit.total_seconds())
        try:
            try:
                async with deadline:
                    yield lease
            except TimeoutError:
                if not deadline.expired() or limit is None:
                    raise
                raise LeaseTimeout(
                    f"the lease of a tab took more than {_seconds(limit)}", waiting=False
                ) from None
        except Exception as error:
            lease.lost = await browser_lost(lease.browser, error)
            if lease.lost and self._closed:
                raise PoolClosed("the pool was closed while this lease was held") from error
            raise
        finally:
            await self._give_back(place, lease)

    async def _furnished(self, limit: timedelta | None, wait: timedelta | None) -> tuple[Place, Lease]:
        """A place with a tab ready in it. A browser that is lost meanwhile is nobody's failure: the next one is tried."""
        need = 0.0 if limit is None else limit.total_seconds()
        try:
            async with asyncio.timeout(None if wait is None else wait.total_seconds()) as deadline:
                for left in reversed(range(_RETRIES + 1)):
                    place = await self._place(need)
                    lease = Lease(self._browsers[place], isolated=self._isolated)
                    try:
                        await lease.open()
                    except BaseException as error:
                        lease.lost = isinstance(error, CDPError) and await browser_lost(lease.browser, error)
                        await self._give_back(place, lease)
                        if not lease.lost or not left:
                            raise
                    else:
                        return place, lease
        except TimeoutError as error:
            if wait is None or not deadline.expired():
                raise
            raise self._late(wait) from (self._schedule.failure or error)
        raise AssertionError("the last try returns or raises")

    def _late(self, wait: timedelta) -> LeaseTimeout:
        now, rules = self.stats, self._schedule.rules
        why = (
            f"{now.leases} leases are held on {now.browsers} browsers, {now.opening} are being opened, "
            f"{now.stopping} stopped, and {now.waiting} other leases wait; the pool has {rules.size} browsers "
            f"of {rules.tabs} tabs"
        )
        if self._schedule.failure is not None:
            why += f"; the last browser could not be opened: {self._schedule.failure}"
        return LeaseTimeout(f"no tab within {_seconds(wait)}: {why}", waiting=True)

    async def _place(self, need: float) -> Place:
        if self._loop is None:
            raise PoolClosed("use `async with BrowserPool(...) as pool`: this pool is not open")
        if self._closed:
            raise PoolClosed("the pool is closed, its block was left")
        if self._loop is not asyncio.get_running_loop():
            raise RuntimeError("a pool belongs to the event loop that opened it")
        ticket = self._schedule.ask(need)
        waiter: asyncio.Future[Place] = self._loop.create_future()
        self._waiters[ticket] = waiter
        self._pump()
        try:
            return await waiter
        except asyncio.CancelledError:
            self._schedule.withdraw(ticket)
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:  # in the same moment
                self._schedule.released(waiter.result(), now=self._loop.time())
            self._pump()
            raise
        finally:
            del self._waiters[ticket]

    async def _give_back(self, place: Place, lease: Lease) -> None:
        try:
            cleared = self._closed or await lease.close()
        except asyncio.CancelledError:
            cleared = True  # nothing is known against it
            raise
        finally:
            now = asyncio.get_running_loop().time()
            self._schedule.released(place, now=now)
            if lease.lost and (lease.browser.connection.closed or not cleared):
                self._lose(place)
            elif not cleared:  # what it leaves behind would be seen by later leases, or fill the memory
                self._schedule.drain(place)
            self._pump()

    # --- work -----------------------------------------------------------------------------------------------------

    async def run(
        self,
        work: Callable[Concatenate[Tab, P], Awaitable[R]],
        /,
        *arguments: P.args,
        **options: P.kwargs,
    ) -> R:
        """What `work(tab, ...)` returns, with a tab of its own.

        When its browser, or the connection to it, is lost, `work` is called again, with a tab of another one, up to two times
        more. So what it does to the world may be done again. Its own failures are not repeated.

        Raises:
            Exception: What `work` raises, and what `lease` does.
        """
        return await self._run(lambda tab: work(tab, *arguments, **options), retries=_RETRIES, timeout=None)

    async def _run(
        self, work: Callable[[Tab], Awaitable[R]], *, retries: int, timeout: timedelta | None
    ) -> R:
        left = retries
        while True:
            lease: Lease | None = None
            try:
                async with self.lease(timeout=timeout) as lease:
                    return await work(lease.tab)
            except Exception as error:
                if lease is None or not lease.lost or not left or self._closed:
                    raise
                left -= 1
                self._retried += 1
                logger.info("browser %s was lost (%s); its work is repeated", lease.browser.id, error)

    @overload
    def map(
        self,
        work: Callable[[Tab, T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        ordered: bool = ...,
        concurrency: int | None = ...,
        retries: int = ...,
        timeout: timedelta | None = ...,
        return_exceptions: Literal[False] = ...,
        progress: bool | ProgressHook = ...,
    ) -> AsyncGenerator[R, None]: ...

    @overload
    def map(
        self,
        work: Callable[[Tab, T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        ordered: bool = ...,
        concurrency: int | None = ...,
        retries: int = ...,
        timeout: timedelta | None = ...,
        return_exceptions: Literal[True],
        progress: bool | ProgressHook = ...,
    ) -> AsyncGenerator[R | Exception, None]: ...

    async def map(
        self,
        work: Callable[[Tab, T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        ordered: bool = True,
        concurrency: int | None = None,
        retries: int = _RETRIES,
        timeout: timedelta | None = None,
        return_exceptions: bool = False,
        progress: bool | ProgressHook = False,
    ) -> AsyncGenerator[Any, None]:
        """The result of `work(tab, item)` for each item, as an async iterator; each once.

        Items are taken as tabs get free, and no more than twice `concurrency` ahead of the reader. Who leaves the loop early
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
        """
        workers = self._capacity if concurrency is None else concurrency
        if workers < 1 or retries < 0:
            raise ConfigurationError(
                f"concurrency must be at least 1 and retries at least 0, not {workers} and {retries}"
            )

        def started(task: asyncio.Task[None]) -> None:
            self._maps.add(task)
            task.add_done_callback(self._maps.discard)

        async def one(item: T) -> R:
            return await self._run(lambda tab: work(tab, item), retries=retries, timeout=timeout)

        total = len(items) if isinstance(items, Sized) else None
        with progress_of(progress, total, lambda: self.stats.browsers) as finished:
            results = mapped(
                one,
                items,
                concurrency=workers,
                ordered=ordered,
                return_exceptions=return_exceptions,
                finished=finished,
                started=started,
            )
            try:
                async for result in results:
                    yield result
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._closed and task is not None and not task.cancelling():
                    raise PoolClosed("the pool was closed before the map was at its end") from None
                raise
            finally:
                await results.aclose()

    # --- what it costs, and how it goes ---------------------------------------------------------------------------

    @property
    def receipt(self) -> Receipt:
        """What the browsers stopped so far have cost together.

        `booked` is the sum of the server's own figures, None when it did not give all of them. Rentals that run at once move
        the account balance together, so `account_change` is None.
        """
        booked = [each.booked for each in self.receipts if each.booked is not None]
        return Receipt(
            used=sum((each.used for each in self.receipts), timedelta(0)),
            billed_minutes=sum(each.billed_minutes for each in self.receipts),
            charged=sum((each.charged for each in self.receipts), Decimal(0)),
            refunded=sum((each.refunded for each in self.receipts), Decimal(0)),
            booked=sum(booked, Decimal(0)) if len(booked) == len(self.receipts) else None,
        )

    @property
    def stats(self) -> PoolStats:
        """Counters, and what is going on now."""
        phases = [place.phase for place in self._schedule.places]
        return PoolStats(
            browsers=phases.count(Phase.READY) + phases.count(Phase.DRAINING),
            opening=phases.count(Phase.OPENING),
            stopping=phases.count(Phase.STOPPING),
            leases=sum(place.leases for place in self._schedule.places),
            waiting=len(self._schedule.waiting),
            opened=self._opened,
            lost=self._lost,
            granted=self._granted,
            retried=self._retried,
        )

    # --- doing what is planned ------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Do what the schedule plans now, and come back when time alone changes something."""
        if self._closed or self._loop is None or guard.terminating:
            return
        now = self._loop.time()
        while actions := self._schedule.plan(now):
            for action in actions:
                self._do(action, now)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (look := self._schedule.next_look(now)) != math.inf:
            self._timer = self._loop.call_at(look, self._pump)

    def _do(self, action: Action, now: float) -> None:
        match action:
            case Grant(ticket, place):
                waiter = self._waiters[ticket]
                if waiter.done():  # cancelled, and its task has not had its turn yet
                    self._schedule.released(place, now=now)
                else:
                    self._granted += 1
                    waiter.set_result(place)
            case Refuse(ticket, error):
                if not self._waiters[ticket].done():
                    self._waiters[ticket].set_exception(_copy(error))
            case Open(place):
                self._spawn(self._openings, self._open(place))
            case Stop(place):
                self._stop(place)

    def _spawn(self, tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _open(self, place: Place) -> None:
        loop = asyncio.get_running_loop()
        before = loop.time()
        try:
            browser = await open_browser(self._client, **self._rental)
        except Exception as error:  # noqa: BLE001  # told to those who wait
            logger.warning("the pool could not open a browser: %s", error)
            self._schedule.not_opened(
                place,
                error,
                now=loop.time(),
                final=not _may_pass(error),
                full=isinstance(error, RateLimitError),
            )
        else:
            browser.holder = self._holder
            self._opened += 1
            self._browsers[place] = browser
            now = loop.time()
            # By the server's clock, as far as it goes with what we saw: it began between our request and now.
            ago = (datetime.now(UTC) - browser.started_at).total_seconds()
            started = min(max(now - ago, before), now)
            life = (browser.timeout_at - browser.started_at).total_seconds()
            self._schedule.opened(place, started=started, expires=started + life, now=now)
            browser.connection.on("disconnected", lambda: self._gone(place))
            if browser.connection.closed:
                self._lose(place)
        self._pump()

    def _gone(self, place: Place) -> None:
        self._lose(place)
        self._pump()

    def _lose(self, place: Place) -> None:
        if not self._closed and not place.lost and place.phase in {Phase.READY, Phase.DRAINING}:
            self._lost += 1
            self._schedule.lose(place)

    def _stop(self, place: Place) -> None:
        self._spawn(self._stops, self._stopped(place, self._browsers.pop(place)))

    async def _stopped(self, place: Place, browser: Browser) -> None:
        try:
            self.receipts.append(await browser.stop())
        except StopFailed as failed:
            logger.error("%s", failed)  # noqa: TRY400  # the message is meant for the user
            self._unstopped.append(browser)
        finally:
            self._schedule.stopped(place)
            self._pump()


def _may_pass(error: Exception) -> bool:
    """Whether another browser might be had after this failure: not with a wrong key, profile or plan."""
    if isinstance(error, APIStatusError):
        return isinstance(error, (RateLimitError, ServerError))
    return isinstance(error, (APIError, CDPError, RentalError))


def _copy(error: Exception) -> Exception:
    """The error for one of those who wait: a traceback grows with each who raises the same one."""
    if not isinstance(error, CDPBridgeError):
        return error
    copied = error.__class__.__new__(error.__class__, *error.args)
    copied.args = error.args
    copied.__dict__.update(error.__dict__)
    copied.__cause__ = error
    return copied


def _check(**given: int | timedelta | None) -> None:
    for name, value in given.items():
        if isinstance(value, timedelta):
            if value < timedelta(0) or (not value and name not in {"idle_timeout", "retire_before"}):
                raise ConfigurationError(f"{name} must be positive, not {value}")
        elif value is not None and value < 1:
            raise ConfigurationError(f"{name} must be at least 1, not {value}")
    timeout, lease = given.get("timeout"), given.get("lease_timeout")
    if isinstance(timeout, timedelta) and isinstance(lease, timedelta) and lease > timeout:
        raise ConfigurationError(f"lease_timeout ({lease}) must not be longer than timeout ({timeout})")


def _seconds(duration: timedelta) -> str:
    return f"{duration.total_seconds():g} s"
