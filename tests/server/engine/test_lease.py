"""Which server tells the engine how many workers are wanted."""

from datetime import timedelta
from uuid import uuid4

import pytest

from cdpbridge.server.engine._lease import Lease
from cdpbridge.server.store import Store
from cdpbridge.testing import ManualClock
from tests import postgres
from tests.server.store.conftest import NOW, database, empty_url, project, sqlite_url, store, url

__all__ = ["database", "empty_url", "project", "sqlite_url", "store", "url"]

pytestmark = pytest.mark.programs

POSTGRESQL = pytest.mark.parametrize(
    "database", [pytest.param("postgresql", marks=postgres.INSTALLED)], indirect=True
)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def lease(store, clock):
    return Lease(store, "ray", clock=clock.time)


@pytest.fixture
async def other(url, clock):
    """Of another server, with a clock of its own."""
    store = await Store.open(url)
    yield Lease(store, "ray", clock=clock.time)
    await store.close()


def test_nothing_is_held_before_the_database_was_asked(lease):
    assert not lease.held


async def test_the_first_has_it_and_keeps_it_by_its_signs_of_life(lease, clock, store):
    await lease.beat({})
    assert lease.held
    clock.advance(7.9)
    assert lease.held
    clock.advance(0.1)
    assert not lease.held, "it may be another server's soon"
    await lease.beat({"state": "running"})
    assert lease.held
    row = await store.engine("ray")
    assert (row.owner, row.generation, row.beats, row.report) == (store.server_id, 1, 1, {"state": "running"})


async def test_the_next_start_of_a_lone_server_has_it_at_once(lease, url, clock, store):
    await lease.beat({})
    if store.one_writer:
        again = await Store.open(url)
        try:
            mine = Lease(again, "ray", clock=clock.time)
            await mine.beat({})
            assert mine.held
        finally:
            await again.close()
    await lease.leave()
    assert not lease.held


@POSTGRESQL
async def test_fault_b53_another_server_takes_it_when_its_owner_is_silent(lease, other, clock):
    await lease.beat({})
    await lease.beat({"state": "running"})
    for _ in range(5):
        await other.beat({})
        assert not other.held
        assert other.report == {"state": "running"}
        clock.advance(2)
        await lease.beat({"state": "running"})
    # From the last counter that is new.
    await other.beat({})
    clock.advance(9.9)
    await other.beat({})
    assert not other.held
    clock.advance(0.1)
    await other.beat({})
    assert other.held
    assert not lease.held
    await lease.beat({})
    assert not lease.held, "its generation is over"
    assert other.held


@POSTGRESQL
async def test_one_that_leaves_is_followed_at_once(lease, other):
    await lease.beat({})
    await lease.leave()
    await other.beat({})
    assert other.held
    await lease.beat({})
    assert not lease.held


@POSTGRESQL
async def test_fault_b56_after_an_outage_the_owner_has_it_still(lease, other, clock, store, monkeypatch):
    await lease.beat({})
    await other.beat({})

    async def away(*_arguments):
        raise postgres_away()

    from sqlalchemy.exc import OperationalError

    def postgres_away():
        return OperationalError("select", None, OSError("away"))

    with monkeypatch.context() as patch:
        patch.setattr(Store, "engine", away)
        patch.setattr(Store, "keep_engine", away)
        clock.advance(200)
        for each in (lease, other):
            with pytest.raises(OperationalError):
                await each.beat({})
    await other.beat({})
    assert not other.held, "what stood still while it could not see proves nothing"
    await lease.beat({})
    assert lease.held


@POSTGRESQL
async def test_of_two_that_take_it_at_once_one_has_it(store, url):
    others = [await Store.open(url) for _ in range(2)]
    try:
        taken = [await each.take_engine("ray", None) for each in (store, *others)]
        assert taken == [1, None, None]
        row = await store.engine("ray")
        assert [await each.take_engine("ray", row) for each in others] == [2, None]
        assert not await store.keep_engine("ray", 1, {})
        assert not await store.leave_engine("ray", 1)
    finally:
        for each in others:
            await each.close()


async def test_a_worker_that_drains_is_used_again(store):
    worker_id = uuid4()
    await store.register_worker(worker_id, name="w", address="w:1", protocol=1, slots=2, now=NOW)
    await store.beat(timedelta(0), [worker_id])  # it is heard from
    await store.drain_worker(worker_id)
    assert (await store.use_worker_again(worker_id)).free == 2
    assert await store.use_worker_again(uuid4()) is None
