"""`Lease`: one server at a time tells the engine how many workers are wanted.

It is a row with owner, generation and a counter that the owner moves. Who sees that the counter stands still for ten seconds of its own
time, while its own statements succeed, takes the row with the next generation; an owner that has left is followed at once. An owner
that could not move the counter for eight seconds does nothing until it could again. So no two clocks are compared, and while the
database is away no server takes over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from cdpbridge.server.rentals._membership import DEAD_SECONDS, STALE_SECONDS, boot_time
from cdpbridge.server.rentals._pulses import Pulses
from cdpbridge.server.store import EngineRow, Store

__all__ = ["Lease"]

logger = logging.getLogger("cdpbridge.server")


class Lease:
    """The row of one engine, as this server sees it.

    Args:
        store: Open.
        name: Of the engine.
        clock: Seconds, monotonic; time in which the machine was suspended counts.
    """

    def __init__(self, store: Store, name: str, *, clock: Callable[[], float] = boot_time) -> None:
        self._store = store
        self._name = name
        self._clock = clock
        self._generation: int | None = None
        self._kept_at = clock()
        self._pulses = Pulses()  # of other owners
        self._row: EngineRow | None = None

    @property
    def held(self) -> bool:
        """True if this server may act now."""
        return self._generation is not None and self._clock() - self._kept_at < STALE_SECONDS

    @property
    def report(self) -> Mapping[str, Any] | None:
        """What the owner said last, when that is another server."""
        return None if self._row is None or self._row.owner is None else self._row.report

    async def beat(self, report: Mapping[str, Any]) -> None:
        """Give a sign of life as the owner, or look after the one that is.

        Args:
            report: What an owner says.

        Raises:
            SQLAlchemyError: The database is away.
        """
        asked = self._clock()
        try:
            if self._generation is not None:
                await self._keep(asked, report)
            else:
                await self._look(asked)
        except SQLAlchemyError:
            self._pulses.clear()
            raise

    async def leave(self) -> None:
        """Let another server have it at once."""
        generation, self._generation = self._generation, None
        if generation is not None:
            await self._store.leave_engine(self._name, generation)

    async def _keep(self, asked: float, report: Mapping[str, Any]) -> None:
        assert self._generation is not None
        if await self._store.keep_engine(self._name, self._generation, report):
            self._kept_at = asked
            return
        logger.warning("another server starts workers by %s now", self._name)
        self._generation = None
        self._pulses.clear()

    async def _look(self, asked: float) -> None:
        self._row = row = await self._store.engine(self._name)
        if row is not None and row.owner is not None and not self._store.one_writer:
            counter = row.generation, row.beats
            if not self._pulses.stands_still(self._name, counter, asked, DEAD_SECONDS):
                return
        # With SQLite there is one server: an owner in the row is a former start of it.
        self._generation = await self._store.take_engine(self._name, row)
        if self._generation is not None:
            self._kept_at, self._row = asked, None
            self._pulses.clear()
            logger.info("this server starts workers by %s", self._name)
