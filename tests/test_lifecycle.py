"""The table of a rented browser's life, row by row, and its deadlines."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdpbridge._lifecycle import (
    TRANSITIONS,
    Deadline,
    EndReason,
    Lifecycle,
    Signal,
    State,
    next_state,
    used_until,
)
from tests.cases import cases

START = datetime(2026, 11, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)

ROWS = [
    # from, signal, to, reason
    ("starting", "started", "active", None),
    ("starting", "fail", "stopped", "start_failed"),
    ("starting", "stop", "stopped", "stopped_by_caller"),
    ("starting", "exit", "stopped", "browser_exited"),
    ("starting", "lost", "stopped", "server_lost"),
    ("active", "stop", "stopping", "stopped_by_caller"),
    ("active", "expire", "stopping", "expired"),
    ("active", "exit", "stopping", "browser_exited"),
    ("active", "disk_limit", "stopping", "disk_limit"),
    ("active", "memory_limit", "stopping", "memory_limit"),
    ("active", "process_limit", "stopping", "process_limit"),
    ("active", "worker_lost", "stopping", "worker_lost"),
    ("active", "lost", "stopping", "server_lost"),
    ("stopping", "ended", "stopped", None),
]


@cases(("state", "signal", "after", "reason"), ROWS)
def test_transition(state, signal, after, reason):
    life = Lifecycle(State(state))
    assert life.take(Signal(signal))
    assert life.state == after
    assert life.reason == (EndReason(reason) if reason else None)


def test_the_rows_are_the_whole_table():
    assert {(s, e): t for s, e, t, _ in ROWS} == {
        (s.value, e.value): t.value for (s, e), t in TRANSITIONS.items()
    }


@cases("state", State)
@cases("signal", Signal)
def test_everything_else_changes_nothing(state, signal):
    if (state, signal) in TRANSITIONS:
        return
    life = Lifecycle(state, EndReason.EXPIRED)
    assert next_state(state, signal) is None
    assert not life.take(signal)
    assert (life.state, life.reason) == (state, EndReason.EXPIRED)


@given(st.lists(st.sampled_from(list(Signal)), max_size=20))
def test_any_walk_ends_once_and_keeps_its_first_reason(signals):
    life, reasons, slots = Lifecycle(), [], []
    for signal in signals:
        slots.append(life.holds_slot)
        if life.take(signal) and life.reason is not None:
            reasons.append(life.reason)
    assert len(set(reasons)) <= 1
    assert slots == sorted(slots, reverse=True)  # a slot once freed is never taken again
    assert life.over is (life.reason is not None)


@pytest.mark.parametrize(
    ("state", "holds_slot"),
    [(State.STARTING, True), (State.ACTIVE, True), (State.STOPPING, False), (State.STOPPED, False)],
)
def test_who_holds_a_slot(state, holds_slot):
    assert Lifecycle(state).holds_slot is holds_slot
    assert Lifecycle(state).over is not holds_slot


def test_repr():
    life = Lifecycle(State.ACTIVE)
    assert repr(life) == "Lifecycle(active)"
    life.take(Signal.EXPIRE)
    assert repr(life) == "Lifecycle(stopping, expired)"


def test_deadline_in_numbers():
    deadline = Deadline(100.0, timedelta(minutes=5))
    assert deadline.expires == 400.0
    assert deadline.used(90.0) == timedelta(0)
    assert deadline.used(160.0) == timedelta(minutes=1)
    assert deadline.used(1000.0) == timedelta(minutes=5)
    assert deadline.remaining(160.0) == timedelta(minutes=4)
    assert not deadline.expired(399.9)
    assert deadline.expired(400.0)
    assert deadline.warn_at(timedelta(minutes=1)) == 340.0
    assert deadline.warn_at(timedelta(hours=1)) == 100.0


@pytest.mark.parametrize("timeout", [timedelta(0), timedelta(minutes=-1)])
def test_a_timeout_is_positive(timeout):
    with pytest.raises(ValueError, match="positive"):
        Deadline(0.0, timeout)


@cases(
    ("minutes", "now", "expected"),
    [
        (60, 0.0, None),
        (61, 0.0, 3600.0),
        (61, 3599.9, 3600.0),
        (61, 3600.0, None),
        (240, 0.0, 3600.0),
        (240, 3600.0, 7200.0),
        (240, 7200.0, 10800.0),
        (240, 10800.0, None),
        (240, -5.0, 3600.0),
    ],
)
def test_next_hour(minutes, now, expected):
    assert Deadline(0.0, timedelta(minutes=minutes)).next_hour(now) == expected


@pytest.mark.parametrize(
    ("last_seen", "used"),
    [
        (START + timedelta(minutes=7), timedelta(minutes=7)),
        (START - HOUR, timedelta(0)),
        (START + 3 * HOUR, HOUR),
    ],
)
def test_used_until(last_seen, used):
    assert used_until(started_at=START, timeout_at=START + HOUR, last_seen_at=last_seen) == used
