"""How many workers are wanted, and what is done about it."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from uuid import UUID

import pytest

from cdpbridge.server.engine._scaling import (
    Actor,
    ActorState,
    Plan,
    Scale,
    Scaler,
    WorkerCount,
    wanted_workers,
)

SCALE = Scale(minimum=1, maximum=4, spare=2, slots=4, idle=timedelta(seconds=60))


def worker(number, running=0, *, draining=False, slots=4):
    return WorkerCount(UUID(int=number), slots, running, draining)


def runs(number):
    """An actor whose worker has that number."""
    return Actor(f"worker-{number}", ActorState.RUNNING, UUID(int=number))


def pending(number):
    return Actor(f"worker-{number}", ActorState.PENDING)


@pytest.mark.parametrize(
    ("own", "others", "waiting", "expected"),
    [
        ([], [], 0, 1),  # the minimum, and the spare slots fit in it
        ([worker(1, 2)], [], 0, 1),  # two run, two are spare
        ([worker(1, 3)], [], 0, 2),
        ([worker(1, 4)], [], 1, 2),  # four run, one waits, two are spare
        ([worker(1, 4)], [], 3, 3),
        ([worker(1, 4)], [], 100, 4),  # the maximum
        ([worker(1, 4, draining=True), worker(2, 2)], [], 0, 1),  # its browsers need no new slot
        ([], [worker(9, 2)], 0, 1),  # two slots are free elsewhere
        ([], [worker(9, 2)], 4, 1),
        ([], [worker(9, 2)], 7, 2),
        ([], [worker(9, 0, draining=True)], 3, 2),  # it takes none
        ([], [worker(9, 8)], 3, 2),  # it has more than it should
    ],
)
def test_wanted(own, others, waiting, expected):
    assert wanted_workers(SCALE, own, others, waiting) == expected


def test_nothing_is_kept_with_a_minimum_and_spare_slots_of_zero():
    scale = Scale(minimum=0, maximum=3, spare=0, slots=2)
    assert wanted_workers(scale, [], [], 0) == 0
    assert wanted_workers(scale, [], [], 1) == 1
    assert wanted_workers(replace(scale, maximum=0), [], [], 5) == 0


def test_missing_workers_are_started_once():
    scaler = Scaler(replace(SCALE, minimum=2))
    assert scaler.plan(0, [], [], 0) == Plan(2, start=("worker-1", "worker-2"))
    actors = [pending(1), Actor("worker-2", ActorState.STARTING)]
    assert scaler.plan(2, actors, [], 0) == Plan(2), "they are on their way"
    assert scaler.plan(4, [runs(1), runs(2)], [worker(1)], 0) == Plan(2), "one has not registered yet"


def test_never_more_names_than_the_maximum():
    scaler = Scaler(SCALE)
    actors = [runs(1), pending(3)]
    assert scaler.plan(0, actors, [worker(1, 4)], 50).start == ("worker-2", "worker-4")
    everything = [runs(1), *(pending(number) for number in (2, 3, 4))]
    assert scaler.plan(2, everything, [worker(1, 4)], 50).start == ()
    # Of a server with a larger maximum.
    assert scaler.plan(4, [*everything, pending(9)], [worker(1, 4)], 50).start == ()


def test_a_worker_that_drains_counts_against_the_maximum_and_is_used_again():
    scaler = Scaler(replace(SCALE, maximum=2, idle=timedelta(0)))
    actors = [runs(1), runs(2)]
    assert scaler.plan(0, actors, [worker(1, 1), worker(2, 0)], 0).drain == (UUID(int=2),)
    now_two = [worker(1, 4), worker(2, 1, draining=True)]
    assert scaler.plan(2, actors, now_two, 0) == Plan(2, use=(UUID(int=2),))


def test_what_a_person_drains_stays_so_and_is_replaced():
    scaler = Scaler(SCALE)
    assert scaler.plan(0, [runs(1)], [worker(1, 2, draining=True)], 0).start == ("worker-2",)
    assert scaler.plan(2, [runs(1), pending(2)], [worker(1, 2, draining=True)], 0) == Plan(1)
    assert scaler.plan(4, [runs(1), pending(2)], [worker(1, 0, draining=True)], 0) == Plan(
        1, end=("worker-1",)
    )


def test_scaling_down_waits_and_drains_the_emptiest_and_ends_no_browser():
    scaler = Scaler(SCALE)
    actors = [runs(1), runs(2), runs(3)]
    workers = [worker(1, 1), worker(2, 0), worker(3, 1)]
    assert scaler.plan(0, actors, workers, 0) == Plan(1)
    assert scaler.plan(59, actors, workers, 0) == Plan(1)
    plan = scaler.plan(60, actors, workers, 0)
    assert plan == Plan(1, drain=(UUID(int=2), UUID(int=1)))
    drained = [worker(1, 1, draining=True), worker(2, 0, draining=True), worker(3, 1)]
    assert scaler.plan(62, actors, drained, 0) == Plan(1, end=("worker-2",))
    rest = [runs(1), runs(3)]
    assert scaler.plan(64, rest, [drained[0], drained[2]], 0) == Plan(1), "it has a browser still"
    assert scaler.plan(66, rest, [replace(drained[0], running=0), drained[2]], 0).end == ("worker-1",)


def test_a_moment_of_demand_begins_the_wait_again():
    scaler = Scaler(SCALE)
    actors, idle = [runs(1), runs(2)], [worker(1), worker(2)]
    assert scaler.plan(0, actors, idle, 0) == Plan(1)
    assert scaler.plan(50, actors, idle, 6) == Plan(2)
    assert scaler.plan(61, actors, idle, 0) == Plan(1)
    assert scaler.plan(120, actors, idle, 0).drain == ()
    assert len(scaler.plan(121, actors, idle, 0).drain) == 1


def test_what_is_pending_is_withdrawn_before_a_worker_drains():
    scaler = Scaler(replace(SCALE, idle=timedelta(0)))
    actors = [runs(1), pending(2), Actor("worker-3", ActorState.STARTING)]
    assert scaler.plan(0, actors, [worker(1)], 0) == Plan(1, drain=(UUID(int=1),), withdraw=("worker-2",))


def test_an_ended_worker_is_replaced_under_another_name():
    scaler = Scaler(SCALE)
    assert scaler.plan(0, [], [], 0).start == ("worker-1",)
    scaler.plan(100, [runs(1)], [worker(1)], 0)
    assert scaler.plan(102, [], [worker(1)], 0).start == ("worker-2",), "whatever its row still offers"
    assert not scaler.failures


def test_starts_that_fail_are_repeated_less_and_less_often():
    scaler = Scaler(SCALE)
    now, starts = 0.0, []
    while now < 400:
        if scaler.plan(now, [], [], 0).start:
            starts.append(now)
        now += 1
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert gaps[:5] == [2, 3, 5, 9, 17]
    assert max(gaps) == 61
    assert scaler.failures > 5
    # Nothing fails for a time.
    scaler.plan(now, [pending(number) for number in (1, 2, 3, 4)], [], 0)
    assert scaler.plan(now + 300, [runs(1)], [worker(1)], 0) == Plan(1)
    assert not scaler.failures


@pytest.mark.parametrize("actor", [runs(1), Actor("worker-1", ActorState.STARTING)])
def test_a_worker_that_no_server_knows_is_replaced(actor):
    scaler = Scaler(SCALE)
    assert scaler.plan(0, [actor], [], 0) == Plan(1)
    assert scaler.plan(179, [runs(1)], [worker(1)], 0) == Plan(1), "it has registered"
    assert scaler.plan(181, [actor], [], 0) == Plan(1)
    plan = scaler.plan(361, [actor], [], 0)
    assert (plan.end, plan.start) == (("worker-1",), ("worker-2",))


def test_what_is_pending_may_be_so_for_as_long_as_it_takes():
    scaler = Scaler(SCALE)
    for now in (0, 1000, 100_000):
        assert scaler.plan(now, [pending(1)], [], 0) == Plan(1)
