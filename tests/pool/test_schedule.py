"""The pool's rules, without a loop: who gets which browser, when one is opened, retired, stopped."""

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cdpbridge.pool._schedule import Grant, Open, Phase, Place, Refuse, Rules, Schedule, Stop
from tests.cases import cases

HOUR = 3600.0
ERROR = ConnectionError("no answer")


class Pool:
    """A schedule, the time, and what it has decided."""

    def __init__(self, size=2, tabs=2, **rules):
        self.schedule = Schedule(Rules(size, tabs, **rules))
        self.now = 0.0

    def plan(self, now=None):
        self.now = self.now if now is None else now
        return self.schedule.plan(self.now)

    def open(self, count=1, life=HOUR):
        """Answer the orders to open; what follows from it."""
        opening = [place for place in self.schedule.places if place.phase is Phase.OPENING]
        assert len(opening) == count
        for place in opening:
            self.schedule.opened(place, started=self.now, expires=self.now + life, now=self.now)
        return self.plan()

    def ask(self, count=1, need=0.0):
        return [self.schedule.ask(need) for _ in range(count)]

    def release(self, place, now=None):
        self.now = self.now if now is None else now
        self.schedule.released(place, now=self.now)
        return self.plan()


def granted(actions):
    return [action.ticket for action in actions if isinstance(action, Grant)]


def kinds(actions):
    return [type(action) for action in actions]


@pytest.fixture
def pool():
    return Pool()


@pytest.mark.parametrize(("waiting", "opens"), [(0, 0), (1, 1), (2, 1), (3, 2), (9, 2)])
def test_as_many_browsers_as_the_waiting_fill(pool, waiting, opens):
    pool.ask(waiting)
    assert kinds(pool.plan()) == [Open] * opens
    assert pool.plan() == []  # they are on their way


def test_first_come_first_served(pool):
    tickets = pool.ask(5)
    pool.plan()
    first = pool.open(2)
    assert granted(first) == tickets[:4]
    assert granted(pool.release(first[0].place)) == tickets[4:]


def test_who_leaves_the_queue_is_passed_over(pool):
    first, second = pool.ask(2)
    pool.plan()
    pool.schedule.withdraw(first)
    pool.schedule.withdraw(first)
    assert granted(pool.open()) == [second]
    pool.schedule.withdraw(second)


def test_the_fuller_browser_is_filled_up(pool):
    pool.ask(3)
    pool.plan()
    fuller, other = pool.open(2)[0].place, pool.schedule.places[1]
    pool.release(fuller)
    assert (fuller.leases, other.leases) == (1, 1)
    pool.release(other)
    [ticket] = pool.ask()
    assert pool.plan() == [Grant(ticket, fuller)]


def test_of_two_alike_the_older_is_used_up(pool):
    pool.ask(3)
    pool.plan()
    older, newer = pool.schedule.places
    pool.schedule.opened(newer, started=5, expires=HOUR, now=5)
    pool.schedule.opened(older, started=4, expires=HOUR, now=5)
    assert [action.place for action in pool.plan(5)] == [older, older, newer]


# --- the end of the paid time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "life", "before"),
    [(None, HOUR, 60), (None, 120, 12), (5.0, HOUR, 5), (0.0, HOUR, 0), (7200.0, HOUR, 1800)],
)
def test_when_a_browser_retires(given, life, before):
    assert Rules(1, 1, retire_seconds=given).retire_before(life) == before


def test_a_browser_retires_and_ends_with_its_last_lease(pool):
    pool.ask(2)
    pool.plan()
    [first, _] = pool.open()
    place = first.place
    pool.ask()
    assert pool.schedule.next_look(pool.now) == HOUR - 60
    assert kinds(pool.plan(HOUR - 60)) == [Open]
    assert place.phase is Phase.DRAINING
    assert pool.release(place) == []
    assert pool.release(place) == [Stop(place)]
    pool.schedule.stopped(place)
    assert place not in pool.schedule.places


def test_a_lease_gets_a_browser_that_lasts_long_enough(pool):
    pool.ask()
    pool.plan()
    [grant] = pool.open()
    [short] = pool.ask(need=600)
    assert pool.plan(HOUR - 600) == [Grant(short, grant.place)]
    pool.release(grant.place)
    [_] = pool.ask(need=600)
    [opened] = pool.plan(HOUR - 599)
    assert isinstance(opened, Open)


def test_a_lease_longer_than_any_browser_gets_a_young_one(pool):
    [ticket] = pool.ask(need=2 * HOUR)
    pool.plan()
    assert granted(pool.open()) == [ticket]


def test_a_full_pool_makes_way_for_a_longer_lease():
    pool = Pool(size=1)
    pool.ask()
    pool.plan()
    [grant] = pool.open()
    [long] = pool.ask(need=1800)
    [behind] = pool.ask()
    assert pool.plan(2000) == []  # nobody overtakes
    assert grant.place.phase is Phase.DRAINING
    assert pool.release(grant.place) == [Stop(grant.place)]
    pool.schedule.stopped(grant.place)
    assert kinds(pool.plan()) == [Open]
    assert granted(pool.open()) == [long, behind]


# --- idle -------------------------------------------------------------------------------------------------------------


@cases(
    ("idle_seconds", "idle_since", "stops"),
    [(30, 0, 58), (30, 28, 58), (30, 29, 118), (0, 10, 58), (0, 58.5, 118), (90, 60, 178)],
)
def test_an_idle_browser_is_kept_to_the_end_of_a_paid_minute(idle_seconds, idle_since, stops):
    pool = Pool(idle_seconds=idle_seconds)
    pool.ask()
    pool.plan()
    [grant] = pool.open()
    pool.release(grant.place, idle_since)
    assert pool.schedule.next_look(pool.now) == stops
    assert pool.plan(stops - 0.001) == []
    assert pool.plan(stops) == [Stop(grant.place)]
    assert pool.schedule.next_look(stops) == math.inf


def test_a_busy_browser_is_not_idle(pool):
    pool.ask()
    pool.plan()
    pool.open()
    assert pool.plan(1000) == []


# --- faults -----------------------------------------------------------------------------------------------------------


def test_a_lost_browser_is_replaced_at_once(pool):
    pool.ask(2)
    pool.plan()
    place = pool.open()[0].place
    pool.schedule.lose(place)
    pool.ask(2)
    assert kinds(pool.plan()) == [Open, Stop]
    pool.schedule.stopped(place)
    assert pool.release(place) == []  # a lease of it that ends late


def test_a_drained_browser_gets_no_lease(pool):
    pool.ask()
    pool.plan()
    place = pool.open()[0].place
    pool.schedule.drain(place)
    pool.ask()
    assert kinds(pool.plan()) == [Open]
    assert pool.release(place) == [Stop(place)]
    pool.schedule.drain(place)
    assert place.phase is Phase.STOPPING


def fail(pool, **kind):
    [place] = [place for place in pool.schedule.places if place.phase is Phase.OPENING]
    pool.schedule.not_opened(place, ERROR, now=pool.now, **kind)
    return pool.plan()


def test_an_open_that_fails_is_tried_again_and_then_told(pool):
    [ticket] = pool.ask()
    pool.plan()
    assert fail(pool) == []
    assert pool.schedule.next_look(0) == 0.5
    assert kinds(pool.plan(0.5)) == [Open]
    fail(pool)
    assert kinds(pool.plan(1.5)) == [Open]
    assert fail(pool) == [Refuse(ticket, ERROR)]
    assert pool.schedule.next_look(pool.now) == math.inf
    pool.ask()
    assert kinds(pool.plan()) == [Open]  # who asks later gets tries of their own


def test_a_final_failure_is_told_at_once(pool):
    tickets = pool.ask(2)
    pool.plan()
    assert fail(pool, final=True) == [Refuse(ticket, ERROR) for ticket in tickets]


def test_a_full_server_is_waited_for(pool):
    pool.ask()
    for _ in range(20):
        assert kinds(pool.plan()) == [Open]
        assert fail(pool, full=True) == []
        assert pool.schedule.failure is ERROR
        pool.now = pool.schedule.next_look(pool.now)
        assert pool.now < math.inf
    pool.plan()
    pool.open()
    assert pool.schedule.failure is None


def test_a_failure_is_nobodys_end_while_a_browser_runs(pool):
    pool.ask(2)
    pool.plan()
    place = pool.open()[0].place
    [ticket] = pool.ask()
    pool.plan()
    assert fail(pool, final=True) == []
    assert granted(pool.release(place)) == [ticket]
    pool.ask()
    pool.schedule.lose(place)
    assert kinds(pool.plan()) == [Refuse, Stop]


# --- whatever happens -------------------------------------------------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order: bounds hold, the queue is fair, and nobody waits for nothing."""

    @initialize(
        size=st.integers(1, 3),
        tabs=st.integers(1, 3),
        idle=st.floats(0, 200),
        retire=st.none() | st.floats(0, 300),
    )
    def begin(self, size, tabs, idle, retire):
        self.schedule = Schedule(Rules(size, tabs, idle, retire))
        self.now = 0.0
        self.queue = []
        self.leases = []
        self.stopping = []

    def carry_out(self):
        for _ in range(50):
            actions = self.schedule.plan(self.now)
            if not actions:
                break
            for action in actions:
                match action:
                    case Grant(ticket, place):
                        assert ticket is self.queue.pop(0)
                        assert not place.lost
                        assert place.expires > self.now
                        self.leases.append(place)
                    case Refuse(ticket, _):
                        assert ticket is self.queue.pop(0)
                    case Stop(place):
                        assert place.lost or place not in self.leases
                        self.stopping.append(place)
        else:
            raise AssertionError("it never comes to rest")
        assert self.schedule.next_look(self.now) > self.now

    def ready(self):
        return [place for place in self.schedule.places if place.phase in {Phase.READY, Phase.DRAINING}]

    def opening(self):
        return [place for place in self.schedule.places if place.phase is Phase.OPENING]

    @rule(need=st.sampled_from([0.0, 30.0, 100.0, 1000.0]))
    def ask(self, need):
        self.queue.append(self.schedule.ask(need))
        self.carry_out()

    @precondition(lambda self: self.queue)
    @rule(which=st.integers(0, 100))
    def withdraw(self, which):
        self.schedule.withdraw(self.queue.pop(which % len(self.queue)))
        self.carry_out()

    @precondition(lambda self: self.opening())
    @rule(life=st.sampled_from([60.0, 300.0, HOUR]), late=st.floats(0, 5))
    def opened(self, life, late):
        place = self.opening()[0]
        self.schedule.opened(place, started=self.now - late, expires=self.now - late + life, now=self.now)
        self.carry_out()

    @precondition(lambda self: self.opening())
    @rule(final=st.booleans(), full=st.booleans())
    def not_opened(self, final, full):
        self.schedule.not_opened(self.opening()[0], ERROR, now=self.now, final=final, full=full)
        self.carry_out()

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 100))
    def release(self, which):
        self.schedule.released(self.leases.pop(which % len(self.leases)), now=self.now)
        self.carry_out()

    @precondition(lambda self: self.ready())
    @rule(which=st.integers(0, 100), gone=st.booleans())
    def fault(self, which, gone):
        place = self.ready()[which % len(self.ready())]
        (self.schedule.lose if gone else self.schedule.drain)(place)
        self.carry_out()

    @precondition(lambda self: self.stopping)
    @rule()
    def stopped(self):
        self.schedule.stopped(self.stopping.pop(0))
        self.carry_out()

    @rule(seconds=st.floats(0, 400))
    def wait(self, seconds):
        end = self.now + seconds
        while (look := self.schedule.next_look(self.now)) <= end:
            self.now = look
            self.carry_out()
        self.now = end
        self.carry_out()

    @invariant()
    def bounds(self):
        rules = self.schedule.rules
        assert len(self.schedule.places) <= rules.size
        assert all(0 <= place.leases <= rules.tabs for place in self.schedule.places)
        assert list(self.schedule.waiting) == self.queue

    @invariant()
    def somebody_will_serve(self):
        """Who waits, waits for something that ends: an open, a lease, a stop, or a time."""
        if self.queue:
            served = self.leases or self.opening() or self.stopping
            assert served or self.schedule.next_look(self.now) < math.inf

    def teardown(self):
        """When all leases end and every open succeeds, nobody is left waiting, and at last nothing is rented."""
        if not hasattr(self, "schedule"):
            return
        for _ in range(200):
            if not (self.queue or self.schedule.places):
                return
            if self.stopping:
                self.schedule.stopped(self.stopping.pop(0))
                self.carry_out()
            elif self.opening():
                place = self.opening()[0]
                self.schedule.opened(place, started=self.now, expires=self.now + HOUR, now=self.now)
                self.carry_out()
            elif self.leases:
                self.schedule.released(self.leases.pop(0), now=self.now)
                self.carry_out()
            else:
                self.now = self.schedule.next_look(self.now)
                assert self.now < math.inf
                self.carry_out()
        raise AssertionError(f"{len(self.queue)} still wait, {self.schedule.places}")


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
test_whatever_happens_in_whatever_order = AnyOrder.TestCase


def test_a_place_is_known_by_itself():
    assert Place() != Place()
