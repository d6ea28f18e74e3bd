"""The workers of a cluster in figures, and what an operator does with them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from cdpbridge._on_use import ModuleOnUse
from cdpbridge.server.store import Store, Worker

if TYPE_CHECKING:
    from cdpbridge.api import admin
else:
    admin = ModuleOnUse("cdpbridge.api.admin")

__all__ = ["Capacity", "capacity_of", "drained_worker", "listed_workers"]

audit = logging.getLogger("cdpbridge.server.audit")


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the workers of all servers have.

    Attributes:
        workers: How many take browsers; one that has just registered does so when a server has heard from it.
        draining: How many take no more, and still run some perhaps.
        slots: Of the workers that take browsers.
        running: Browsers that have a slot, of any worker; those that start are among them.
        starting: Of them, those that start.
        free: Slots that an order can get.
        waiting: Orders that wait for one.
    """

    workers: int
    draining: int
    slots: int
    running: int
    starting: int
    free: int
    waiting: int


async def capacity_of(store: Store) -> Capacity:
    """Return what the workers have now."""
    found = await store.workers()
    taking = [each for each in found if each.accepting]
    return Capacity(
        workers=len(taking),
        draining=sum(each.draining for each in found),
        slots=sum(each.slots for each in taking),
        running=sum(each.running for each in found),
        starting=sum(each.starting for each in found),
        free=sum(each.free for each in taking),
        waiting=await store.waiting(),
    )


async def listed_workers(store: Store) -> admin.Workers:
    """Return every worker, by name."""
    return admin.Workers(
        items=[_shown(each) for each in await store.workers()], waiting_orders=await store.waiting()
    )


async def drained_worker(store: Store, worker_id: UUID) -> admin.Worker | None:
    """Give a worker no further browser; None when there is no such worker."""
    worker = await store.drain_worker(worker_id)
    if worker is None:
        return None
    audit.info("worker %s (%s) is drained; it has %d browsers", worker.id, worker.name, worker.running)
    return _shown(worker)


def _shown(worker: Worker) -> admin.Worker:
    return admin.Worker(
        id=worker.id,
        name=worker.name,
        address=worker.address,
        slots=worker.slots,
        running=worker.running,
        starting=worker.starting,
        draining=worker.draining,
        accepting=worker.accepting,
        joined_at=worker.joined_at,
        tls=worker.tls,
        problem=worker.problem,
    )
