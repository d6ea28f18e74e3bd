"""`Timers`: the deadline of each active browser, and the charge of each hour of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from cdpbridge._clock import Clock
from cdpbridge._concurrency import TaskSet
from cdpbridge.server.store import Store

from ._rental import Rental

__all__ = ["Timers"]

logger = logging.getLogger("cdpbridge.server")

# The next hour starts with the first instant after the full one; a timer may be early by the clock's resolution.
_AFTER_THE_HOUR_SECONDS: Final = 0.001


class Timers:
    """Timers of the active browsers of a server.

    Args:
        store: Open.
        clock: Where deadlines come from.
        wall: Where dates come from.
        charges: Where they are booked.
        expire: Ends a rental whose time is over.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        wall: Callable[[], datetime],
        charges: TaskSet,
        expire: Callable[[Rental], object],
    ) -> None:
        self._store = store
        self._clock = clock
        self._wall = wall
        self._expire = expire
        self._charges = charges

    def arm(self, rental: Rental, now: float) -> None:
        """Set the timers of a rental that is active; `Rental.cancel_timers` takes them back.

        Args:
            rental: With a deadline.
            now: A reading of the clock.
        """
        assert rental.deadline is not None  # it is active
        rental.timers["expire"] = self._clock.call_at(rental.deadline.expires, self._expire, rental)
        self._arm_hour(rental, now)

    def _arm_hour(self, rental: Rental, now: float) -> None:
        assert rental.deadline is not None  # it is active
        when = rental.deadline.next_hour(now)
        if when is not None:
            rental.timers["hour"] = self._clock.call_at(when + _AFTER_THE_HOUR_SECONDS, self._hour, rental)

    def _hour(self, rental: Rental) -> None:
        now = self._clock.time()
        self._charges.start(
            self._charge_hour(rental, rental.used(now)), f"the charge of an hour of browser {rental.id}"
        )
        self._arm_hour(rental, now)

    async def _charge_hour(self, rental: Rental, used: timedelta) -> None:
        try:
            await self._store.charge_started_hours(
                rental.id, used, now=self._wall(), generation=rental.generation
            )
        except SQLAlchemyError:
            logger.exception(
                "an hour of browser %s could not be booked; the next hour or its end will book it", rental.id
            )
