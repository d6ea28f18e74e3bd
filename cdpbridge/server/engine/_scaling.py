"""How many workers are wanted, and what to do about it. Pure: time and what was found come in, a `Plan` goes out.

A worker that the engine starts is an *actor* with a name out of `maximum` names, so that two servers that plan at once cannot make more
than that. An actor is `pending` until the engine has placed it, `starting` until its worker accepts browsers, then `running`.

    wanted = (browsers on workers that do not drain + orders that wait + spare slots - slots of workers that others have started)
             / slots of one worker, rounded up, and between minimum and maximum

More are wanted: those that drain for us are used again first, then new ones are started. Fewer, for `idle` seconds: actors that are
pending are withdrawn first, then the workers with the fewest browsers drain. Only a worker that drains and has no browser is ended.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

__all__ = ["Actor", "ActorState", "Plan", "Scale", "Scaler", "WorkerCount", "wanted_workers"]

_NAME: Final = "worker-"
# A worker that lived shorter has failed, and the next start waits: twice as long each time.
_SHORT_LIFE_SECONDS: Final = 60.0
_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 60.0
# When no start has failed for so long, the next failure counts as the first.
_FORGIVEN_AFTER_SECONDS: Final = 180.0
# An actor whose worker no server knows: it does not get ready, or no server hears from it any more, and it has no rentals.
_UNKNOWN_SECONDS: Final = 180.0


@dataclass(frozen=True, slots=True)
class Scale:
    """How many workers there may be.

    Attributes:
        minimum: As many run when there are no browsers.
        maximum: As many at most, with those that drain.
        spare: Slots that are kept free for the next orders.
        slots: Of one worker.
        idle: How long fewer must be wanted before one drains.
    """

    minimum: int
    maximum: int
    spare: int
    slots: int
    idle: timedelta = timedelta(seconds=60)


class ActorState(StrEnum):
    """How far an actor is."""

    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Actor:
    """A worker that the engine is to have, and that has not ended.

    Attributes:
        worker: Its id, when it runs.
    """

    name: str
    state: ActorState
    worker: UUID | None = None


@dataclass(frozen=True, slots=True)
class WorkerCount:
    """A worker as the database has it."""

    id: UUID
    slots: int
    running: int
    draining: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, in this order.

    Attributes:
        wanted: Workers that should take browsers.
        use: Workers that drain and shall take browsers again.
        start: Names of new actors.
        drain: Workers that shall take no further browser.
        withdraw: Names of actors to end if they are pending still.
        end: Names of actors to end: their workers drain and have no browser, or no server knows them.
    """

    wanted: int
    use: tuple[UUID, ...] = ()
    start: tuple[str, ...] = ()
    drain: tuple[UUID, ...] = ()
    withdraw: tuple[str, ...] = ()
    end: tuple[str, ...] = ()


def wanted_workers(
    scale: Scale, own: Iterable[WorkerCount], others: Iterable[WorkerCount], waiting: int
) -> int:
    """Return how many workers should take browsers.

    Args:
        scale: The limits.
        own: Workers that the engine has started.
        others: Workers that were started by other means.
        waiting: Orders that wait for a slot.
    """
    used = waiting + scale.spare + sum(each.running for each in own if not each.draining)
    # One that has more browsers than slots was made smaller; it offers nothing.
    used -= sum(max(each.slots - each.running, 0) for each in others if not each.draining)
    workers = -(-used // scale.slots)
    return min(max(workers, scale.minimum), scale.maximum)


class Scaler:
    """Plans, and remembers what a plan needs: since when fewer are wanted, and which starts have failed."""

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self._surplus_since: float | None = None
        self._started: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._unknown_since: dict[str, float] = {}
        # What it has let drain itself: no person wants those to stay so.
        self._drained: set[UUID] = set()
        self._failures = 0
        self._failed_at = float("-inf")

    @property
    def failures(self) -> int:
        """Starts that have failed since the last one that has not."""
        return self._failures

    def plan(
        self, now: float, actors: Collection[Actor], workers: Collection[WorkerCount], waiting: int
    ) -> Plan:
        """Return what to do now; it counts as done.

        Args:
            now: A reading of a monotonic clock, in seconds.
            actors: All that have not ended, of this and of earlier servers.
            workers: All that have registered.
            waiting: Orders that wait for a slot.
        """
        scale = self._scale
        self._note_deaths(now, {actor.name for actor in actors})
        known = {each.id: each for each in workers}
        ids = {actor.worker for actor in actors if actor.worker is not None}
        own = [each for each in workers if each.id in ids]
        others = [each for each in workers if each.id not in ids]
        self._drained &= {each.id for each in own if each.draining}
        wanted = wanted_workers(scale, own, others, waiting)

        end = self._ended_by_now(now, actors, known)
        drains = {actor.name for actor in actors if _draining(actor, known)}
        takers = [actor for actor in actors if actor.name not in drains and actor.name not in end]
        use, start = self._more(now, wanted - len(takers), actors, own)
        drain, withdraw = self._fewer(now, len(takers) - wanted, takers, known)
        for name in start:
            self._started[name] = now
        for name in (*end, *withdraw):
            self._ended[name] = now
            self._started.pop(name, None)
            self._unknown_since.pop(name, None)
        self._drained |= set(drain)
        self._drained -= set(use)
        return Plan(wanted, use, start, drain, withdraw, end)

    def _note_deaths(self, now: float, there: Collection[str]) -> None:
        if self._failures and now - self._failed_at >= _FORGIVEN_AFTER_SECONDS:
            self._failures = 0
        for name in [name for name in self._started if name not in there]:
            lived = now - self._started.pop(name)
            self._ended[name] = now
            self._unknown_since.pop(name, None)
            if lived < _SHORT_LIFE_SECONDS:
                self._failures, self._failed_at = self._failures + 1, now

    def _ended_by_now(
        self, now: float, actors: Iterable[Actor], known: Mapping[UUID, WorkerCount]
    ) -> tuple[str, ...]:
        found = []
        for actor in actors:
            if actor.state is ActorState.PENDING:
                continue
            worker = None if actor.worker is None else known.get(actor.worker)
            if worker is not None:
                self._unknown_since.pop(actor.name, None)
                if worker.draining and not worker.running:
                    found.append(actor.name)
            elif now - self._unknown_since.setdefault(actor.name, now) >= _UNKNOWN_SECONDS:
                found.append(actor.name)
        return tuple(found)

    def _more(
        self, now: float, missing: int, actors: Collection[Actor], own: Iterable[WorkerCount]
    ) -> tuple[tuple[UUID, ...], tuple[str, ...]]:
        if missing <= 0:
            return (), ()
        # The fuller first: what is nearly empty can be ended soon.
        drained = [each for each in own if each.id in self._drained and each.running]
        use = tuple(each.id for each in sorted(drained, key=lambda each: -each.running)[:missing])
        if self._failures and now - self._failed_at < _pause(self._failures):
            return use, ()
        taken = {actor.name for actor in actors}
        names = [f"{_NAME}{number}" for number in range(1, self._scale.maximum + 1)]
        # Not the one that has just ended: its folder is perhaps in use for some seconds more.
        free = sorted(
            (name for name in names if name not in taken),
            key=lambda name: self._ended.get(name, float("-inf")),
        )
        count = min(missing - len(use), self._scale.maximum - len(taken))
        return use, tuple(free[: max(count, 0)])

    def _fewer(
        self, now: float, surplus: int, takers: Iterable[Actor], known: Mapping[UUID, WorkerCount]
    ) -> tuple[tuple[UUID, ...], tuple[str, ...]]:
        if surplus <= 0:
            self._surplus_since = None
            return (), ()
        if self._surplus_since is None:
            self._surplus_since = now
        if now - self._surplus_since < self._scale.idle.total_seconds():
            return (), ()
        self._surplus_since = None
        withdraw = tuple(each.name for each in takers if each.state is ActorState.PENDING)[:surplus]
        running = [known[each.worker] for each in takers if each.worker is not None and each.worker in known]
        running.sort(key=lambda each: each.running)
        return tuple(each.id for each in running[: surplus - len(withdraw)]), withdraw


def _draining(actor: Actor, known: Mapping[UUID, WorkerCount]) -> bool:
    worker = None if actor.worker is None else known.get(actor.worker)
    return worker is not None and worker.draining


def _pause(failures: int) -> float:
    """Return the seconds that lie between a failure and the next start."""
    return min(_FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 10), _LONGEST_PAUSE_SECONDS)
