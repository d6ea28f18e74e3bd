"""`Rentals`: what is rented, from the order to the refund. The one place where states change.

The state table is in `cdpbridge._lifecycle`. Each end goes through `_end`, which the table lets through once, and
through `Store.settle`, whose conditional update books once, so a stop, a timeout and a crash may race as they like.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from uuid import UUID, uuid4

from sqlalchemy.exc import SQLAlchemyError

from cdpbridge._clock import Clock, TimerHandle
from cdpbridge._concurrency import TaskSet, to_the_end
from cdpbridge._lifecycle import Deadline, EndReason, Lifecycle, Signal, State
from cdpbridge.errors import BrowserStartFailed
from cdpbridge.server._metrics import Metrics
from cdpbridge.server._settings import Settings
from cdpbridge.server.hosts import BrowserHosts, BrowserSpec, Goodbye, StopReport
from cdpbridge.server.store import Browser, Store

from ._order import Order
from ._pressure import Pressure
from ._recovery import recover
from ._starts import ClientGone, KeyReused, Start, StartWithdrawn, wait_for

__all__ = ["ClientGone", "KeyReused", "Recorders", "Rentals", "StartWithdrawn"]

logger = logging.getLogger("cdpbridge.server")

# RFC 6455 section 7.4.1: 1001 is an endpoint going away, 1011 a server that met an unexpected condition.
_GOODBYES: Final = {
    EndReason.STOPPED_BY_CALLER: Goodbye(1001, "session stopped"),
    EndReason.EXPIRED: Goodbye(1001, "session expired"),
    EndReason.SERVER_LOST: Goodbye(1001, "server stopping"),
    EndReason.BROWSER_EXITED: Goodbye(1011, "browser exited"),
    # RFC 6455 section 7.4.1: 1008 is a violated policy.
    EndReason.DISK_LIMIT: Goodbye(1008, "disk limit reached"),
}
# The next hour starts with the first instant after the full one; a timer may be early by the clock's resolution.
_AFTER_THE_HOUR_SECONDS: Final = 0.001
# A new rental waits so long for the profile that one on its way out is saving.
_PROFILE_WAIT_SECONDS: Final = 10.0


class Recorders(Protocol):
    """Who records browsers."""

    def start(self, browser_id: UUID) -> None:
        """Record a browser that has just started."""

    async def finish(self, browser_id: UUID, *, keep: bool) -> None:
        """End a recording, if there is one, in bounded time; `keep` says whether anybody will ask for it."""


class _Rental:
    def __init__(self, browser_id: UUID, profile_id: UUID | None) -> None:
        self.id = browser_id
        self.profile_id = profile_id
        self.life = Lifecycle()
        self.start: Start | None = None
        self.exited = asyncio.Event()
        self.void = False
        self.deadline: Deadline | None = None
        self.timers: dict[str, TimerHandle] = {}
        self.ending: asyncio.Task[None] | None = None

    def used(self, now: float) -> timedelta:
        return self.deadline.used(now) if self.deadline else timedelta(0)

    def cancel_timers(self) -> None:
        for timer in self.timers.values():
            timer.cancel()
        self.timers.clear()


def utc_now() -> datetime:
    """The wall clock; only for what the outside is told."""
    return datetime.now(UTC)


class Rentals:
    """Every browser of this server that is not stopped.

    Args:
        forget_profile: Removes a profile's saved state.
        pressure: Says whether there is room for another browser.
        metrics: Counts what happens.
        recorders: For orders with `recording`.
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
        pressure: Pressure,
        metrics: Metrics,
        recorders: Recorders | None = None,
        clock: Clock | None = None,
        wall: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._hosts = hosts
        self._forget_profile = forget_profile
        self._pressure = pressure
        self._metrics = metrics
        self._recorders = recorders
        self._clock: Clock = clock or asyncio.get_running_loop()
        self._wall = wall
        self._beat = timedelta(seconds=settings.heartbeat_seconds)
        self._rentals: dict[UUID, _Rental] = {}
        self._starts: dict[tuple[UUID, str], Start] = {}
        self._tasks = TaskSet(logger)
        self._unsettled: dict[UUID, tuple[_Rental, timedelta]] = {}
        self._heart: asyncio.Task[None] | None = None
        self._closing = False
        self.on_end: Callable[[UUID, EndReason], object] = lambda _id, _reason: None
        """Called once when a running browser is on its way out, and why."""
        hosts.on_exit = self._exited
        hosts.on_limit = self._over_limit

    # --- the server's own start and end ---------------------------------------------------------------------------

    async def open(self) -> None:
        """Put in order what a killed server left, then begin."""
        await recover(self._store, self._hosts, wall=self._wall)
        self._heart = asyncio.get_running_loop().create_task(self._heartbeat())

    async def close(self) -> None:
        """Stop every browser, refund it, save its profile. No new one starts any more."""
        self._closing = True
        starts = [rental.start for rental in self._rentals.values() if rental.start is not None]
        for start in starts:
            if not start.task.done():
                start.give_up()
        if starts:
            await asyncio.wait({start.task for start in starts})
        ends = [self._end(rental, Signal.LOST) for rental in list(self._rentals.values())]
        await asyncio.gather(*(end for end in ends if end is not None))
        await self._tasks.wait()
        if self._heart is not None:
            self._heart.cancel()
            await asyncio.wait({self._heart})
            self._heart = None
        await self._settle_late()
        await self._hosts.close()

    # --- create ---------------------------------------------------------------------------------------------------

    async def create(
        self,
        project_id: UUID,
        order: Order,
        *,
        gone: Callable[[], Awaitable[None]],
        key: str | None = None,
        body_hash: str = "",
    ) -> Browser:
        """A running browser, charged for its first hour.

        Args:
            gone: Returns when the client has left; then the browser is undone.
            key: The request's `Idempotency-Key`: the same key and body give the same browser, started once.

        Raises:
            AdmissionRefused: No slot, or no credits.
            BrowserStartFailed: Nothing was charged.
            KeyReused: The key came with another body before.
            StartWithdrawn: It was stopped while it started.
            ClientGone: The client left.
        """
        if key is None:
            return await self._wait(self._begin(project_id, order, None, body_hash), gone)
        reread = False
        while True:
            start = self._starts.get((project_id, key))
            if start is None:
                earlier = await self._store.repeated(project_id, key)
                start = self._starts.get((project_id, key))  # another request may have begun it meanwhile
                if start is None and earlier is not None:
                    if earlier[0] != body_hash:
                        raise KeyReused("this Idempotency-Key was used with another body")
                    rental = self._rentals.get(earlier[1].id)
                    if rental is not None and rental.void:  # on its way out: then the key is free again
                        if rental.ending is not None:
                            await asyncio.wait({rental.ending})
                        continue
                    if rental is None and earlier[1].finished_at is None and not reread:
                        reread = True  # it has ended since: then the key may be free
                        continue
                    if rental is not None and rental.start is not None:
                        rental.start.delivered = True
                    return earlier[1]
                if start is None:
                    start = self._begin(project_id, order, key, body_hash)
            if start.given_up:
                await asyncio.wait({start.task})
                continue
            if start.body_hash != body_hash:
                raise KeyReused("this Idempotency-Key was used with another body")
            return await self._wait(start, gone)

    async def _wait(self, start: Start, gone: Callable[[], Awaitable[None]]) -> Browser:
        return await wait_for(start, gone, void=self._void)

    def _begin(self, project_id: UUID, order: Order, key: str | None, body_hash: str) -> Start:
        if self._closing:
            raise StartWithdrawn("the server is stopping")
        self._pressure.check()
        rental = _Rental(uuid4(), order.profile_id)
        idempotency = None if key is None else (key, body_hash)
        start = Start(rental.id, body_hash, self._run(project_id, rental, order, idempotency))
        rental.start = start
        self._rentals[rental.id] = rental
        if key is not None:
            self._starts[project_id, key] = start
            start.task.add_done_callback(lambda _task: self._starts.pop((project_id, key), None))
        return start

    async def _run(
        self, project_id: UUID, rental: _Rental, order: Order, idempotency: tuple[str, str] | None
    ) -> Browser:
        """From the order to a charged browser, or to nothing at all."""
        began = self._clock.time()
        try:
            await self._profile_free(order.profile_id)
            await to_the_end(
                self._store.reserve(
                    project_id,
                    rental.id,
                    profile_id=order.profile_id,
                    proxy_country=order.proxy_country,
                    timeout=order.timeout,
                    tariff=order.tariff,
                    limit=order.limit,
                    now=self._wall(),
                    idempotency=idempotency,
                    labels=order.labels,
                    agent_session=order.agent_session,
                    recording=order.recording,
                    key_id=order.key_id,
                    proxy_simulated=order.proxy_simulated,
                    ignored_fields=order.ignored_fields,
                )
            )
            await self._hosts.start(
                BrowserSpec(
                    rental.id,
                    order.profile_id,
                    order.proxy,
                    trusted_proxy=not order.own_proxy,
                    agent=order.agent_session is not None,
                    block_ads=order.block_ads,
                    start_url=order.start_url,
                    screen=order.screen,
                    ignore_certificate_errors=order.ignore_certificate_errors,
                )
            )
            browser = await to_the_end(self._activate(rental, order))
        except BaseException as error:
            if isinstance(error, BrowserStartFailed):
                self._metrics.start_failed()
            await to_the_end(self._undo(rental, error))
            if isinstance(error, asyncio.CancelledError):
                raise StartWithdrawn("the browser was stopped while it was starting") from None
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

    async def _profile_free(self, profile_id: UUID | None) -> None:
        """Wait for a browser on its way out that is just saving this profile, so that the new one sees it all."""
        ends = {
            rental.ending
            for rental in self._rentals.values()
            if rental.ending is not None and profile_id is not None and rental.profile_id == profile_id
        }
        if ends:
            await asyncio.wait(ends, timeout=_PROFILE_WAIT_SECONDS)

    async def _activate(self, rental: _Rental, order: Order) -> Browser:
        placement = self._hosts.placement(rental.id)
        if placement is None or rental.exited.is_set():
            raise BrowserStartFailed("the browser exited as soon as it had started")
        now = self._clock.time()
        browser = await self._store.activate(
            rental.id, started_at=self._wall(), profile_writable=placement.profile_writable
        )
        if browser is None:
            raise StartWithdrawn("the browser was stopped while it was starting")
        rental.life.take(Signal.STARTED)
        rental.deadline = Deadline(now, order.timeout)
        rental.timers["expire"] = self._clock.call_at(
            rental.deadline.expires, self._end, rental, Signal.EXPIRE
        )
        self._arm_hour(rental, now)
        if order.recording and self._recorders is not None:
            self._recorders.start(rental.id)
        if rental.exited.is_set():  # while that was written
            self._end(rental, Signal.EXIT)
        return browser

    async def _undo(self, rental: _Rental, error: BaseException) -> None:
        if rental.life.state is State.ACTIVE:  # given up in the moment it was ready
            await self._void(rental.id)
            return
        rental.life.take(Signal.STOP if isinstance(error, asyncio.CancelledError) else Signal.FAIL)
        assert rental.life.reason is not None  # it was starting
        async with AsyncExitStack() as steps:  # each, whatever becomes of the one before
            steps.callback(self._rentals.pop, rental.id, None)
            steps.push_async_callback(self._store.abandon, rental.id, rental.life.reason, now=self._wall())
            await self._hosts.stop(rental.id, _GOODBYES[EndReason.STOPPED_BY_CALLER], save=False)

    async def _void(self, browser_id: UUID) -> None:
        rental = self._rentals.get(browser_id)
        if rental is not None:
            rental.void = True
            end = self._end(rental, Signal.STOP)
            if end is not None:
                await asyncio.wait({end})

    # --- what others read ---------------------------------------------------------------------------------------

    @property
    def closing(self) -> bool:
        """Whether the server is on its way out."""
        return self._closing

    def states(self) -> dict[State, int]:
        """Number of browsers in each state but `stopped`."""
        states = [rental.life.state for rental in self._rentals.values()]
        return {state: states.count(state) for state in State if state is not State.STOPPED}

    # --- while it runs --------------------------------------------------------------------------------------------

    def _arm_hour(self, rental: _Rental, now: float) -> None:
        assert rental.deadline is not None  # it is active
        when = rental.deadline.next_hour(now)
        if when is not None:
            rental.timers["hour"] = self._clock.call_at(when + _AFTER_THE_HOUR_SECONDS, self._hour, rental)

    def _hour(self, rental: _Rental) -> None:
        now = self._clock.time()
        self._tasks.start(
            self._charge_hour(rental, rental.used(now)), f"the charge of an hour of browser {rental.id}"
        )
        self._arm_hour(rental, now)

    async def _charge_hour(self, rental: _Rental, used: timedelta) -> None:
        try:
            await self._store.charge_started_hours(rental.id, used, now=self._wall())
        except SQLAlchemyError:
            logger.exception(
                "an hour of browser %s could not be booked; the next hour or its end will", rental.id
            )

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(self._beat.total_seconds())
            try:
                await self._note_alive()
                await self._settle_late()
            except SQLAlchemyError:
                logger.exception("the database cannot be written; browsers go on")

    async def _note_alive(self) -> None:
        now = self._clock.time()
        used = {
            rental.id: rental.used(now)
            for rental in self._rentals.values()
            if rental.life.state is State.ACTIVE
        }
        if used:
            await self._store.seen(used, {each: self._hosts.proxy_bytes(each) for each in used})

    def running(self, browser_id: UUID) -> bool:
        """Whether a browser is active, as of this moment."""
        rental = self._rentals.get(browser_id)
        return rental is not None and rental.life.state is State.ACTIVE

    # --- the end --------------------------------------------------------------------------------------------------

    async def stop(self, project_id: UUID, browser_id: UUID) -> Browser | None:
        """The browser, stopped, whoever stopped it; None when the project has no such browser."""
        browser = await self._store.browser(project_id, browser_id)
        rental = self._rentals.get(browser_id)
        if browser is None:
            return None
        if rental is None:  # it ended, perhaps while its record was being read
            return await self._store.browser(project_id, browser_id)
        if rental.life.state is State.STARTING and rental.start is not None:
            rental.start.give_up()
            await asyncio.wait({rental.start.task})
        end = self._end(rental, Signal.STOP)
        if end is not None:
            await asyncio.wait({end})
        return await self._store.browser(project_id, browser_id)

    def _exited(self, browser_id: UUID) -> None:
        rental = self._rentals.get(browser_id)
        if rental is not None:
            rental.exited.set()
            if rental.life.state is State.ACTIVE:
                self._end(rental, Signal.EXIT)

    def _over_limit(self, browser_id: UUID) -> None:
        rental = self._rentals.get(browser_id)
        if rental is not None and rental.life.state is State.ACTIVE:
            self._end(rental, Signal.LIMIT)

    def _end(self, rental: _Rental, signal: Signal) -> asyncio.Task[None] | None:
        """Put a browser away, once; the task that does it, None if there is nothing to do any more."""
        if rental.life.state is State.ACTIVE and rental.life.take(signal):
            rental.cancel_timers()
            used = rental.used(self._clock.time())
            rental.ending = asyncio.get_running_loop().create_task(self._put_away(rental, used))
            assert rental.life.reason is not None  # it is on its way out
            self.on_end(rental.id, rental.life.reason)
        return rental.ending

    async def _put_away(self, rental: _Rental, used: timedelta) -> None:
        settled = await self._settle(rental, used)
        assert rental.life.reason is not None  # it is on its way out
        self._metrics.ended(rental.life.reason, used)
        report: StopReport | None = None
        recorded = asyncio.get_running_loop().create_task(self._finish_recording(rental))
        try:
            exists = rental.profile_id is not None and await self._store.profile_exists(rental.profile_id)
            goodbye = _GOODBYES[rental.life.reason]
            report = await self._hosts.stop(rental.id, goodbye, save=exists and not rental.void)
            await self._note_saved(rental, report)
        except Exception:
            logger.exception("browser %s could not be put away in order", rental.id)
        finally:
            await asyncio.wait({recorded})
            rental.life.take(Signal.ENDED)
            self._rentals.pop(rental.id, None)
        try:
            if settled:
                await self._store.finish(
                    rental.id,
                    proxy_bytes=report.proxy_bytes if report else 0,
                    blocked_requests=report.blocked_requests if report else None,
                )
        except SQLAlchemyError:
            logger.exception("the end of browser %s could not be written; it will be retried", rental.id)
            self._unsettled[rental.id] = rental, used

    async def _finish_recording(self, rental: _Rental) -> None:
        if self._recorders is not None:
            try:
                await self._recorders.finish(rental.id, keep=not rental.void)
            except OSError:
                logger.exception("the recording of browser %s could not be put away", rental.id)

    async def _note_saved(self, rental: _Rental, report: StopReport | None) -> None:
        if report is None or report.saved is None or rental.profile_id is None:
            return
        domains = report.saved.cookie_domains
        if not await self._store.profile_saved(rental.profile_id, domains, now=self._wall()):
            await self._forget_profile(rental.profile_id)  # deleted while it was being saved

    async def _settle(self, rental: _Rental, used: timedelta) -> bool:
        assert rental.life.reason is not None  # it is on its way out
        try:
            await self._store.settle(rental.id, rental.life.reason, used, now=self._wall(), void=rental.void)
        except SQLAlchemyError:
            logger.exception("browser %s could not be settled; it will be retried", rental.id)
            self._unsettled[rental.id] = rental, used
            return False
        return True

    async def _settle_late(self) -> None:
        for rental, used in list(self._unsettled.values()):
            del self._unsettled[rental.id]
            if await self._settle(rental, used):
                await self._store.finish(rental.id, proxy_bytes=self._hosts.proxy_bytes(rental.id))
