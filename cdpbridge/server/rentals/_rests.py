"""`Rests`: what is left to do of browsers that have ended, after the answers to their stops: profiles are saved, folders removed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from cdpbridge._concurrency import TaskSet
from cdpbridge.server.hosts import Rest, SavedState

from ._rental import Rental

__all__ = ["Rests"]

logger = logging.getLogger("cdpbridge.server")

# How long a new rental waits for the end of one with the same profile.
_END_SECONDS: Final = 10.0
# Longer than a profile may take to be saved, its upload included.
_SAVE_SECONDS: Final = 70.0
# A client that lists profiles need not wait for a large one.
_LOOK_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class _Ended:
    """A browser that has ended.

    Attributes:
        saved: Its profile may be used by others when this task has ended.
        removed: Nothing of it is left when this one has.
    """

    project_id: UUID
    profile_id: UUID | None
    saved: asyncio.Task[None]
    removed: asyncio.Task[None]


class Rests:
    """Does the rest of each browser in the background. A slot is free when the folder that took it is removed."""

    def __init__(self) -> None:
        self._ended: dict[UUID, _Ended] = {}
        self._tasks = TaskSet(logger)

    def start(
        self,
        rental: Rental,
        rest: Rest,
        note: Callable[[SavedState], Awaitable[object]],
        *,
        after: asyncio.Event,
    ) -> asyncio.Task[None]:
        """Begin, and return what ends when the profile of the browser may be used again.

        Args:
            rental: Of the browser; nothing of it runs any more.
            rest: What to do.
            note: Called with the version that was saved.
            after: Nothing is removed before: the file system would write that out together with what is waited for.
        """
        saved = self._tasks.start(rest.save(note), f"the save of the profile of browser {rental.id}")
        removed = self._tasks.start(_removed(saved, rest, after), f"the removal of browser {rental.id}")
        self._ended[rental.id] = _Ended(rental.project_id, rental.profile_id, saved, removed)
        removed.add_done_callback(lambda _: self._ended.pop(rental.id))
        return saved

    async def profile_free(self, rentals: Collection[Rental], profile_id: UUID) -> None:
        """Wait for ending browsers that save a profile, so that a new one gets the saved state.

        Args:
            rentals: Of this server.
            profile_id: Which.
        """
        ends = {
            rental.ending
            for rental in rentals
            if rental.ending is not None and rental.profile_id == profile_id
        }
        await _wait(ends, _END_SECONDS)
        saving = {each.saved for each in self._ended.values() if each.profile_id == profile_id}
        await _wait(saving, _SAVE_SECONDS)

    async def seen(self, project_id: UUID, profile_id: UUID | None = None) -> None:
        """Wait, but not long, until a look at a profile of a project, or at all of them, shows what was saved last."""
        saving = {
            each.saved
            for each in self._ended.values()
            if each.project_id == project_id and profile_id in {None, each.profile_id}
        }
        await _wait(saving, _LOOK_SECONDS)

    async def slot(self, rentals: Collection[Rental], project_id: UUID, limit: int) -> None:
        """Wait until folders of ended browsers take no slot of a project that a new one needs.

        Args:
            rentals: Of this server, with the new one.
            project_id: Whose slots.
            limit: How many it has.
        """
        while removing := {each.removed for each in self._ended.values() if each.project_id == project_id}:
            taken = sum(rental.project_id == project_id for rental in rentals)
            if taken + len(removing) <= limit:
                return
            await asyncio.wait(removing, return_when=asyncio.FIRST_COMPLETED)

    async def wait(self) -> None:
        """Wait until all of it is done."""
        await self._tasks.wait()


async def _wait(tasks: set[asyncio.Task[None]], timeout: float) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=timeout)


async def _removed(saved: asyncio.Task[None], rest: Rest, after: asyncio.Event) -> None:
    await asyncio.wait({saved})
    await after.wait()
    await rest.remove()
