"""The queue for slots of workers, as rows: every server sees the same order, and any of them may serve it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from cdpbridge._lifecycle import State
from cdpbridge.server._fairness import fair_round

from ._models import Browser, IdempotencyKey, Waiter, Worker
from ._postgresql import CHANNEL_OF_SLOTS, LOCK_OF_QUEUE, listening
from ._refusals import NotStarting
from ._workers import Workers

__all__ = ["Queue"]

# So that no transaction is long; the next one follows at once.
_SERVED_AT_ONCE: Final = 50
# How long a repeat may take that claims the place of an order whose server has ended: longer than clients retry.
_CLAIM_AGE: Final = timedelta(minutes=10)


class Queue(Workers):
    """Queries and transactions of browsers that wait for a slot."""

    async def join_queue(self, browser_id: UUID, *, now: datetime) -> None:
        """Let a browser of this server that starts wait for a slot, behind those that wait.

        It gets the place of an earlier order with the same `Idempotency-Key` whose server has ended.

        Raises:
            NotStarting: The browser was stopped, or is another server's now.
        """
        async with self._write() as session:
            found = select(Browser.project_id, IdempotencyKey.key).outerjoin(
                IdempotencyKey, IdempotencyKey.browser_id == Browser.id
            )
            mine = (Browser.owner == self.server_id, Browser.state == State.STARTING)
            row = (await session.execute(found.where(Browser.id == browser_id, *mine))).one_or_none()
            if row is None:
                raise NotStarting("the browser was stopped before it had a slot")
            # One of a project joins at a time, so that no two of them are in one round.
            await self._lock(session, row.project_id)
            await session.execute(
                delete(Waiter).where(Waiter.server.is_(None), Waiter.joined_at < now - _CLAIM_AGE)
            )
            former = None if row.key is None else await self._former(session, row.project_id, row.key)
            if former is not None:
                former.browser_id, former.server = browser_id, self.server_id
                return
            rounds = select(
                func.min(Waiter.round), func.max(Waiter.round).filter(Waiter.project_id == row.project_id)
            ).where(Waiter.server.is_not(None))
            first, own_last = (await session.execute(rounds)).one()
            session.add(
                Waiter(
                    browser_id=browser_id,
                    project_id=row.project_id,
                    server=self.server_id,
                    key=row.key,
                    round=fair_round(first, own_last),
                    joined_at=now,
                )
            )

    async def _former(self, session: AsyncSession, project_id: UUID, key: str) -> Waiter | None:
        where = (Waiter.project_id == project_id, Waiter.key == key, Waiter.server.is_(None))
        return (await session.scalars(select(Waiter).where(*where).order_by(Waiter.number).limit(1))).first()

    async def leave_queue(self, browser_id: UUID) -> Worker | None:
        """Wait no more; return the worker of the slot that the browser has been given meanwhile."""
        async with self._write() as session:
            await session.execute(delete(Waiter).where(Waiter.browser_id == browser_id))
            has = select(Worker).join(Browser, Browser.worker == Worker.id)
            return await session.scalar(has.where(Browser.id == browser_id))

    async def serve_queue(self) -> int:
        """Give the slots that are free to the browsers that wait, of whatever server, and return how many got one.

        One server at a time does so; another one returns at once. Servers whose browsers were given one hear of it, see `hear_of_slots`:
        this transaction is one at a time already, so it is the one that may notify, as PostgreSQL lets one such commit at a time.
        """
        served = 0
        others: set[UUID] = set()
        waiting = (
            select(Waiter)
            .where(Waiter.server.is_not(None))
            .order_by(Waiter.round, Waiter.number)
            .limit(_SERVED_AT_ONCE)
        )
        async with self._write() as session:
            if not await self._try_lock(session, LOCK_OF_QUEUE):
                return 0
            for waiter in await session.scalars(waiting):
                # A browser whose row is held is perhaps being stopped; the next time will show it.
                row = select(Browser).where(Browser.id == waiter.browser_id)
                browser = await session.scalar(row.with_for_update(key_share=True, skip_locked=True))
                if browser is None:
                    continue
                if browser.state == State.STARTING and browser.worker is None:
                    worker = await self._take_slot(session, wait=not served)
                    if worker is None:
                        break
                    browser.worker = worker.id
                    served += 1
                    if waiter.server is not None and waiter.server != self.server_id:
                        others.add(waiter.server)
                # Its client may have left in this moment.
                await session.execute(delete(Waiter).where(Waiter.number == waiter.number))
            for server in () if self.one_writer else others:
                await session.execute(select(func.pg_notify(CHANNEL_OF_SLOTS, str(server))))
        return served

    async def hear_of_slots(self) -> None:
        """Set `slot_freed` whenever another server gives a slot to a browser of this one, until the connection is lost.

        It has a connection of its own, so that none of those that statements need is taken.

        Raises:
            SQLAlchemyError: The database is away.
        """
        mine = str(self.server_id)

        def heard(_connection: object, _process: int, _channel: str, server: object) -> None:
            if server == mine:
                self.slot_freed.set()

        async with self._use(), listening(self._engine.url, CHANNEL_OF_SLOTS, heard) as ended:
            # What was given before is looked for at once.
            self.slot_freed.set()
            await ended.wait()

    async def slots_given(self, ids: Collection[UUID]) -> Mapping[UUID, Worker]:
        """Return the worker of each of these browsers that has got a slot."""
        has = select(Browser.id, Worker).join(Worker, Browser.worker == Worker.id).where(Browser.id.in_(ids))
        async with self._read() as session:
            return {row[0]: row[1] for row in await session.execute(has)}

    async def waiting(self) -> int:
        """Return how many browsers wait for a slot."""
        async with self._read() as session:
            rows = select(func.count()).select_from(Waiter).where(Waiter.server.is_not(None))
            return await session.scalar(rows) or 0

    async def _try_lock(self, session: AsyncSession, number: int) -> bool:
        """Take an advisory lock until the end of the transaction, unless another server has it."""
        if self.one_writer:
            return True
        return bool(await session.scalar(text(f"SELECT pg_try_advisory_xact_lock({number})")))
