"""`Endings`: from the end of a rental to its last entry in the books: refund, shutdown, profile, recording.

Money first: the refund is booked before the browser is closed, so a server that is killed meanwhile has booked it. What the database
does not take is kept, and retried with each heartbeat.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from cdpbridge._lifecycle import EndReason, Signal
from cdpbridge.server._metrics import Metrics
from cdpbridge.server.hosts import BrowserHosts, CloseFrame, SavedState, StopReport, UnfinishedStop
from cdpbridge.server.objects import ObjectStorageError
from cdpbridge.server.proxy import HostTraffic
from cdpbridge.server.store import Store

from ._recovery import FindUpload
from ._rental import Rental
from ._rests import Rests

__all__ = ["CLOSE_FRAMES", "Endings", "Recorders"]

logger = logging.getLogger("cdpbridge.server")

# RFC 6455 section 7.4.1: 1001 is an endpoint going away, 1008 a violated policy, 1011 a server that met an unexpected condition.
CLOSE_FRAMES: Final = {
    EndReason.STOPPED_BY_CALLER: CloseFrame(1001, "session stopped"),
    EndReason.EXPIRED: CloseFrame(1001, "session expired"),
    EndReason.SERVER_LOST: CloseFrame(1001, "server stopping"),
    EndReason.BROWSER_EXITED: CloseFrame(1011, "browser exited"),
    EndReason.WORKER_LOST: CloseFrame(1011, "worker lost"),
    EndReason.DISK_LIMIT: CloseFrame(1008, "disk limit reached"),
    EndReason.MEMORY_LIMIT: CloseFrame(1008, "memory limit reached"),
    EndReason.PROCESS_LIMIT: CloseFrame(1008, "process limit reached"),
}


class Recorders(Protocol):
    """Records browsers."""

    def start(self, browser_id: UUID) -> None:
        """Record a browser that has just started."""

    async def finish(self, browser_id: UUID, *, keep: bool) -> None:
        """End a recording, if there is one, in bounded time; without `keep`, remove it."""


@dataclass(slots=True)
class _Ending:
    """What is still to be written of an ended rental.

    Attributes:
        used: How much of its paid time it has used.
        settled: Its last charge and its refund are booked.
        closed: Nothing of its browser runs any more.
        report: Of the browser's shutdown; None when that failed.
        finished: Its record is closed.
        saved: Its profile's new version, until that is noted.
    """

    rental: Rental
    used: timedelta
    settled: bool = False
    closed: bool = False
    report: StopReport | None = None
    finished: bool = False
    saved: SavedState | None = None


class Endings:
    """Ends of rentals. Arguments as in `Rentals`.

    Args:
        save_first: A profile is saved before its browser counts as stopped: other servers do not see that it is being saved,
            and what is kept in object storage outlives this machine from then on.

    Attributes:
        unwritten: By the browser's id, what the database has not taken yet of rentals that have ended.
        rests: What is done of browsers after the answers to their stops.
    """

    def __init__(
        self,
        store: Store,
        hosts: BrowserHosts,
        *,
        forget_profile: Callable[[UUID], Awaitable[None]],
        find_upload: FindUpload,
        discard_version: Callable[[UUID, str], Awaitable[None]],
        metrics: Metrics,
        recorders: Recorders | None,
        save_first: bool,
        wall: Callable[[], datetime],
    ) -> None:
        self.unwritten: dict[UUID, _Ending] = {}
        self.rests = Rests()
        # Never active, and perhaps still in the books as starting; with the reason.
        self._unwithdrawn: dict[UUID, EndReason] = {}
        self._store = store
        self._hosts = hosts
        self._forget_profile = forget_profile
        self._find_upload = find_upload
        self._discard_version = discard_version
        self._metrics = metrics
        self._recorders = recorders
        self._save_first = save_first
        self._wall = wall

    async def run(
        self, rental: Rental, used: timedelta, *, stopped: Callable[[], object], settled: bool = False
    ) -> None:
        """Settle a rental, shut its browser down, and close its record; its profile is saved after that.

        With `save_first`, before that.

        Args:
            rental: In state `stopping`.
            used: How much of the paid time it has used.
            stopped: Called when nothing of the browser runs any more, before the record is closed.
            settled: Another server has booked it, and did not come to the rest.
        """
        ending = _Ending(rental, used, settled)
        if not settled:
            await self._write(ending)
            self._metrics.ended(rental.reason, used)
        recorded = asyncio.get_running_loop().create_task(self._finish_recording(rental))
        written = asyncio.Event()
        try:
            try:
                ending.report = await self._shut_down(rental)
            except Exception:
                logger.exception("browser %s was not shut down cleanly", rental.id)
            finally:
                await asyncio.wait({recorded})
                saving = self._start_rest(ending, written)
                rental.life.take(Signal.ENDED)
                stopped()
            if saving is not None and self._save_first:
                await asyncio.wait({saving})
            ending.closed = True
            await self._write(ending)
        finally:
            written.set()

    def _start_rest(self, ending: _Ending, written: asyncio.Event) -> asyncio.Task[None] | None:
        """Begin what is left to do of a browser; return what ends when its profile is saved.

        Args:
            written: Set when its record is closed, which the client waits for.
        """
        report = ending.report
        if not isinstance(report, UnfinishedStop):
            ending.saved = None if report is None else report.saved
            return None

        async def note(saved: SavedState) -> None:
            ending.saved = saved
            await self._write(ending)

        return self.rests.start(ending.rental, report.rest, note, after=written)

    async def withdraw(self, rental: Rental, error: BaseException) -> None:
        """Take a rental out of the books that has ended before it was active: nothing of it is paid.

        Args:
            rental: In state `stopped`.
            error: Why its start ended.
        """
        # The database may have done what it was asked, and its answer was lost: then it is in the books as active.
        in_doubt = isinstance(error, SQLAlchemyError)
        try:
            await self._withdraw(rental.id, rental.reason, in_doubt=in_doubt)
        except SQLAlchemyError:
            logger.exception("browser %s could not be withdrawn; it will be retried", rental.id)
            self._unwithdrawn[rental.id] = rental.reason

    async def retry(self) -> None:
        """Write what the database has not taken before.

        Raises:
            SQLAlchemyError: It still does not; all of it is kept.
        """
        for browser_id, reason in list(self._unwithdrawn.items()):
            # One that fails comes last the next time, so that it holds up no other for good.
            self._unwithdrawn[browser_id] = self._unwithdrawn.pop(browser_id)
            await self._withdraw(browser_id, reason, in_doubt=True)
            del self._unwithdrawn[browser_id]
        for browser_id, ending in list(self.unwritten.items()):
            if ending.closed and browser_id in self.unwritten:
                self.unwritten[browser_id] = self.unwritten.pop(browser_id)
                try:
                    await self._book(ending)
                except (ObjectStorageError, OSError) as error:
                    logger.debug("the end of browser %s: the storage is away: %s", browser_id, error)
                else:
                    self.unwritten.pop(browser_id, None)

    async def _withdraw(self, browser_id: UUID, reason: EndReason, *, in_doubt: bool) -> None:
        abandoned = await self._store.abandon(browser_id, reason, now=self._wall())
        if in_doubt and not abandoned:
            await self._store.settle(browser_id, reason, timedelta(0), now=self._wall(), discarded=True)
            await self._store.finish(browser_id, proxy_bytes=0)

    async def _write(self, ending: _Ending) -> None:
        try:
            await self._book(ending)
        except (SQLAlchemyError, ObjectStorageError, OSError):
            logger.exception(
                "the end of browser %s could not be written; it will be retried", ending.rental.id
            )
            self.unwritten[ending.rental.id] = ending
        else:
            self.unwritten.pop(ending.rental.id, None)

    async def _book(self, ending: _Ending) -> None:
        """Write all that is known; each step happens once, however often it is asked for."""
        rental, report = ending.rental, ending.report
        if not ending.settled:
            await self._store.settle(
                rental.id,
                rental.reason,
                ending.used,
                now=self._wall(),
                discarded=rental.discarded,
                generation=rental.generation,
            )
            ending.settled = True
        if ending.closed and ending.saved is None and not ending.finished:
            ending.saved = await self._found_upload(ending)
        if ending.saved is not None:
            await self._note_saved(rental, ending.saved)
            ending.saved = None
        if ending.closed and not ending.finished:
            rental.record = await self._store.finish(
                rental.id,
                proxy_bytes=report.proxy_bytes if report else 0,
                blocked_requests=report.blocked_requests if report else None,
                host_traffic=_by_host(report.traffic) if report else None,
                generation=rental.generation,
            )
            ending.finished = True

    async def _shut_down(self, rental: Rental) -> StopReport | None:
        save = rental.saves_profile and not rental.discarded and await self._profile_exists(rental)
        return await self._hosts.stop(rental.id, CLOSE_FRAMES[rental.reason], save=save)

    async def _profile_exists(self, rental: Rental) -> bool:
        if rental.profile_id is None:
            return False
        try:
            return await self._store.profile_exists(rental.profile_id)
        except SQLAlchemyError:
            # A profile that was deleted meanwhile is forgotten when it is noted as saved.
            logger.exception("the profile of browser %s is saved without a look at its record", rental.id)
            return True

    async def _found_upload(self, ending: _Ending) -> SavedState | None:
        """Return what the former server of a browser has uploaded: it may have ended before it noted that."""
        rental = ending.rental
        if rental.profile_id is None or not (rental.was_elsewhere and rental.saves_profile):
            return None
        if isinstance(ending.report, UnfinishedStop):  # it is saved here
            return None
        return await self._find_upload(rental.profile_id, rental.id)

    async def _note_saved(self, rental: Rental, saved: SavedState) -> None:
        profile_id = rental.profile_id
        if profile_id is None:
            return
        noted = await self._store.profile_saved(
            profile_id,
            rental.id,
            base=rental.profile_version.number,
            version=saved.version,
            archive=saved.archive,
            cookie_domains=saved.cookie_domains,
            now=self._wall(),
        )
        if noted:
            return
        exists = await self._store.profile_exists(profile_id)
        try:
            if not exists:
                # It was deleted while it was being saved.
                await self._forget_profile(profile_id)
                return
            logger.warning(
                "profile %s is not saved by browser %s: another browser has saved it, or may save it now",
                profile_id,
                rental.id,
            )
            if saved.archive is not None:
                await self._discard_version(profile_id, saved.archive)
        except (OSError, ObjectStorageError):
            logger.exception(
                "what browser %s has saved of profile %s could not be removed", rental.id, profile_id
            )

    async def _finish_recording(self, rental: Rental) -> None:
        if self._recorders is not None:
            try:
                await self._recorders.finish(rental.id, keep=not rental.discarded)
            except OSError:
                logger.exception("the recording of browser %s could not be finished", rental.id)


def _by_host(traffic: Sequence[HostTraffic]) -> list[tuple[str | None, int, int]]:
    return [(each.host, each.bytes_sent, each.bytes_received) for each in traffic]
