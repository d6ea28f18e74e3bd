"""`Membership`: this server among those of its database, and which of the others have ended.

A death is observed, not computed: a server has ended when its counter stood still for ten seconds of *our* time, while our own
signs of life reached the database. So no two clocks are compared, and when the database was away, no server counts as ended for it.
SQLite has one server: all that have joined before have ended.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from cdpbridge.server.store import Server, Store

from ._pulses import Pulses

__all__ = ["DEAD_SECONDS", "Membership", "boot_time"]

DEAD_SECONDS: Final = 10.0
"""How long a counter stands still before its server counts as ended."""
STALE_SECONDS: Final = 8.0
"""After so long without a sign of life of its own, a server asks what it still owns: less than `DEAD_SECONDS`."""
_FILE: Final = "server-id"


def boot_time() -> float:
    """Return seconds of a clock that is never set, and that runs while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Membership:
    """This server among those of its database.

    Args:
        store: Open.
        data_dir: Locked: a server that had it before has ended.
        clock: Seconds, monotonic; for the life of others.

    Attributes:
        stalled: Found by the last `beat`: others may have taken us for dead, so what we own is to be asked for.
    """

    def __init__(
        self,
        store: Store,
        data_dir: Path,
        *,
        wall: Callable[[], datetime],
        clock: Callable[[], float] = boot_time,
    ) -> None:
        self._store = store
        self._file = data_dir / _FILE
        self._wall = wall
        self._clock = clock
        self._last_beat = clock()
        self._pulses = Pulses()
        self.stalled = False

    async def join(self) -> Collection[Server]:
        """Add this server, and return those that are known to have ended."""
        others = await self._store.other_servers()
        await self._store.join(f"{socket.gethostname()}:{os.getpid()}", now=self._wall())
        self._last_beat = self._clock()
        if self._store.one_writer:
            return others
        before = self._file.read_text().strip() if self._file.exists() else ""
        self._file.write_text(f"{self._store.server_id}\n")
        return [each for each in others if each.leaving or str(each.id) == before]

    async def beat(self, uptime: timedelta, answered: Collection[UUID] = ()) -> Collection[Server]:
        """Give a sign of life, also of workers, and return the servers that have ended.

        Args:
            uptime: Since this server has joined.
            answered: Workers that it has heard from.

        Raises:
            SQLAlchemyError: The sign did not reach the database; what was observed before counts no more.
        """
        try:
            known = await self._store.beat(uptime, answered)
            if self._store.one_writer:
                return []
            others = await self._store.other_servers()
        except SQLAlchemyError:
            self._pulses.clear()
            raise
        now = self._clock()
        self.stalled = not known or now - self._last_beat > STALE_SECONDS
        self._last_beat = now
        if not known:
            await self._store.join(f"{socket.gethostname()}:{os.getpid()}", now=self._wall())
        if self.stalled:
            self._pulses.clear()
        return [each for each in others if self._is_dead(each, now)]

    def _is_dead(self, server: Server, now: float) -> bool:
        return server.leaving or self._pulses.stands_still(server.id, server.beats, now, DEAD_SECONDS)

    async def leave(self) -> None:
        """Remove this server, unless it still has browsers: another one settles those."""
        await self._store.forget_server(self._store.server_id)
