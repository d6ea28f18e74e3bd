"""`Heart`: what a server does again and again: it gives signs of life, takes over from servers that have ended, retries what the database did not take."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from cdpbridge._clock import Clock
from cdpbridge._concurrency import TaskSet
from cdpbridge._lifecycle import Signal
from cdpbridge.server.hosts import BrowserHosts
from cdpbridge.server.settings import Settings
from cdpbridge.server.store import Server, Store

from ._endings import Endings
from ._membership import Membership, boot_time
from ._recovery import Adopt, FindUpload, Recovery
from ._rental import Rental
from ._worker_watch import WorkerWatch

__all__ = ["Heart"]

logger = logging.getLogger("cdpbridge.server")

# How often a server that may have others beside it gives a sign of life; see `DEAD_SECONDS`.
_BEAT_AMONG_OTHERS: Final = timedelta(seconds=2)
# How often it looks for stops that others were asked for.
_LISTEN_SECONDS: Final = 0.5
# How often the traffic of running browsers is written: a figure for people, which costs nothing.
_TRAFFIC_SECONDS: Final = 15.0


class Heart:
    """The heartbeat of one server.

    Args:
        rentals: Every browser of this server that has not stopped.
        end: Ends a rental without waiting.
        stop: Ends a rental that perhaps still starts, and waits.
        forget: Leaves a browser of a worker to the server that has taken it over.
        find_upload: See `Recovery`.
        adopt: As above.
    """

    def __init__(
        self,
        store: Store,
        hosts: BrowserHosts,
        settings: Settings,
        endings: Endings,
        rentals: Mapping[UUID, Rental],
        *,
        clock: Clock,
        wall: Callable[[], datetime],
        end: Callable[[Rental, Signal], object],
        stop: Callable[[Rental], Coroutine[Any, Any, None]],
        forget: Callable[[Rental], Awaitable[object]],
        find_upload: FindUpload,
        adopt: Adopt,
    ) -> None:
        self._store = store
        self._hosts = hosts
        self._endings = endings
        self._rentals = rentals
        self._clock = clock
        self._wall = wall
        self._end = end
        self._stop = stop
        self._forget = forget
        self._recovery = Recovery(
            store,
            find_upload,
            adopt,
            lambda: self.uptime(clock.time()),
            wall,
            workers=settings.browsers == "workers",
        )
        self._workers = WorkerWatch(store, clock=boot_time) if settings.browsers == "workers" else None
        # No other process looks for its signs of life, and no worker has some that it passes on.
        self._alone = store.one_writer and self._workers is None
        self._every = timedelta(seconds=settings.heartbeat_seconds)
        if not self._alone:
            self._every = min(self._every, _BEAT_AMONG_OTHERS)
        self._membership = Membership(store, settings.data_dir, wall=wall)
        self._joined = clock.time()
        self._loops = TaskSet(logger)
        self._work = TaskSet(logger)
        # Servers whose browsers are being taken over.
        self._ended: set[UUID] = set()
        # Workers from which it has heard before the last sign of life.
        self._heard: Collection[UUID] = ()
        self._traffic: Mapping[UUID, int] = {}
        self._traffic_at = self._joined

    def uptime(self, now: float) -> timedelta:
        """Return the time from the start of this server to `now`, a reading of the clock."""
        return timedelta(seconds=now - self._joined)

    async def join(self) -> None:
        """Add this server to those of the database, and take over from those that are known to have ended."""
        formers = await self._membership.join()
        self._joined = self._clock.time()
        later = await self._recovery.at_start(self._hosts, formers)
        if later:
            self._work.start(
                self._recovery.finish(later), "what was left of browsers of a server that has ended"
            )

    def start(self) -> None:
        """Begin to beat."""
        self._loops.start(self._beat_often(), "the signs of life of this server")
        if not self._store.one_writer:
            self._loops.start(self._listen(), "the look at what other servers ask for")

    async def close(self) -> None:
        """Beat no more."""
        await self._loops.cancel()
        await self._work.cancel()

    async def leave(self) -> None:
        """Remove this server from those of the database, unless it still has browsers."""
        await self._membership.leave()

    async def _beat_often(self) -> None:
        away = False
        while True:
            await asyncio.sleep(self._every.total_seconds())
            try:
                await self.beat()
                await self._endings.retry()
            except SQLAlchemyError:
                if not away:  # said once for each time that it is away
                    logger.exception("the database cannot be written; browsers go on")
                away = True
            except Exception:
                # A server that beats no more counts as ended, and others settle its browsers.
                logger.exception("a sign of life failed; the next one follows")
            else:
                if away:
                    logger.warning("the database can be written again")
                away = False

    async def beat(self) -> None:
        """Note that this server and its browsers are alive, and look after the others.

        Raises:
            SQLAlchemyError: The database did not take it.
        """
        active = [rental for rental in self._rentals.values() if rental.is_active]
        if not active and self._alone:
            return
        now = self._clock.time()
        for former in await self._signs_of_life(now):
            if former.id not in self._ended:
                self._ended.add(former.id)
                self._work.start(self._take_over(former), f"the takeover from server {former.id}")
        if self._membership.stalled:
            await self._end_lost(active)
        elif self._workers is not None:
            await self._end_without_worker(self._workers)
        if now - self._traffic_at >= _TRAFFIC_SECONDS:
            await self._note_traffic(active, now)

    async def _signs_of_life(self, now: float) -> Collection[Server]:
        """Give them, for this server and for the workers that it has heard from, and return the servers that have ended."""
        self._heard = self._hosts.answered()
        heard_in_time = False
        try:
            ended = await self._membership.beat(self.uptime(now), self._heard)
            heard_in_time = not self._membership.stalled
        finally:
            if self._workers is not None and not heard_in_time:
                self._workers.reset()
        return ended

    async def _end_without_worker(self, workers: WorkerWatch) -> None:
        """End the browsers whose worker has ended: they are paid until now, and the rest is refunded."""
        for browser in await workers.look(self._heard):
            rental = self._rentals.get(browser.id)
            if rental is None or rental.ending is not None or rental.withdrawn:
                continue
            if rental.is_active:
                self._end(rental, Signal.WORKER_LOST)
            else:
                rental.start.cancel()

    async def _note_traffic(self, active: Iterable[Rental], now: float) -> None:
        traffic = {rental.id: self._hosts.proxy_bytes(rental.id) for rental in active}
        moved = {each: count for each, count in traffic.items() if count != self._traffic.get(each, 0)}
        if moved:
            await self._store.seen(moved)
        self._traffic, self._traffic_at = traffic, now

    async def _take_over(self, former: Server) -> None:
        try:
            await self._recovery.take_over(former)
        finally:
            self._ended.discard(former.id)

    async def _end_lost(self, active: Iterable[Rental]) -> None:
        """End or forget browsers that another server has taken over, as it took this one for dead: nothing more is booked for them."""
        owned = await self._store.owned()
        for rental in active:
            if rental.id in owned:
                continue
            if await self._forget(rental):
                logger.warning("browser %s is another server's now, and goes on there", rental.id)
            else:
                logger.error("browser %s is another server's now; it ends here", rental.id)
                self._end(rental, Signal.LOST)

    async def hand_over(self, rentals: Iterable[Rental]) -> None:
        """Let other servers take active browsers of workers at once.

        Raises:
            SQLAlchemyError: The database did not take it: they do so when this server has been silent for some seconds.
        """
        ids = [rental.id for rental in rentals]
        if ids:
            await self._store.hand_over(ids, self.uptime(self._clock.time()), now=self._wall())

    async def _listen(self) -> None:
        """Stop what other servers were asked to stop."""
        while True:
            await asyncio.sleep(_LISTEN_SECONDS)
            with suppress(SQLAlchemyError):  # the heartbeat reports it
                for browser_id in await self._store.asked_to_stop():
                    rental = self._rentals.get(browser_id)
                    if rental is not None and rental.ending is None and not rental.withdrawn:
                        self._work.start(self._stop(rental), f"the stop of browser {browser_id}")
