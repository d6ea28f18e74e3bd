"""The life of a rented browser as a table. Pure: no clock, no I/O; the present is an argument.

Theory. A browser is in one of four states. It holds a slot of the account while `starting` or `active`, costs money
while `active`, and is being shut down (cookies, profile, process) while `stopping`. Everything that can happen to
it is a `Signal`; a pair of state and signal that is not in the table changes nothing, which is what makes an end happen
once: a second stop, a timeout that races it, or a crash that follows it all find the browser on its way out. The first
signal that leads out of `starting` or `active` is the reason of the end.

                 started        stop, expire, exit, limits, losses     ended
    starting ──────────────▶ active ─────────────────────▶ stopping ──────────▶ stopped
        │                                                                         ▲
        └──────────────────── fail, stop, exit, lost ─────────────────────────────┘

Time is monotonic in here; `timeout_at` and the other dates are for clients. A clock that is set back or
forward therefore moves no deadline. Only a program that did not see the start (after a restart, or a client reading the
server's answer) has to work a deadline out of the dates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

__all__ = [
    "TRANSITIONS",
    "Deadline",
    "EndReason",
    "Lifecycle",
    "Signal",
    "State",
    "next_state",
    "used_until",
]


class State(StrEnum):
    """Where a rented browser is in its life."""

    STARTING = "starting"
    ACTIVE = "active"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Signal(StrEnum):
    """What can happen to a rented browser."""

    STARTED = "started"
    FAIL = "fail"
    STOP = "stop"
    EXPIRE = "expire"
    EXIT = "exit"
    DISK_LIMIT = "disk_limit"
    MEMORY_LIMIT = "memory_limit"
    PROCESS_LIMIT = "process_limit"
    WORKER_LOST = "worker_lost"
    LOST = "lost"
    ENDED = "ended"


class EndReason(StrEnum):
    """Why a rented browser ended."""

    STOPPED_BY_CALLER = "stopped_by_caller"
    EXPIRED = "expired"
    BROWSER_EXITED = "browser_exited"
    DISK_LIMIT = "disk_limit"
    MEMORY_LIMIT = "memory_limit"
    PROCESS_LIMIT = "process_limit"
    START_FAILED = "start_failed"
    SERVER_LOST = "server_lost"
    WORKER_LOST = "worker_lost"


TRANSITIONS: Final[Mapping[tuple[State, Signal], State]] = MappingProxyType(
    {
        (State.STARTING, Signal.STARTED): State.ACTIVE,
        (State.STARTING, Signal.FAIL): State.STOPPED,
        (State.STARTING, Signal.STOP): State.STOPPED,
        (State.STARTING, Signal.EXIT): State.STOPPED,
        (State.STARTING, Signal.LOST): State.STOPPED,
        (State.ACTIVE, Signal.STOP): State.STOPPING,
        (State.ACTIVE, Signal.EXPIRE): State.STOPPING,
        (State.ACTIVE, Signal.EXIT): State.STOPPING,
        (State.ACTIVE, Signal.DISK_LIMIT): State.STOPPING,
        (State.ACTIVE, Signal.MEMORY_LIMIT): State.STOPPING,
        (State.ACTIVE, Signal.PROCESS_LIMIT): State.STOPPING,
        (State.ACTIVE, Signal.WORKER_LOST): State.STOPPING,
        (State.ACTIVE, Signal.LOST): State.STOPPING,
        (State.STOPPING, Signal.ENDED): State.STOPPED,
    }
)

_REASONS: Final[Mapping[Signal, EndReason]] = MappingProxyType(
    {
        Signal.FAIL: EndReason.START_FAILED,
        Signal.STOP: EndReason.STOPPED_BY_CALLER,
        Signal.EXPIRE: EndReason.EXPIRED,
        Signal.EXIT: EndReason.BROWSER_EXITED,
        Signal.DISK_LIMIT: EndReason.DISK_LIMIT,
        Signal.MEMORY_LIMIT: EndReason.MEMORY_LIMIT,
        Signal.PROCESS_LIMIT: EndReason.PROCESS_LIMIT,
        Signal.WORKER_LOST: EndReason.WORKER_LOST,
        Signal.LOST: EndReason.SERVER_LOST,
    }
)

_HOUR: Final = timedelta(hours=1)


def next_state(state: State, signal: Signal) -> State | None:
    """Return the state that `signal` leads to, or None when it changes nothing."""
    return TRANSITIONS.get((state, signal))


class Lifecycle:
    """One browser's walk through the table.

    Attributes:
        state: Where it is.
        reason: Why it ended, None before.
    """

    def __init__(self, state: State = State.STARTING, reason: EndReason | None = None) -> None:
        self.state = state
        self.reason = reason

    def __repr__(self) -> str:
        return f"Lifecycle({self.state}{', ' + self.reason if self.reason else ''})"

    @property
    def holds_slot(self) -> bool:
        """True if it counts against the limit of concurrent browsers."""
        return self.state in {State.STARTING, State.ACTIVE}

    @property
    def over(self) -> bool:
        """True if it has been stopped, or is being stopped."""
        return not self.holds_slot

    def take(self, signal: Signal) -> bool:
        """Follow `signal`; False when it changes nothing here."""
        following = next_state(self.state, signal)
        if following is None:
            return False
        if signal in _REASONS:
            self.reason = _REASONS[signal]
        self.state = following
        return True


@dataclass(frozen=True, slots=True)
class Deadline:
    """The paid time of one browser, on a monotonic clock.

    Attributes:
        started: Reading of the monotonic clock at its start, seconds.
        timeout: How long it may run.
    """

    started: float
    timeout: timedelta

    def __post_init__(self) -> None:
        if self.timeout <= timedelta(0):
            raise ValueError(f"a timeout must be positive, not {self.timeout}")

    @property
    def expires(self) -> float:
        """Reading of the monotonic clock at its end, seconds."""
        return self.started + self.timeout.total_seconds()

    def used(self, now: float) -> timedelta:
        """Return the used part of the paid time: never negative, never more than `timeout`."""
        return min(max(timedelta(seconds=now - self.started), timedelta(0)), self.timeout)

    def remaining(self, now: float) -> timedelta:
        """Return the rest of the paid time."""
        return self.timeout - self.used(now)

    def expired(self, now: float) -> bool:
        """Return True if the paid time is over."""
        return now >= self.expires

    def warn_at(self, before: timedelta) -> float:
        """Return when to warn that it ends, `before` the end, seconds; at the start when the timeout is shorter."""
        return max(self.expires - before.total_seconds(), self.started)

    def next_hour(self, now: float) -> float | None:
        """Return when the next hour to pay starts, seconds; None when the timeout comes first.

        An hour starts with the first instant after the full one: a browser stopped after exactly 60 minutes has used one.
        """
        hours = max(timedelta(seconds=now - self.started), timedelta(0)) // _HOUR + 1
        if hours * _HOUR >= self.timeout:
            return None
        return self.started + hours * _HOUR.total_seconds()


def used_until(*, started_at: datetime, timeout_at: datetime, last_seen_at: datetime) -> timedelta:
    """Return the paid time used by a browser that was last known to be alive at `last_seen_at`."""
    return min(max(last_seen_at - started_at, timedelta(0)), timeout_at - started_at)
