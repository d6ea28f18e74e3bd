"""Changes of a worker's counters, each in the transaction of the browser's own change.

So `Worker.running` is always the number of its browsers that have not stopped, and `Worker.starting` of those that start. A
transaction locks the browser's row before the worker's.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Update, select, update

from ._models import Worker

__all__ = ["bumped", "free_worker", "freed_on", "started_on", "taken_on"]


def free_worker(*, skip_locked: bool) -> Select[Any]:
    """Return the query for the worker that should get the next browser: the one with the fewest that start, then that run.

    Args:
        skip_locked: Pass over rows that another transaction holds. When nothing is found so, that proves nothing: one
            reservation on its way hides all slots of its worker.
    """
    return (
        select(Worker.id)
        .where(~Worker.draining, Worker.running < Worker.slots)
        .order_by(Worker.starting, Worker.running, Worker.id)
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


def freed_on(worker_id: UUID, *, starting: bool) -> Update:
    """Free the slot of a browser that has ended.

    Args:
        starting: It had not started.
    """
    counters = {"running": Worker.running - 1}
    if starting:
        counters["starting"] = Worker.starting - 1
    return update(Worker).where(Worker.id == worker_id).values(counters)


def bumped(where: ColumnElement[bool]) -> Update:
    """Count a sign of life of workers."""
    return update(Worker).where(where).values(beats=Worker.beats + 1)
