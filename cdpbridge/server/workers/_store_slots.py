"""`StoreSlots`: slots of workers in the database, and the wait for one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from cdpbridge._concurrency import TaskSet, to_the_end
from cdpbridge.errors import BrowserStartFailed
from cdpbridge.server.hosts import NoFreeSlot
from cdpbridge.server.store import NotStarting, Store, Worker

from ._slots import WorkerAddress

__all__ = ["StoreSlots"]

logger = logging.getLogger("cdpbridge.server")

# How often the queue is looked at while a browser of this server waits: what counts is the rows. A slot that this server frees, or that
# another one gives to a browser of this one, is known at once.
_LOOK_SECONDS: Final = 0.5
_LISTEN_AGAIN_SECONDS: Final = 5.0


class StoreSlots:
    """Implements `Slots`.

    Args:
        store: Open.
        timeout: How long a browser waits for a slot.
        wall: Where dates in rows come from.
    """

    def __init__(self, store: Store, *, timeout: timedelta, wall: Callable[[], datetime]) -> None:
        self._store = store
        self._seconds = timeout.total_seconds()
        self._wall = wall
        self._waiting: dict[UUID, asyncio.Future[Worker]] = {}
        self._looking = TaskSet(logger)
        self._look_task: asyncio.Task[None] | None = None
        self._listening = False

    def open(self) -> None:
        """Begin to give slots that are freed here to browsers that wait on other servers."""
        if not self._store.one_writer:
            self._looking.start(self._serve_others(), "the queue of other servers")

    @property
    def waiting(self) -> int:
        """The number of browsers of this server that wait."""
        return len(self._waiting)

    async def reserve(self, browser_id: UUID) -> WorkerAddress:
        """Take a slot, or wait for one; see `Slots.reserve`."""
        try:
            worker = await self._store.reserve_slot(browser_id)
            if worker is None:
                worker = await self._wait(browser_id)
        except NotStarting as error:
            raise BrowserStartFailed(str(error)) from error
        return _address(worker)

    async def free(self, browser_id: UUID) -> None:
        """Return the slot of a browser that has not started; see `Slots.free`. One that ran returns its slot with its last entry."""
        await self._store.free_slot(browser_id)

    async def worker(self, worker_id: UUID) -> WorkerAddress | None:
        """Return a worker; see `Slots.worker`."""
        worker = await self._store.worker(worker_id)
        return None if worker is None else _address(worker)

    async def workers(self) -> Collection[WorkerAddress]:
        """Return all workers; see `Slots.workers`."""
        return [_address(worker) for worker in await self._store.workers()]

    async def note(self, worker_id: UUID, problem: str | None) -> None:
        """Note why a worker is not reached; see `Slots.note`."""
        try:
            await self._store.note_problem(worker_id, problem)
        except SQLAlchemyError as error:
            logger.debug("what is the matter with worker %s cannot be noted: %s", worker_id, error)

    async def close(self) -> None:
        """Look no more; what waited has been cancelled before."""
        await self._looking.cancel()

    async def _wait(self, browser_id: UUID) -> Worker:
        given: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        try:
            await to_the_end(self._store.join_queue(browser_id, now=self._wall()))
            self._waiting[browser_id] = given
            self._listen()
            if self._look_task is None or self._look_task.done():
                self._look_task = self._looking.start(self._look(), "the queue for slots")
            async with asyncio.timeout(self._seconds):
                return await given
        except TimeoutError as error:
            late = await to_the_end(self._store.leave_queue(browser_id))
            if late is None:
                raise NoFreeSlot(
                    f"no worker has a free slot (waited {self._seconds:g} s); try again later"
                ) from error
            return late
        finally:
            # A client that left: the row goes with its browser's, when the start is withdrawn.
            self._waiting.pop(browser_id, None)

    def _listen(self) -> None:
        """Hear from now on what other servers give: most servers never have an order that waits, and need no connection for that."""
        if not (self._listening or self._store.one_writer):
            self._listening = True
            self._looking.start(self._hear(), "news of slots")

    async def _hear(self) -> None:
        while True:
            try:
                await self._store.hear_of_slots()
            except SQLAlchemyError as error:
                logger.debug("what other servers give is not heard of, and looked for: %s", error)
            await asyncio.sleep(_LISTEN_AGAIN_SECONDS)

    async def _serve_others(self) -> None:
        while True:
            await self._store.slot_wanted.wait()
            self._store.slot_wanted.clear()
            if self._waiting:
                continue  # `_look` serves the queue
            try:
                await self._store.serve_queue()
            except SQLAlchemyError as error:
                logger.debug("the queue for slots cannot be read: %s", error)

    async def _look(self) -> None:
        """Serve the queue, and pass on what browsers of this server were given, by whatever server."""
        away = False
        while self._waiting:
            self._store.slot_freed.clear()
            try:
                await self._store.serve_queue()
                given = await self._store.slots_given(list(self._waiting))
            except SQLAlchemyError:
                if not away:
                    logger.exception("the queue for slots cannot be read; those that wait wait on")
                away = True
            else:
                away = False
                for browser_id, worker in given.items():
                    waiting = self._waiting.get(browser_id)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(worker)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._store.slot_freed.wait()


def _address(worker: Worker) -> WorkerAddress:
    return WorkerAddress(worker.id, worker.address, worker.slots, worker.tls)
