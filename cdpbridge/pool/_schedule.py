"""Which waiting lease gets a tab of which browser, and when browsers are opened and stopped. Pure: the time is an argument.

Theory. A pool has up to `size` places, and a place holds one rented browser from the decision to open it until its stop is
confirmed, so that no more than `size` are ever paid at once:

    opening ──▶ ready ──▶ draining ──▶ stopping ──▶ (free)
       │          │  retired, idle, faulty    ▲
       ▼          └────────── lost ───────────┘
     (free)

Everything else only notes what has happened; `plan` alone decides, from the whole state, what is done now:

* Leases are granted in the order they were requested. Of the browsers with a free tab and enough paid
  time, the fullest one is taken, then the oldest: so the others get idle and can be stopped.
* A browser is opened when more leases wait than the browsers that are being opened will have tabs.
* It gets no more leases when its paid time is nearly over, and is stopped when the last one ends.
* An idle one is kept for `idle_seconds`, and then to the end of the minute it has begun, which costs nothing more.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

__all__ = ["Action", "Grant", "Open", "Phase", "Place", "Refuse", "Rules", "Schedule", "Stop", "Ticket"]

_MINUTE: Final = 60.0  # seconds; what is billed, see `cdpbridge.billing`
_STOP_MARGIN: Final = 2.0  # seconds between our decision to stop and the server's clock reading
_RETIRE_SHARE: Final = 0.1  # of the paid time
_RETIRE_LONGEST: Final = 60.0  # seconds
_OPEN_TRIES: Final = 3  # failures in a row before waiting leases are refused
_FIRST_DELAY: Final = 0.5  # seconds
_LONGEST_DELAY: Final = 15.0


class Phase(StrEnum):
    """Where a place is in its life."""

    OPENING = "opening"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Rules:
    """What a pool's owner wants.

    Attributes:
        size: Browsers at once, those that are being opened and stopped included.
        tabs: Leases of one browser at once.
        idle_seconds: How long a browser without leases is kept, before its minute is used up.
        retire_seconds: How long before the end of its paid time a browser gets no more leases. None: a tenth of that time, a
            minute at most. Never more than half of it.
    """

    size: int
    tabs: int
    idle_seconds: float = 30.0
    retire_seconds: float | None = None

    def retire_before(self, life: float) -> float:
        """Return the seconds before its end in which a browser with `life` seconds of paid time gets no more leases."""
        if self.retire_seconds is None:
            return min(_RETIRE_LONGEST, life * _RETIRE_SHARE)
        return min(self.retire_seconds, life / 2)


@dataclass(slots=True, eq=False)
class Ticket:
    """A waiting lease.

    Attributes:
        need: Paid time the lease may take, seconds.
    """

    need: float = 0.0


@dataclass(slots=True, eq=False)
class Place:
    """One browser, as the schedule sees it. Times are readings of the monotonic clock, seconds.

    Attributes:
        leases: How many it has now.
        lost: It was lost: its stop does not wait for its leases.
    """

    phase: Phase = Phase.OPENING
    started: float = 0.0
    expires: float = math.inf
    leases: int = 0
    idle_since: float = 0.0
    lost: bool = False

    def latest(self, need: float, retire: float) -> float:
        """Return until when it takes a lease that may use `need` seconds.

        A lease that is longer than what a young browser offers is taken by a young browser.
        """
        life = self.expires - self.started
        return self.expires - min(max(need, retire), life - retire)


@dataclass(frozen=True, slots=True)
class Open:
    """Rent a browser for this place."""

    place: Place


@dataclass(frozen=True, slots=True)
class Grant:
    """The lease of this ticket is on this place."""

    ticket: Ticket
    place: Place


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the browser of this place."""

    place: Place


@dataclass(frozen=True, slots=True)
class Refuse:
    """No browser can be rented: raise `error` in the waiting lease."""

    ticket: Ticket
    error: Exception


Action = Open | Grant | Stop | Refuse


@dataclass(slots=True)
class Schedule:
    """The state of a pool, and its only rules.

    Attributes:
        places: Those in use, the oldest first.
        waiting: In the order they came.
        failure: Why the last browser could not be opened; None when the last one could.
    """

    rules: Rules
    places: list[Place] = field(default_factory=list)
    waiting: deque[Ticket] = field(default_factory=deque)
    failure: Exception | None = None
    _failures: int = 0
    _tries: int = 0
    _fatal: bool = False
    _not_before: float = -math.inf

    # --- what has happened ----------------------------------------------------------------------------------------

    def ask(self, need: float = 0.0) -> Ticket:
        """Enqueue a lease of up to `need` seconds; return its ticket."""
        ticket = Ticket(need)
        self.waiting.append(ticket)
        return ticket

    def withdraw(self, ticket: Ticket) -> None:
        """Remove a ticket from the queue. Does nothing for one that has been granted or refused."""
        if ticket in self.waiting:
            self.waiting.remove(ticket)

    def opened(self, place: Place, *, started: float, expires: float, now: float) -> None:
        """Note that the browser of a place can be used."""
        place.phase, place.started, place.expires, place.idle_since = Phase.READY, started, expires, now
        self.failure, self._failures, self._tries, self._fatal = None, 0, 0, False

    def not_opened(
        self, place: Place, error: Exception, *, now: float, final: bool = False, full: bool = False
    ) -> None:
        """Note that a browser could not be rented.

        Args:
            final: True if no other can be rented either: a key is wrong, the credits are used up.
            full: True if the server had no free slot; that is never final.
        """
        self.places.remove(place)
        self.failure = error
        if not full:
            self._failures += 1
        self._fatal = final or self._failures >= _OPEN_TRIES
        self._not_before = now + min(_FIRST_DELAY * 2 ** min(self._tries, 10), _LONGEST_DELAY)
        self._tries += 1

    def released(self, place: Place, *, now: float) -> None:
        """Note that a lease has ended."""
        place.leases -= 1
        if not place.leases:
            place.idle_since = now

    def drain(self, place: Place) -> None:
        """Grant no more leases on a browser; those it has may end."""
        if place.phase is Phase.READY:
            place.phase = Phase.DRAINING

    def lose(self, place: Place) -> None:
        """Note that a browser was lost, and its leases with it."""
        place.lost = True
        self.drain(place)

    def stopped(self, place: Place) -> None:
        """Note that the stop of a browser is confirmed, or has failed for good."""
        self.places.remove(place)

    # --- what is to be done ---------------------------------------------------------------------------------------

    def plan(self, now: float) -> list[Action]:
        """Return what is to be done now; it counts as done with the call."""
        for place in self.places:
            if place.phase is Phase.READY and now >= self._retires(place):
                place.phase = Phase.DRAINING
        actions: list[Action] = [*self._grants(now)]
        actions += self._refusals()
        self._make_way(now)
        actions += self._opens(now)
        actions += self._stops(now)
        return actions

    def next_look(self, now: float) -> float:
        """Return when `plan` is to be called again even if nothing happens, seconds; infinity for never."""
        looks = [math.inf]
        for place in self.places:
            if place.phase is Phase.READY:
                looks.append(self._retires(place))
                if not place.leases and not self.waiting:
                    looks.append(self._idle_end(place))
        if self.waiting and now < self._not_before:
            looks.append(self._not_before)
        return min(looks)

    def _grants(self, now: float) -> list[Grant]:
        granted = []
        while self.waiting:
            fitting = [
                place for place in self._fitting(self.waiting[0], now) if place.leases < self.rules.tabs
            ]
            if not fitting:
                break
            place = max(fitting, key=lambda one: (one.leases, -one.started))
            place.leases += 1
            granted.append(Grant(self.waiting.popleft(), place))
        return granted

    def _fitting(self, ticket: Ticket, now: float) -> list[Place]:
        """Return the browsers whose paid time is enough for a lease."""
        return [
            place
            for place in self.places
            if place.phase is Phase.READY
            and now <= place.latest(ticket.need, self.rules.retire_before(place.expires - place.started))
        ]

    def _refusals(self) -> list[Refuse]:
        """Refuse the waiting leases after a fatal failure, unless there is a browser to wait for."""
        if not self._fatal:
            return []
        assert self.failure is not None  # it has set `_fatal`
        if any(place.phase in {Phase.OPENING, Phase.READY} for place in self.places):
            return []
        refused = [Refuse(ticket, self.failure) for ticket in self.waiting]
        self.waiting.clear()
        self._fatal, self._failures = False, 0  # later requests try again
        self._not_before = -math.inf
        return refused

    def _make_way(self, now: float) -> None:
        """When only a fresh browser can serve the next lease and every place is taken, drain the one that ends first."""
        if not self.waiting or len(self.places) < self.rules.size or self._fitting(self.waiting[0], now):
            return
        if all(place.phase is Phase.READY for place in self.places):
            min(self.places, key=lambda place: place.expires).phase = Phase.DRAINING

    def _opens(self, now: float) -> list[Open]:
        if now < self._not_before:
            return []
        opening = sum(place.phase is Phase.OPENING for place in self.places)
        wanted = math.ceil(len(self.waiting) / self.rules.tabs) - opening
        opens = [Open(Place()) for _ in range(min(wanted, self.rules.size - len(self.places)))]
        self.places += [each.place for each in opens]
        return opens

    def _stops(self, now: float) -> list[Stop]:
        stops = []
        for place in self.places:
            unused = place.phase is Phase.DRAINING and (place.lost or not place.leases)
            idle = place.phase is Phase.READY and not place.leases and not self.waiting
            if unused or (idle and now >= self._idle_end(place)):
                place.phase = Phase.STOPPING
                stops.append(Stop(place))
        return stops

    def _retires(self, place: Place) -> float:
        return place.expires - self.rules.retire_before(place.expires - place.started)

    def _idle_end(self, place: Place) -> float:
        """Return the end of the minute in which it has been idle for long enough, less the time a stop takes to arrive."""
        least = place.idle_since + self.rules.idle_seconds
        minutes = max(math.ceil((least + _STOP_MARGIN - place.started) / _MINUTE), 1)
        return place.started + minutes * _MINUTE - _STOP_MARGIN
