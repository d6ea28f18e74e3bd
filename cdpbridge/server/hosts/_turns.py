"""`Turns`: what a machine does a few at a time, in a fair order."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from cdpbridge.errors import BrowserStartFailed
from cdpbridge.server._fairness import fair_round

__all__ = ["NoFreeSlot", "Turns"]

# Long enough for a browser or two to start or to end; short beside what a client has waited for this answer.
_RETRY_AFTER_SECONDS: Final = 5


class NoFreeSlot(BrowserStartFailed):
    """A browser has waited in vain for its turn to start, or for a slot of a worker.

    Attributes:
        retry_after_seconds: When to order it again.
    """

    retry_after_seconds: int = _RETRY_AFTER_SECONDS


@dataclass(eq=False, slots=True)
class _Waiting:
    project_id: UUID | None
    round: int
    given: asyncio.Future[None]


class Turns:
    """Turns of one process: round robin over the projects that wait, first come, first served within one.

    The queue of a cluster has the same order, in rows (`store/_queue.py`): those outlive a server. What waits here ends with it.

    Args:
        number: How many are given at a time.
    """

    def __init__(self, number: int) -> None:
        self._free = number
        # Who came first is first.
        self._waiting: list[_Waiting] = []

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    @property
    def locked(self) -> bool:
        """True if who comes now has to wait."""
        return not self._free or bool(self._waiting)

    async def acquire(self, project_id: UUID | None = None, *, seconds: float | None = None) -> None:
        """Wait for a turn, which is `release`d later.

        Args:
            project_id: Whose it is; None is one more project.
            seconds: How long to wait at most.

        Raises:
            NoFreeSlot: It took longer.
        """
        if not self.locked:
            self._free -= 1
            return
        rounds = [each.round for each in self._waiting]
        own = [each.round for each in self._waiting if each.project_id == project_id]
        waiting = _Waiting(
            project_id,
            fair_round(min(rounds, default=None), max(own, default=None)),
            asyncio.get_running_loop().create_future(),
        )
        self._waiting.append(waiting)
        try:
            async with asyncio.timeout(seconds):
                await waiting.given
        except BaseException as error:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            else:  # it was given in the same moment
                self.release()
            if isinstance(error, TimeoutError):
                raise NoFreeSlot(
                    f"the server is busy starting other browsers (waited {seconds:g} s); try again later"
                ) from error
            raise

    def release(self) -> None:
        """Return a turn: who waits gets it."""
        if not self._waiting:
            self._free += 1
            return
        # The first of those with the lowest round.
        following = min(self._waiting, key=lambda each: each.round)
        self._waiting.remove(following)
        following.given.set_result(None)
