"""`Rentals`: every browser that is rented, from the order to its end. The one place where states change.

The state table is in `cdpbridge._lifecycle`. Each end goes through `_end`, which the table lets through once, and
through `Store.settle`, whose conditional update books once, so a stop, a timeout and a crash may race as they like.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4
from weakref import WeakValueDictionary

from sqlalchemy.exc import SQLAlchemyError

from cdpbridge._clock import Clock
from cdpbridge._concurrency import TaskSet, to_the_end
from cdpbridge._lifecycle import Deadline, EndReason, Signal, State
from cdpbridge.errors import BrowserStartFailed
from cdpbridge.server._metrics import Metrics
from cdpbridge.server.hosts import BrowserHosts, BrowserSpec, Limit, UnfinishedStop
from cdpbridge.server.profiles import ProfileVersion
from cdpbridge.server.settings import Settings
from cdpbridge.server.store import Browser, KeyTaken, Store

from ._adoption import Adoption
from ._elsewhere import Elsewhere
from ._endings import CLOSE_FRAMES, Endings, Recorders
from ._heart import Heart
from ._order import Order
from ._pressure import Pressure
from ._recovery import FindUpload
from ._rental import OnEnd, Rental
from ._starts import KeyReused, StartWithdrawn, wait_for
from ._timers import Timers

__all__ = ["Rentals"]

logger = logging.getLogger("cdpbridge.server")

_NO_ID: Final = UUID(int=0)


def utc_now() -> datetime:
    """Return the wall clock's time; only for dates in answers and records."""
    return datetime.now(UTC)


_LIMITS: Final[Mapping[Limit, Signal]] = {
    "disk": Signal.DISK_LIMIT,
    "memory": Signal.MEMORY_LIMIT,
    "processes": Signal.PROCESS_LIMIT,
}


def _no_listener(_browser_id: UUID, _reason: EndReason) -> None:
    """Default of `on_end`."""


class Rentals:
    """Every browser of this server that is not stopped.

    Args:
        store: Open.
        hosts: Where browsers run.
        settings: Of the heartbeat.
        forget_profile: Removes a profile's saved state.
        discard_version: Removes an archive of a profile that does not count.
        find_upload: Returns what a browser of a server that has ended has uploaded of its profile.
        pressure: Refuses browsers that the machine has no capacity for.
        metrics: Counts what happens.
        recorders: For orders with `recording`.
        readable: Files and folders of this machine that browsers may read whose order does not say.
        clock: Where deadlines come from; default: the event loop.
        wall: Where dates come from; they decide nothing.
    """

    def __init__(
        self,
        store: Store,
        hosts: BrowserHosts,
        settings: Settings,
        *,
        forget_profile: Callable[[UUID], Awaitable[None]],
        discard_version: Callable[[UUID, str], Awaitable[None]],
        find_upload: FindUpload,
        pressure: Pressure,
        metrics: Metrics,
        recorders: Recorders | None = None,
        readable: tuple[Path, ...] = (),
        clock: Clock | None = None,
        wall: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._hosts = hosts
        self._pressure = pressure
        self._metrics = metrics
        self._recorders = recorders
        self._readable = readable
        self._clock: Clock = clock or asyncio.get_running_loop()
        self._wall = wall
        self._elsewhere = Elsewhere(
            store,
            start_within=timedelta(seconds=settings.queue_timeout_seconds) + settings.start_timeout,
        )
        self._endings = Endings(
            store,
            hosts,
            forget_profile=forget_profile,
            find_upload=find_upload,
            discard_version=discard_version,
            metrics=metrics,
            recorders=recorders,
            save_first=settings.storage_url is not None or not store.one_writer,
            wall=wall,
        )
        self._rentals: dict[UUID, Rental] = {}
        # What ends them, until their records are closed: that is later than nothing of them runs.
        self._being_closed: dict[UUID, asyncio.Task[None]] = {}
        self._turns: WeakValueDictionary[tuple[UUID, str], asyncio.Lock] = WeakValueDictionary()
        self._charges = TaskSet(logger)
        self._timers = Timers(
            store,
            clock=self._clock,
            wall=wall,
            charges=self._charges,
            expire=partial(self._end, signal=Signal.EXPIRE),
        )
        self._adoption = Adoption(
            store,
            hosts,
            self._rentals,
            self._timers,
            clock=self._clock,
            recorders=recorders,
            on_exit=self._exited,
            on_limit=self._over_limit,
            end=self._end,
            begin_end=self._begin_end,
        )
        self._heart = Heart(
            store,
            hosts,
            settings,
            self._endings,
            self._rentals,
            clock=self._clock,
            wall=wall,
            end=self._end,
            stop=self._stop,
            forget=self._adoption.forget,
            find_upload=find_upload,
            adopt=self._adoption.adopt,
        )
        self._closing = False

    # --- the server's own start and end ---------------------------------------------------------------------------

    async def open(self) -> None:
        """Recover from an unclean shutdown, then start the heartbeat."""
        await self._heart.join()
        self._heart.start()

    async def close(self) -> None:
        """Hand over the browsers of workers; stop every other one, refund it, save its profile. No new one starts any more."""
        self._closing = True
        starts = [rental.start for rental in self._rentals.values()]
        for start in starts:
            if not start.task.done():
                start.cancel()
        if starts:
            await asyncio.wait({start.task for start in starts})
        await self._adoption.hand_over(self._heart.hand_over)
        ends = [self._end(rental, Signal.LOST) for rental in list(self._rentals.values())]
        await asyncio.gather(*(end for end in ends if end is not None))
        await self._charges.wait()
        await self._endings.rests.wait()
        await self._heart.close()
        try:
            await self._endings.retry()
            await self._heart.leave()
        except SQLAlchemyError:
            logger.exception("the database cannot be written; the next start settles what is missing")
        await self._hosts.close()

    # --- create ---------------------------------------------------------------------------------------------------

    async def create(
        self,
        project_id: UUID,
        order: Order,
        *,
        client_left: Callable[[], Awaitable[None]],
        key: str | None = None,
        body_hash: str = "",
        on_end: OnEnd = _no_listener,
    ) -> Browser:
        """Start a browser, charge its first hour, and return it.

        Args:
            project_id: Who pays.
            order: What to start.
            client_left: Returns when the client has left; the browser is rolled back then.
            key: The request's `Idempotency-Key`: the same key and body give the same browser, started once.
            body_hash: Of the request's body.
            on_end: Called once when the browser begins to end, with its id and the reason. A repeated request adds none.

        Raises:
            AdmissionRefused: No slot, or no credits.
            BrowserStartFailed: Nothing was charged.
            KeyReused: The key came with another body before.
            StartWithdrawn: It was stopped while it started.
            ClientLeft: The client left.
        """
        if key is None:
            rental = await self._begin(project_id, order, None, body_hash, on_end)
            return await self._started(rental, client_left)
        while True:
            async with self._turn(project_id, key):
                known = await self._rental_of(project_id, key)
                earlier = None if known is not None else await self._store.repeated(project_id, key)
                if earlier is None:
                    known = known or await self._begin(project_id, order, key, body_hash, on_end)
                    _check_body(known.start.body_hash, body_hash)
                else:
                    _check_body(earlier[0], body_hash)
            if known is None:
                assert earlier is not None  # one of them is there
                browser = await self._elsewhere.ready(earlier[1], client_left)
                if browser is not None:
                    return browser
            elif known.start.succeeded:
                known.start.delivered = True
                return await self._store.rental(known.id) or known.start.task.result()
            else:
                with suppress(KeyTaken):  # by a request that another server got at the same time
                    return await self._started(known, client_left)

    @asynccontextmanager
    async def _turn(self, project_id: UUID, key: str) -> AsyncIterator[None]:
        """Let one request with this key at a time find out whether it is the first."""
        lock = self._turns.setdefault((project_id, key), asyncio.Lock())
        async with lock:
            yield

    async def _rental_of(self, project_id: UUID, key: str) -> Rental | None:
        """Return the rental of an `Idempotency-Key`; wait first for the end of one that is being rolled back."""
        found = (rental for rental in self._rentals.values() if rental.key == (project_id, key))
        rental = next(found, None)
        if rental is None or not rental.withdrawn:
            return rental
        await rental.ended()
        return None

    async def _started(self, rental: Rental, client_left: Callable[[], Awaitable[None]]) -> Browser:
        return await wait_for(rental.start, client_left, discard=self._discard)

    async def _begin(
        self, project_id: UUID, order: Order, key: str | None, body_hash: str, on_end: OnEnd
    ) -> Rental:
        if not self._closing:
            await self._pressure.check(
                self._hosts.release_ready, takes_ready=partial(self._takes_ready, order)
            )
        if self._closing:
            raise StartWithdrawn("the server is stopping")
        rental = Rental(
            project_id,
            uuid4(),
            order.profile_id,
            key=None if key is None else (project_id, key),
            body_hash=body_hash,
            run=lambda rental: self._run(project_id, rental, order),
            on_end=on_end,
        )
        self._rentals[rental.id] = rental
        return rental

    def _takes_ready(self, order: Order) -> bool:
        """Return True if there is a ready browser for it, and for each order before it that has none yet."""
        before = sum(not rental.start.task.done() for rental in self._rentals.values())
        return before < self._hosts.ready and self._hosts.fits_ready(_spec(_NO_ID, order, self._readable))

    async def _run(self, project_id: UUID, rental: Rental, order: Order) -> Browser:
        """Start a rental and charge its first hour; roll everything back on an error or a cancellation."""
        began = self._clock.time()
        try:
            if order.profile_id is not None:
                await self._endings.rests.profile_free(self._rentals.values(), order.profile_id)
            await self._endings.rests.slot(self._rentals.values(), project_id, order.limit)
            await to_the_end(self._reserve(project_id, rental, order))
            if order.profile_id is not None:
                found = await self._store.profile_version(order.profile_id)
                rental.profile_version = ProfileVersion(*found)
            await self._hosts.start(
                replace(
                    _spec(rental.id, order, self._readable),
                    profile_version=rental.profile_version,
                    project_id=rental.project_id,
                    generation=rental.generation,
                ),
                on_exit=self._exited,
                on_limit=self._over_limit,
            )
            browser = await to_the_end(self._activate(rental, order))
        except BaseException as error:
            if isinstance(error, BrowserStartFailed):
                self._metrics.start_failed()
            await to_the_end(self._undo(rental, error))
            if isinstance(error, asyncio.CancelledError) and rental.start.cancelled:
                raise StartWithdrawn("the browser was stopped while it was starting") from error
            raise
        if order.proxy_simulated:
            logger.warning(
                "browser %s: its proxy country %r is simulated: it connects directly, from where this server is; "
                "give the country an upstream in the setting `proxies`",
                rental.id,
                order.proxy_country,
            )
        self._metrics.started(timedelta(seconds=self._clock.time() - began))
        return browser

    async def profile_saved(self, project_id: UUID, profile_id: UUID | None = None) -> None:
        """Wait until what ended browsers have left of a profile is saved, or of each of a project; not for ever."""
        await self._endings.rests.seen(project_id, profile_id)

    async def _reserve(self, project_id: UUID, rental: Rental, order: Order) -> None:
        await self._store.reserve(
            project_id,
            rental.id,
            profile_id=order.profile_id,
            proxy_country=order.proxy_country,
            timeout=order.timeout,
            tariff=order.tariff,
            limit=order.limit,
            now=self._wall(),
            idempotency=None if rental.key is None else (rental.key[1], rental.start.body_hash),
            labels=order.labels,
            agent_session=order.agent_session,
            recording=order.recording,
            key_id=order.key_id,
            proxy_simulated=order.proxy_simulated,
            ignored_fields=order.ignored_fields,
            top_up=order.top_up,
            allowed_hosts=order.hosts.allowed_hosts,
            denied_hosts=order.hosts.denied_hosts or None,
        )
        # After it is in the books: what ends with the program is looked for there.
        if order.orderer_left():
            raise StartWithdrawn("the program that ordered the browser has ended")

    async def _activate(self, rental: Rental, order: Order) -> Browser:
        placement = self._hosts.placement(rental.id)
        if placement is None or rental.exited.is_set():
            raise BrowserStartFailed("the browser exited as soon as it had started")
        now = self._clock.time()
        browser = await self._store.activate(
            rental.id,
            started_at=self._wall(),
            profile_writable=placement.profile_writable,
            uptime=self._heart.uptime(now),
            place_id=placement.place_id,
        )
        if browser is None:
            raise StartWithdrawn("the browser was stopped while it was starting")
        rental.saves_profile = bool(browser.profile_writable)
        rental.life.take(Signal.STARTED)
        rental.deadline = Deadline(now, order.timeout)
        self._timers.arm(rental, now)
        if order.recording and self._recorders is not None:
            self._recorders.start(rental.id)
        # It may have exited while that was written.
        if rental.exited.is_set():
            self._end(rental, Signal.EXIT)
        return browser

    async def _undo(self, rental: Rental, error: BaseException) -> None:
        # It may have been cancelled in the moment it was ready.
        if rental.is_active:
            await self._discard(rental.id)
            return
        rental.life.take(Signal.STOP if isinstance(error, asyncio.CancelledError) else Signal.FAIL)
        # A stack runs each step, also when the one before fails.
        async with AsyncExitStack() as steps:
            steps.callback(self._rentals.pop, rental.id, None)
            steps.push_async_callback(self._endings.withdraw, rental, error)
            frame = CLOSE_FRAMES[EndReason.STOPPED_BY_CALLER]
            report = await self._hosts.stop(rental.id, frame, save=False)
            if isinstance(report, UnfinishedStop):
                await report.rest.remove()

    async def _discard(self, browser_id: UUID) -> None:
        """Stop a browser that no client has received, and refund all of it."""
        rental = self._rentals.get(browser_id)
        if rental is None:
            return
        try:
            if not await self._store.take_back(browser_id):
                return
        except SQLAlchemyError:
            logger.exception("browser %s is taken back without a look at its record", browser_id)
        rental.discarded = True
        end = self._end(rental, Signal.STOP)
        if end is not None:
            await asyncio.wait({end})

    # --- what others read ---------------------------------------------------------------------------------------

    @property
    def closing(self) -> bool:
        """True once the server is stopping."""
        return self._closing

    def states(self) -> dict[State, int]:
        """Return the number of browsers in each state but `stopped`."""
        states = [rental.life.state for rental in self._rentals.values()]
        return {state: states.count(state) for state in State if state is not State.STOPPED}

    def running(self, browser_id: UUID) -> bool:
        """Return True if a browser is active, as of this moment."""
        rental = self._rentals.get(browser_id)
        return rental is not None and rental.is_active

    # --- the end --------------------------------------------------------------------------------------------------

    async def stop(self, project_id: UUID, browser_id: UUID) -> Browser | None:
        """Stop a browser and return its record, also when it has ended before; None when the project has no such browser."""
        rental = self._rentals.get(browser_id)
        if rental is None or rental.project_id != project_id:
            if (closing := self._being_closed.get(browser_id)) is not None:
                await asyncio.wait({closing})
            return await self._elsewhere.stopped(project_id, browser_id)
        await self._stop(rental)
        return rental.record or await self._store.browser(project_id, browser_id)

    async def _stop(self, rental: Rental) -> None:
        if rental.life.state is State.STARTING:
            rental.start.cancel()
            await asyncio.wait({rental.start.task})
        end = self._end(rental, Signal.STOP)
        if end is not None:
            await asyncio.wait({end})

    def _exited(self, browser_id: UUID) -> None:
        rental = self._rentals.get(browser_id)
        if rental is not None:
            rental.exited.set()
            self._end(rental, Signal.WORKER_LOST if self._hosts.lost(browser_id) else Signal.EXIT)

    def _over_limit(self, browser_id: UUID, limit: Limit) -> None:
        rental = self._rentals.get(browser_id)
        if rental is not None:
            self._end(rental, _LIMITS[limit])

    def _end(self, rental: Rental, signal: Signal) -> asyncio.Task[None] | None:
        """End an active browser, once; return the task that does it, None for one that has not run."""
        if rental.is_active and rental.life.take(signal):
            rental.cancel_timers()
            self._begin_end(rental)
            rental.on_end(rental.id, rental.reason)
        return rental.ending

    def _begin_end(self, rental: Rental, *, settled: bool = False) -> None:
        """Begin what follows on the state `stopping`; `settled` if another server has booked its part."""
        work = self._endings.run(
            rental,
            rental.used(self._clock.time()),
            stopped=lambda: self._rentals.pop(rental.id, None),
            settled=settled,
        )
        rental.ending = asyncio.get_running_loop().create_task(work)
        self._being_closed[rental.id] = rental.ending
        rental.ending.add_done_callback(lambda _: self._being_closed.pop(rental.id))


def _check_body(earlier_hash: str, body_hash: str) -> None:
    if earlier_hash != body_hash:
        raise KeyReused("this Idempotency-Key was used with another body")


def _spec(browser_id: UUID, order: Order, readable: tuple[Path, ...]) -> BrowserSpec:
    return BrowserSpec(
        browser_id,
        order.profile_id,
        order.proxy,
        trusted_proxy=not order.own_proxy,
        hosts=tuple(lists for lists in (order.hosts, order.profile_hosts) if lists),
        agent=order.agent_session is not None,
        block_ads=order.block_ads,
        start_url=order.start_url,
        screen=order.screen,
        ignore_certificate_errors=order.ignore_certificate_errors,
        readable=readable if order.readable is None else order.readable,
        lifetime=order.timeout,
    )
