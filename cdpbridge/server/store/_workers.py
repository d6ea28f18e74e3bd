"""Workers of one database: who there is, and their slots. A row is of one start of a worker."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from cdpbridge._lifecycle import State

from ._database import FOR_CHANGE, Database
from ._models import HOLDS_SLOT, NOT_STOPPED, Browser, Worker
from ._postgresql import LOCK_OF_WORKERS
from ._refusals import NotStarting
from ._slots import free_worker, freed_on, taken_on

__all__ = ["Workers"]

# For people: a name of a host, and what the worker adds.
_NAME_CHARACTERS: Final = 200
_PROBLEM_CHARACTERS: Final = 1000


class Workers(Database):
    """Queries and transactions of workers and their slots."""

    async def register_worker(
        self,
        worker_id: UUID,
        *,
        name: str,
        address: str,
        protocol: int,
        slots: int,
        now: datetime,
        tls: bool = False,
        draining: bool = False,
    ) -> Worker:
        """Add a worker, or bring it up to date. Any other that was at its address has ended, and is forgotten.

        It gets browsers when a server has heard from it: that it reaches a server does not say that it is reached.

        Args:
            worker_id: Of this start of it.
            name: For people.
            address: `host:port`, where servers reach it.
            protocol: Version of the messages that it understands.
            slots: Browsers that it can run at once.
            now: The present.
            tls: Its port speaks TLS.
            draining: It is to get no further browser. One that was drained before stays so.
        """
        async with self._write() as session:
            await self._lock_of(session, LOCK_OF_WORKERS)
            await session.execute(delete(Worker).where(Worker.address == address, Worker.id != worker_id))
            worker = await session.get(Worker, worker_id, with_for_update=FOR_CHANGE)
            running, starting = await self._browsers_on(session, worker_id)
            if worker is None:
                worker = Worker(id=worker_id, draining=False, beats=0, joined_at=now)
                session.add(worker)
            worker.running, worker.starting = running, starting
            worker.name, worker.address = name[:_NAME_CHARACTERS], address
            worker.protocol, worker.slots, worker.tls = protocol, slots, tls
            worker.draining = worker.draining or draining
        return worker

    async def _browsers_on(self, session: AsyncSession, worker_id: UUID) -> tuple[int, int]:
        """Count the browsers of a worker: all that have not stopped, and those that start.

        The counters say so, too, unless it was forgotten by mistake, or a server of a version before these had its browsers.
        """
        counts = select(func.count(), func.count().filter(Browser.state == State.STARTING)).where(
            Browser.worker == worker_id, Browser.state.in_(NOT_STOPPED)
        )
        running, starting = (await session.execute(counts)).one()
        return running, starting

    async def workers(self) -> Sequence[Worker]:
        """Return the workers that have registered and not ended, by name."""
        async with self._read() as session:
            return (await session.scalars(select(Worker).order_by(Worker.name, Worker.id))).all()

    async def worker(self, worker_id: UUID) -> Worker | None:
        async with self._read() as session:
            return await session.get(Worker, worker_id)

    async def drain_worker(self, worker_id: UUID) -> Worker | None:
        """Give a worker no further browser; those that it has go on. None when there is no such worker."""
        async with self._write() as session:
            drained = update(Worker).where(Worker.id == worker_id).values(draining=True)
            return await session.scalar(drained.returning(Worker))

    async def note_problem(self, worker_id: UUID, problem: str | None) -> None:
        """Note why this server does not reach a worker, and what to do; None when it does."""
        text = None if problem is None else problem[:_PROBLEM_CHARACTERS]
        other = Worker.problem.is_distinct_from(text)
        async with self._write() as session:
            await session.execute(update(Worker).where(Worker.id == worker_id, other).values(problem=text))

    async def pulses(self) -> Sequence[tuple[UUID, int]]:
        """Return each worker and its counter. There may be a thousand, every two seconds: no objects are made of them."""
        async with self._read() as session:
            return [(row.id, row.beats) for row in await session.execute(select(Worker.id, Worker.beats))]

    async def forget_worker(self, worker_id: UUID, *, beats: int | None = None) -> Worker | None:
        """Remove a worker that has ended, and return what was known of it; None when it stays.

        Args:
            beats: Its counter when that was found; another server may have heard from it since. None: it says so itself.
        """
        where = [Worker.id == worker_id]
        if beats is not None:
            where.append(Worker.beats == beats)
        async with self._write() as session:
            return await session.scalar(delete(Worker).where(*where).returning(Worker))

    async def browsers_without_worker(self) -> Sequence[Browser]:
        """Return the browsers of this server that start or run on a worker which has ended."""
        rows = select(Browser).where(
            Browser.owner == self.server_id,
            Browser.state.in_(HOLDS_SLOT),
            Browser.worker.is_not(None),
            Browser.worker.not_in(select(Worker.id)),
        )
        async with self._read() as session:
            return (await session.scalars(rows)).all()

    # --- slots ----------------------------------------------------------------------------------------------------

    async def reserve_slot(self, browser_id: UUID) -> Worker | None:
        """Give a browser of this server that starts a slot, or the one that it has; None when none is free, or others wait.

        Raises:
            NotStarting: The browser was stopped, or is another server's now.
        """
        async with self._write() as session:
            browser = await session.get(Browser, browser_id, with_for_update=FOR_CHANGE)
            if browser is None or (browser.owner, browser.state) != (self.server_id, State.STARTING):
                raise NotStarting("the browser was stopped before it had a slot")
            if browser.worker is not None:
                return await session.get(Worker, browser.worker)
            worker = await self._take_slot(session, behind=True)
            if worker is not None:
                browser.worker = worker.id
        return worker

    async def _take_slot(
        self, session: AsyncSession, *, behind: bool = False, wait: bool = True
    ) -> Worker | None:
        """Take a slot, if one is free: that none is, is believed only when no reservation on its way hides one.

        Args:
            behind: Leave it to those that wait, if there are some.
            wait: For reservations on their way. Not in a transaction that holds the row of a worker: it might wait for one that
                waits for that row.
        """
        worker: Worker | None = None
        ways = (True, False) if wait else (True,)
        for skip_locked in ways[:1] if self.one_writer else ways:
            taken = taken_on(free_worker(skip_locked=skip_locked, behind=behind)).returning(Worker)
            worker = await session.scalar(taken)
            if worker is not None:
                break
        return worker

    async def free_slot(self, browser_id: UUID) -> bool:
        """Take the slot of a browser back that has not started: then it may get another one. The end of one that ran does so by itself."""
        async with self._write() as session:
            browser = await session.get(Browser, browser_id, with_for_update=FOR_CHANGE)
            if browser is None or browser.worker is None or browser.state != State.STARTING:
                return False
            if browser.owner != self.server_id:
                return False
            wanted = bool(await session.scalar(freed_on(browser.worker, starting=True)))
            browser.worker = None
        self._freed(wanted)
        return True
