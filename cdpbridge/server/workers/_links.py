"""`WorkerLinks`: a server's links to all workers, and what must still be ended on them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from cdpbridge._concurrency import TaskSet

from ._dial import Dialler
from ._link import LinkLimits, WorkerLink
from ._protocol import BadMessage, Contact, Event, Of, Started, Stop, Superseded, loaded
from ._slots import Slots, WorkerAddress

__all__ = ["Unwanted", "WorkerLinks"]

logger = logging.getLogger("cdpbridge.server")

_REFRESH_SECONDS: Final = 2.0
_STOP_SECONDS: Final = 120.0
_ASK_SECONDS: Final = 10.0
_CODE, _REASON = 1001, "browser closed"


@dataclass(frozen=True, slots=True)
class Unwanted:
    """A browser that is to be ended.

    Attributes:
        worker: Where it was.
        generation: Of the rental; a newer one wants it.
    """

    worker: UUID
    generation: int


class WorkerLinks:
    """One link to each worker that is known, as long as it answers; a new one when it answers again.

    Args:
        slots: Knows the workers.
        dialler: To workers.
        limits: When a worker is dead.
        on_event: Called with what a worker says unasked.
        on_contact: Called with a worker and its answer to a contact.
        on_dead: Called with a worker that answers no more; what ran there counts as ended.
    """

    def __init__(
        self,
        slots: Slots,
        dialler: Dialler,
        limits: LinkLimits,
        *,
        on_event: Callable[[Event], object],
        on_contact: Callable[[UUID, Contact], object],
        on_dead: Callable[[UUID], object],
    ) -> None:
        self._slots = slots
        self._dialler = dialler
        self._limits = limits
        self._on_event, self._on_contact, self._on_dead = on_event, on_contact, on_dead
        self._links: dict[UUID, WorkerLink] = {}
        self._contacts: dict[UUID, Contact] = {}
        # Another worker is at their addresses.
        self._replaced: set[UUID] = set()
        # Why they are not reached.
        self._problems: dict[UUID, str | None] = {}
        # On workers that do not answer.
        self._unwanted: dict[UUID, Unwanted] = {}
        self._answered: set[UUID] = set()
        self._work = TaskSet(logger)
        self._refreshing: asyncio.Task[None] | None = None

    # --- which there are -------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Begin to look for workers."""
        await self._refresh()
        self._refreshing = asyncio.get_running_loop().create_task(self._refresh_often())

    async def close(self) -> None:
        """Close the connections; workers run on."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait({self._refreshing})
        await self._work.cancel()
        for link in list(self._links.values()):
            await link.close()
        self._links.clear()

    async def _refresh_often(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            await self._refresh()

    async def _refresh(self) -> None:
        try:
            known = {worker.id: worker for worker in await self._slots.workers()}
        except SQLAlchemyError as error:
            logger.debug("the workers cannot be looked up; those that are known stay: %s", error)
            return
        for worker in known.values():
            self.link(worker)
        for worker_id in [each for each in self._links if each not in known]:
            self._links[worker_id].forget()
        self._replaced &= set(known)
        self._problems = {each: it for each, it in self._problems.items() if each in known}
        self._unwanted = {each: it for each, it in self._unwanted.items() if it.worker in known}

    def link(self, worker: WorkerAddress) -> WorkerLink | None:
        """Return the link to a worker, a new one if need be; None when another worker is at its address."""
        if worker.id not in self._links and worker.id not in self._replaced:
            self._links[worker.id] = WorkerLink(
                worker,
                self._dialler,
                self._limits,
                on_event=self._on_event,
                on_contact=partial(self._contact, worker.id),
                on_dead=partial(self._dead, worker.id),
                on_problem=partial(self._noted, worker.id),
            )
        return self._links.get(worker.id)

    def get(self, worker_id: UUID) -> WorkerLink | None:
        """Return the link to a worker that answers; None when it does not any more."""
        return self._links.get(worker_id)

    def answered(self) -> Collection[UUID]:
        """Return the workers that have answered since the last call."""
        answered, self._answered = self._answered, set()
        return answered

    @property
    def ready(self) -> int:
        """The number of browsers that run and wait for orders."""
        return sum(contact.ready for contact in self._contacts.values())

    def _contact(self, worker_id: UUID, contact: Contact) -> None:
        self._contacts[worker_id] = contact
        self._answered.add(worker_id)
        self._on_contact(worker_id, contact)
        there = contact.browsers()
        for browser_id, unwanted in list(self._unwanted.items()):
            if unwanted.worker != worker_id:
                continue
            if browser_id in there:
                self._work.start(self.end(browser_id, unwanted), f"the end of browser {browser_id}")
            else:
                del self._unwanted[browser_id]

    def _noted(self, worker_id: UUID, problem: str | None) -> None:
        # Each try has a link of its own when one counts as dead; that is said once.
        if problem is not None and self._problems.get(worker_id) != problem:
            logger.warning("%s", problem)
        self._problems[worker_id] = problem
        self._work.start(self._slots.note(worker_id, problem), f"what is known of worker {worker_id}")

    def _dead(self, worker_id: UUID) -> None:
        link = self._links.pop(worker_id, None)
        self._contacts.pop(worker_id, None)
        if link is not None and link.replaced:
            self._replaced.add(worker_id)
        self._on_dead(worker_id)

    # --- where a browser is ----------------------------------------------------------------------------------------

    async def _contacted(self) -> list[WorkerLink]:
        await self._refresh()
        links = list(self._links.values())
        await asyncio.gather(*(link.contacted() for link in links))
        return links

    async def with_browser(self, browser_id: UUID) -> WorkerLink | None:
        """Return the link to the worker that runs a browser, or keeps its report."""
        for link in await self._contacted():
            contact = self._contacts.get(link.worker.id)
            if contact is not None and browser_id in contact.browsers():
                return link
        return None

    async def _perhaps_with(self, browser_id: UUID) -> list[WorkerLink]:
        """Return the link to the worker that says that it runs a browser; all of them when none does: it may have just started."""
        links = await self._contacted()
        found = [
            link
            for link in links
            if (contact := self._contacts.get(link.worker.id)) is not None
            and any(each.browser == browser_id for each in contact.running)
        ]
        return found or links

    async def answer_of(
        self, browser_id: UUID, do: str, message: object
    ) -> tuple[WorkerLink, Started] | None:
        """Return the worker that runs a browser, and what it answers to a request for it; None when none does."""
        for link in await self._perhaps_with(browser_id):
            try:
                answer = await link.ask(do, message, timeout=_ASK_SECONDS)
            except (OSError, TimeoutError, Superseded, BadMessage) as error:
                logger.debug("browser %s is not on %s: %r", browser_id, link.worker.address, error)
                continue
            if answer is not None:
                return link, loaded(Started, answer)
        return None

    # --- what is not wanted ----------------------------------------------------------------------------------------

    def discard(self, browser_id: UUID, unwanted: Unwanted) -> None:
        """End a browser, and forget its report, when its worker answers again."""
        self._unwanted[browser_id] = unwanted

    async def end(self, browser_id: UUID, unwanted: Unwanted) -> None:
        """Do so now, if the worker answers, else later."""
        self._unwanted[browser_id] = unwanted
        link = self._links.get(unwanted.worker)
        if link is None:
            return
        try:
            order = Stop(browser_id, unwanted.generation, _CODE, _REASON, save=False)
            await link.ask("stop", order, timeout=_STOP_SECONDS)
            await link.ask("taken", Of(browser_id), timeout=_ASK_SECONDS)
        except Superseded:
            self._unwanted.pop(browser_id, None)
        except (OSError, TimeoutError, BadMessage) as error:
            logger.debug("browser %s could not be ended now: %r", browser_id, error)
