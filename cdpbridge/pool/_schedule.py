"""Which waiting lease gets a tab of which browser, and when browsers are opened and given up. Pure: the present is an argument.

Theory. A pool has up to `size` places, and a place holds one rented browser from the decision to open it until its stop is
confirmed, so that no more than `size` are ever paid at once:

    opening ──▶ ready ──▶ draining ──▶ stopping ──▶ (free)
       │          │  retired, idle, faulty    ▲
       ▼          └────────── lost ───────────┘
     (free)

Everything else only notes what has happened; `plan` alone decides, from the whole state, what is done now:

* Leases are granted in the order they were asked for, and nobody overtakes. Of the browsers with a free tab and enough paid
  time, the fullest one is taken, then the oldest: so the others get idle and can be given back.
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
_OPEN_TRIES: Final = 3  # failures in a row before those who wait are told
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
        """Seconds before its end in which a browser with `life` seconds of paid time gets no more leases."""
        if self.retire_seconds is None:
            return min(_RETIRE_LONGEST, life * _RETIRE_SHARE)
        return min(self.retire_seconds, life / 2)


@dataclass(slots=True, eq=False)
class Ticket:
    """Somebody who waits for a lease.

    Attributes:
        need: Paid time the lease may take, seconds.
    """

    need: float = 0.0


@dataclass(slots=True, eq=False)
class Place:
    """One browser, as the schedule sees it. Times are readings of the monotonic clock, seconds.

    Attributes:
        leases: How many it has now.
        lost: It is gone: nothing waits for its leases any more.
    """

    phase: Phase = Phase.OPENING
    started: float = 0.0
    expires: float = math.inf
    leases: int = 0
    idle_since: float = 0.0
    lost: bool = False

    def latest(self, need: float, retire: float) -> float:
        """Until when it takes a lease that may use `need` seconds.

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
    """No browser can be had: tell whoever waits."""

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
    _hopeless: bool = False
    _not_before: float = -math.inf

    # --- what has happened ----------------------------------------------------------------------------------------

    def ask(self, need: float = 0.0) -> Ticket:
        """Somebody waits for a lease of up to `need` seconds."""
        ticket = Ticket(need)
        self.waiting.append(ticket)
        return ticket

    def withdraw(self, ticket: Ticket) -> None:
        """They wait no more. One that has been granted or refused is none of ours any more."""
        if ticket in self.waiting:
            self.waiting.remove(ticket)

    def opened(self, place: Place, *, started: float, expires: float, now: float) -> None:
        """The browser of a place is there."""
        place.phase, place.started, place.expires, place.idle_since = Phase.READY, started, expires, now
        self.failure, self._failures, self._tries, self._hopeless = None, 0, 0, False

    def not_opened(
        self, place: Place, error: Exception, *, now: float, final: bool = False, full: bool = False
    ) -> None:
        """It could not be had.

        Args:
            final: Nor will another: a key is wrong, the credits are used up.
            full: The server had no room; that passes, however often it happens.
        """
        self.places.remove(place)
        self.failure = error
        if not full:
            self._failures += 1
        self._hopeless = final or self._failures >= _OPEN_TRIES
        self._not_before = now + min(_FIRST_DELAY * 2 ** min(self._tries, 10), _LONGEST_DELAY)
        self._tries += 1

    def released(self, place: Place, *, now: float) -> None:
        """A lease has ended."""
        place.leases -= 1
        if not place.leases:
            place.idle_since = now

    def drain(self, place: Place) -> None:
        """A browser is not to be used any more; its leases may end in peace."""
        if place.phase is Phase.READY:
            place.phase = Phase.DRAINING

    def lose(self, place: Place) -> None:
        """A browser is gone, and its leases with it."""
        place.lost = True
        self.drain(place)

    def stopped(self, place: Place) -> None:
        """The stop of a browser is confirmed, or was given up."""
        self.places.remove(place)

    # --- what is to be done ---------------------------------------------------------------------------------------

    def plan(self, now: float) -> list[Action]:
        """What is to be done now; it counts as done with the call."""
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
        """When `plan` is to be called again even if nothing happens, seconds; infinity for never."""
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
        """Browsers whose paid time is enough for a lease."""
        return [
            place
            for place in self.places
            if place.phase is Phase.READY
            and now <= place.latest(ticket.need, self.rules.retire_before(place.expires - place.started))
        ]

    def _refusals(self) -> list[Refuse]:
        """While there is a browser to wait for, a failure to open another one is nobody's end."""
        if not self._hopeless:
            return []
        assert self.failure is not None  # it made this hopeless
        if any(place.phase in {Phase.OPENING, Phase.READY} for place in self.places):
            return []
        refused = [Refuse(ticket, self.failure) for ticket in self.waiting]
        self.waiting.clear()
        self._hopeless, self._failures = False, 0  # who asks from now on may have more luck
        self._not_before = -math.inf
        return refused

    def _make_way(self, now: float) -> None:
        """When only a fresh browser can serve the next lease and every place is taken, give up the one that ends first."""
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
        """The end of the minute in which it has been idle for long enough, less the time a stop takes to arrive."""
        least = place.idle_since + self.rules.idle_seconds
        minutes = max(math.ceil((least + _STOP_MARGIN - place.started) / _MINUTE), 1)
        return place.started + minutes * _MINUTE - _STOP_MARGIN
