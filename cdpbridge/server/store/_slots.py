"""Changes of a worker's counters, each in the transaction of the browser's own change.

So `Worker.running` is always the number of its browsers that have not stopped, and `Worker.starting` of those that start. A
transaction locks the browser's row before the worker's.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Update, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.dml import ReturningUpdate

from ._models import Waiter, Worker

__all__ = ["bumped", "free_worker", "freed_on", "needs_no_slot", "started_on", "taken_on"]


def free_worker(*, skip_locked: bool, behind: bool) -> Select[Any]:
    """Return the query for the worker that should get the next browser: the one with the fewest that start, then that run.

    One that has registered and that no server has heard from gets none: it may be out of reach, and would have the fewest for good.

    Args:
        skip_locked: Pass over rows that another transaction holds. When nothing is found so, that proves nothing: one
            reservation on its way hides all slots of its worker. Without this, any that has a slot is found, in the order of ids:
            a transaction keeps the lock of a row that it has waited for in vain, and two that wait in different orders would
            wait for each other.
        behind: Find none while others wait.
    """
    where = [~Worker.draining, Worker.beats > 0, Worker.running < Worker.slots]
    if behind:
        where.append(~select(Waiter.number).where(Waiter.server.is_not(None)).exists())
    return (
        select(Worker.id)
        .where(*where)
        .order_by(*([Worker.starting, Worker.running] if skip_locked else []), Worker.id)
        .limit(1)
        .with_for_update(key_share=True, skip_locked=skip_locked)
    )


def taken_on(worker: Select[Any]) -> Update:
    """Take a slot of the worker that a query finds, for a browser that starts."""
    return (
        update(Worker)
        .where(Worker.id == worker.scalar_subquery())
        .values(running=Worker.running + 1, starting=Worker.starting + 1)
    )


def started_on(worker_id: UUID) -> Update:
    """Count a browser as started."""
    return update(Worker).where(Worker.id == worker_id).values(starting=Worker.starting - 1)


def freed_on(worker_id: UUID, *, starting: bool) -> ReturningUpdate[tuple[bool]]:
    """Free the slot of a browser that has ended; it returns True if another one waits for it, on whatever server.

    Args:
        worker_id: Whose slot it has.
        starting: It had not started.
    """
    counters = {"running": Worker.running - 1}
    if starting:
        counters["starting"] = Worker.starting - 1
    waits = select(Waiter.number).where(Waiter.server.is_not(None)).exists()
    return update(Worker).where(Worker.id == worker_id).values(counters).returning(waits)


async def needs_no_slot(
    session: AsyncSession, browser_id: UUID, worker_id: UUID | None, *, server_ended: bool
) -> bool:
    """Free the slot of a browser that does not start, or its place in the queue; True if another one waits for the slot.

    Args:
        worker_id: Whose slot it has.
        server_ended: Its place stays for a repeat of the request, if that had an `Idempotency-Key`.
    """
    wanted = worker_id is not None and bool(await session.scalar(freed_on(worker_id, starting=True)))
    waits = Waiter.browser_id == browser_id
    if server_ended:
        await session.execute(update(Waiter).where(waits, Waiter.key.is_not(None)).values(server=None))
        waits &= Waiter.key.is_(None)
    await session.execute(delete(Waiter).where(waits))
    return wanted


def bumped(where: ColumnElement[bool]) -> Update:
    """Count a sign of life of workers."""
    return update(Worker).where(where).values(beats=Worker.beats + 1)
