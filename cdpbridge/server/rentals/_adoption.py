"""`Adoption`: browsers of workers, which outlive the server that has started them, on their way from one server to another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from cdpbridge._clock import Clock
from cdpbridge._lifecycle import EndReason, Signal, State, used_until
from cdpbridge.server.hosts import BrowserHosts, BrowserSpec, Limit
from cdpbridge.server.profiles import NO_VERSION, ProfileVersion
from cdpbridge.server.store import Browser, Store

from ._endings import Recorders
from ._rental import Rental
from ._timers import Timers

__all__ = ["Adoption"]

logger = logging.getLogger("cdpbridge.server")


class _BeginEnd(Protocol):
    def __call__(self, rental: Rental, *, settled: bool = False) -> None: ...


def _no_listener(_browser_id: UUID, _reason: EndReason) -> None:
    """Its agent has ended with the server that it worked on."""


class Adoption:
    """Takes browsers of workers over from servers that have ended, and hands them over at the end of this one.

    Args:
        rentals: Every browser of this server that has not stopped.
        on_exit: As for `BrowserHosts.adopt`.
        on_limit: As above.
        end: Ends a rental without waiting.
        begin_end: Begins what follows on the state `stopping`.
    """

    def __init__(
        self,
        store: Store,
        hosts: BrowserHosts,
        rentals: MutableMapping[UUID, Rental],
        timers: Timers,
        *,
        clock: Clock,
        recorders: Recorders | None,
        on_exit: Callable[[UUID], object],
        on_limit: Callable[[UUID, Limit], object],
        end: Callable[[Rental, Signal], object],
        begin_end: _BeginEnd,
    ) -> None:
        self._store = store
        self._hosts = hosts
        self._rentals = rentals
        self._timers = timers
        self._clock = clock
        self._recorders = recorders
        self._on_exit = on_exit
        self._on_limit = on_limit
        self._end = end
        self._begin_end = begin_end
        self._closing = False

    # --- to this server ---------------------------------------------------------------------------------------------

    async def adopt(self, browser: Browser, uptime: timedelta) -> bool:
        """Go on with a browser of a worker that is this server's now, or with its end; see `Adopt`."""
        if browser.worker is None or browser.state == State.STARTING or browser.started_uptime_ms is None:
            return False
        if self._closing:
            return True  # the next server goes on with it
        age = uptime - timedelta(milliseconds=browser.started_uptime_ms)
        try:
            await self._adopt(browser, age)
        except Exception:
            logger.exception("browser %s cannot be taken over; it is settled", browser.id)
            return False
        return True

    async def _adopt(self, browser: Browser, age: timedelta) -> None:
        version = NO_VERSION
        if browser.profile_id is not None:
            version = ProfileVersion(*await self._store.profile_version(browser.profile_id))
        spec = BrowserSpec(
            browser.id, browser.profile_id, profile_version=version, generation=browser.generation
        )
        began = self._clock.time() - age.total_seconds()
        rental = Rental.taken_over(browser, version, began=began, on_end=_no_listener)

        def on_exit(browser_id: UUID) -> None:
            rental.exited.set()  # also before it is among the others
            self._on_exit(browser_id)

        placement = await self._hosts.adopt(spec, on_exit=on_exit, on_limit=self._on_limit)
        self._rentals[rental.id] = rental
        if not rental.is_active:
            self._begin_end(rental, settled=True)
        elif placement is not None:
            self._timers.arm(rental, self._clock.time())
            logger.info("browser %s goes on with this server", browser.id)
            if rental.exited.is_set():
                self._end(rental, Signal.EXIT)
        else:
            # When it has ended is not known: until its server was seen for the last time, it has run.
            rental.stand_still(_seen(browser), self._clock.time())
            self._end(rental, Signal.LOST)

    # --- to other servers -------------------------------------------------------------------------------------------

    async def hand_over(self, write: Callable[[Collection[Rental]], Awaitable[None]]) -> None:
        """Leave the active browsers of workers to other servers: nothing of them ends with this one.

        Args:
            write: Lets other servers take them, in the database.
        """
        self._closing = True
        handed = [rental for rental in self._rentals.values() if rental.is_active and self._outlives(rental)]
        if not handed:
            return
        try:
            await write(handed)
        except SQLAlchemyError:
            logger.exception("browsers could not be handed over; other servers take them in some seconds")
        await asyncio.gather(*(self.forget(rental) for rental in handed))
        logger.info("%d browsers of workers were handed over", len(handed))

    async def forget(self, rental: Rental) -> bool:
        """Leave a browser of a worker to another server; False, and nothing is done, for one that ends with this process."""
        if not self._outlives(rental) or not await self._hosts.release(rental.id):
            return False
        rental.cancel_timers()
        self._rentals.pop(rental.id, None)
        if self._recorders is not None:
            await self._recorders.finish(rental.id, keep=True)
        return True

    def _outlives(self, rental: Rental) -> bool:
        placement = self._hosts.placement(rental.id)
        return placement is not None and placement.worker is not None


def _seen(browser: Browser) -> timedelta:
    assert browser.started_at is not None  # it was active
    return used_until(
        started_at=browser.started_at,
        timeout_at=browser.timeout_at,
        last_seen_at=browser.last_seen_at or browser.started_at,
    )
