"""`WorkerWatch`: which workers have ended, and which browsers of this server have ended with them.

A worker's counter moves while any server hears from it. It has ended when the counter stood still for six seconds of *our* time while
our own signs of life reached the database, and we have not heard from it ourselves. Who finds that removes its row; every server
ends those of its own browsers whose worker has none. So does the start of another worker at its address.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Final
from uuid import UUID

from cdpbridge.server.store import Browser, Store

from ._pulses import Pulses

__all__ = ["SILENT_SECONDS", "WorkerWatch"]

logger = logging.getLogger("cdpbridge.server")

SILENT_SECONDS: Final = 6.0
"""How long no server has heard from a worker that counts as ended: three times what lies between two signs of life."""

# It has no browsers; meanwhile people can read why it is not reached.
_UNREACHED_SECONDS: Final = 60.0


class WorkerWatch:
    """The workers of a database, as this server sees them.

    Args:
        store: Open.
        clock: Seconds, monotonic.
    """

    def __init__(self, store: Store, *, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._pulses = Pulses()

    def reset(self) -> None:
        """Observe from now on: this server itself was away."""
        self._pulses.clear()

    async def look(self, answered: Collection[UUID]) -> Collection[Browser]:
        """Remove the workers that have ended, and return the browsers of this server that have no worker any more.

        Args:
            answered: Workers that this server has heard from by itself since the last time.

        Raises:
            SQLAlchemyError: The database is away.
        """
        now = self._clock()
        for worker_id, beats in await self._store.pulses():
            if worker_id in answered:
                self._pulses.forget(worker_id)
            elif self._pulses.stands_still(
                worker_id, beats, now, SILENT_SECONDS if beats else _UNREACHED_SECONDS
            ):
                # Another server may have heard from it in this moment: then its row stays.
                ended = await self._store.forget_worker(worker_id, beats=beats)
                if ended is not None and not ended.beats:
                    logger.error(
                        "worker %s (%s) has registered, and no server reaches it at %s",
                        ended.id,
                        ended.name,
                        ended.address,
                    )
                elif ended is not None:
                    logger.error(
                        "worker %s (%s) gives no sign of life; its %d browsers end",
                        ended.id,
                        ended.name,
                        ended.running,
                    )
        return await self._store.browsers_without_worker()
