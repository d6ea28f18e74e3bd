"""`Endings`: from the end of a rental to its last entry in the books: refund, shutdown, profile, recording.

Money first: the refund is booked before the browser is closed, so a server that is killed meanwhile has booked it. What the database
does not take is kept, and retried with each heartbeat.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from cdpbridge._lifecycle import EndReason, Signal
from cdpbridge.server._metrics import Metrics
from cdpbridge.server.hosts import BrowserHosts, CloseFrame, StopReport
from cdpbridge.server.proxy import HostTraffic
from cdpbridge.server.store import Store

from ._rental import Rental

__all__ = ["CLOSE_FRAMES", "Endings", "Recorders"]

logger = logging.getLogger("cdpbridge.server")

# RFC 6455 section 7.4.1: 1001 is an endpoint going away, 1008 a violated policy, 1011 a server that met an unexpected condition.
CLOSE_FRAMES: Final = {
    EndReason.STOPPED_BY_CALLER: CloseFrame(1001, "session stopped"),
    EndReason.EXPIRED: CloseFrame(1001, "session expired"),
    EndReason.SERVER_LOST: CloseFrame(1001, "server stopping"),
    EndReason.BROWSER_EXITED: CloseFrame(1011, "browser exited"),
    EndReason.DISK_LIMIT: CloseFrame(1008, "disk limit reached"),
}


class Recorders(Protocol):
    """Records browsers."""

    def start(self, browser_id: UUID) -> None:
        """Record a browser that has just started."""

    async def finish(self, browser_id: UUID, *, keep: bool) -> None:
        """End a recording, if there is one, in bounded time; without `keep`, remove it."""


class Endings:
    """Ends of rentals. Arguments as in `Rentals`.

    Attributes:
        unsettled: Ended rentals whose last entries the database has not taken yet, with their used time.
    """

    def __init__(
        self,
        store: Store,
        hosts: BrowserHosts,
        *,
        forget_profile: Callable[[UUID], Awaitable[None]],
        metrics: Metrics,
        recorders: Recorders | None,
        wall: Callable[[], datetime],
    ) -> None:
        self.unsettled: dict[UUID, tuple[Rental, timedelta]] = {}
        self._store = store
        self._hosts = hosts
        self._forget_profile = forget_profile
        self._metrics = metrics
        self._recorders = recorders
        self._wall = wall

    async def run(self, rental: Rental, used: timedelta, *, stopped: Callable[[], object]) -> None:
        """Settle a rental, shut its browser down, save its profile, and close its record.

        Args:
            rental: In state `stopping`.
            used: How much of the paid time it has used.
            stopped: Called when nothing of the browser runs any more, before the record is closed.
        """
        settled = await self._settle(rental, used)
        self._metrics.ended(rental.reason, used)
        report: StopReport | None = None
        recorded = asyncio.get_running_loop().create_task(self._finish_recording(rental))
        try:
            report = await self._shut_down(rental)
        except Exception:
            logger.exception("browser %s was not shut down cleanly", rental.id)
        finally:
            await asyncio.wait({recorded})
            rental.life.take(Signal.ENDED)
            stopped()
        try:
            if settled:
                rental.record = await self._store.finish(
                    rental.id,
                    proxy_bytes=report.proxy_bytes if report else 0,
                    blocked_requests=report.blocked_requests if report else None,
                    host_traffic=_by_host(report.traffic) if report else None,
                )
        except SQLAlchemyError:
            logger.exception("the end of browser %s could not be written; it will be retried", rental.id)
            self.unsettled[rental.id] = rental, used

    async def retry(self) -> None:
        """Write what the database has not taken before."""
        for rental, used in list(self.unsettled.values()):
            del self.unsettled[rental.id]
            if await self._settle(rental, used):
                await self._store.finish(
                    rental.id,
                    proxy_bytes=self._hosts.proxy_bytes(rental.id),
                    host_traffic=_by_host(self._hosts.traffic(rental.id)),
                )

    async def _settle(self, rental: Rental, used: timedelta) -> bool:
        try:
            await self._store.settle(
                rental.id, rental.reason, used, now=self._wall(), discarded=rental.discarded
            )
        except SQLAlchemyError:
            logger.exception("browser %s could not be settled; it will be retried", rental.id)
            self.unsettled[rental.id] = rental, used
            return False
        return True

    async def _shut_down(self, rental: Rental) -> StopReport | None:
        exists = rental.profile_id is not None and await self._store.profile_exists(rental.profile_id)
        save = exists and not rental.discarded
        report = await self._hosts.stop(rental.id, CLOSE_FRAMES[rental.reason], save=save)
        await self._note_saved(rental, report)
        return report

    async def _note_saved(self, rental: Rental, report: StopReport | None) -> None:
        if report is None or report.saved is None or rental.profile_id is None:
            return
        domains = report.saved.cookie_domains
        if not await self._store.profile_saved(rental.profile_id, domains, now=self._wall()):
            # It was deleted while it was being saved.
            await self._forget_profile(rental.profile_id)

    async def _finish_recording(self, rental: Rental) -> None:
        if self._recorders is not None:
            try:
                await self._recorders.finish(rental.id, keep=not rental.discarded)
            except OSError:
                logger.exception("the recording of browser %s could not be finished", rental.id)


def _by_host(traffic: Sequence[HostTraffic]) -> list[tuple[str | None, int, int]]:
    return [(each.host, each.bytes_sent, each.bytes_received) for each in traffic]
