"""The wait for a slot of a worker."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest

from cdpbridge._lifecycle import EndReason
from cdpbridge.billing import Tariff
from cdpbridge.errors import BrowserStartFailed
from cdpbridge.server.store import Store
from cdpbridge.server.workers import NoFreeSlot, StoreSlots
from tests import postgres
from tests.conftest import until
from tests.server.store.conftest import NOW, database, empty_url, project, sqlite_url, store, url

__all__ = ["database", "empty_url", "project", "sqlite_url", "store", "url"]

pytestmark = pytest.mark.programs

LONG = timedelta(seconds=60)


@pytest.fixture
async def slots(store):
    slots = StoreSlots(store, timeout=LONG, wall=lambda: NOW)
    yield slots
    await slots.close()


@pytest.fixture
def order(store, project):
    async def order(of=store):
        browser_id = uuid4()
        terms = {"profile_id": None, "proxy_country": None, "tariff": Tariff(Decimal(0)), "limit": 1000}
        await of.reserve(project, browser_id, timeout=timedelta(hours=1), now=NOW, **terms)
        return browser_id

    return order


async def add_worker(store, slots=1, name="w"):
    worker_id = uuid4()
    await store.register_worker(worker_id, name=name, address=f"{name}:1", protocol=1, slots=slots, now=NOW)
    await store.beat(timedelta(0), [worker_id])  # it is heard from
    return worker_id


async def in_line(store, count):
    """So many wait, in the database."""

    async def reached():
        return await store.waiting() == count

    await until(reached)


async def test_an_order_waits_and_gets_the_slot_that_becomes_free(store, slots, order):
    worker_id = await add_worker(store)
    first, second = await order(), await order()
    found = await slots.reserve(first)
    assert (found.id, found.address, found.slots) == (worker_id, "w:1", 1)
    waiting = asyncio.ensure_future(slots.reserve(second))
    await in_line(store, 1)
    assert slots.waiting == 1
    await store.abandon(first, EndReason.START_FAILED, now=NOW)
    assert (await waiting).id == worker_id
    assert (slots.waiting, await store.waiting()) == (0, 0)


async def test_a_start_that_fails_on_its_worker_may_get_another_one(store, slots, order):
    bad = await add_worker(store, name="bad")
    browser_id = await order()
    assert (await slots.reserve(browser_id)).id == bad
    await store.drain_worker(bad)
    good = await add_worker(store, name="good")
    await slots.free(browser_id)
    await slots.free(browser_id)
    assert (await slots.reserve(browser_id)).id == good
    assert {each.id: each.running for each in await store.workers()} == {bad: 0, good: 1}
    assert (await slots.worker(good)).address == "good:1"
    assert await slots.worker(uuid4()) is None
    assert {each.id for each in await slots.workers()} == {bad, good}


async def test_who_waits_too_long_is_refused_and_is_in_line_no_more(store, order):
    slots = StoreSlots(store, timeout=timedelta(seconds=0.05), wall=lambda: NOW)
    browser_id = await order()
    with pytest.raises(NoFreeSlot, match="no worker has a free slot"):
        await slots.reserve(browser_id)
    assert await store.waiting() == 0
    await add_worker(store)
    assert await store.serve_queue() == 0
    await slots.close()


async def test_a_client_that_left_is_passed_over(store, slots, order):
    ids = [await order() for _ in range(3)]
    tasks = []
    for number, browser_id in enumerate(ids):
        tasks.append(asyncio.ensure_future(slots.reserve(browser_id)))
        await in_line(store, number + 1)
    tasks[0].cancel()
    await asyncio.wait({tasks[0]})
    await store.abandon(ids[0], EndReason.STOPPED_BY_CALLER, now=NOW)
    worker_id = await add_worker(store)
    assert (await tasks[1]).id == worker_id
    assert not tasks[2].done()
    tasks[2].cancel()


async def test_a_browser_that_was_stopped_before_gets_no_slot(store, slots, order):
    browser_id = await order()
    await add_worker(store)
    await store.abandon(browser_id, EndReason.STOPPED_BY_CALLER, now=NOW)
    with pytest.raises(BrowserStartFailed, match="stopped before it had a slot"):
        await slots.reserve(browser_id)
    [worker] = await store.workers()
    assert worker.running == 0


async def test_what_another_server_frees_and_gives_is_found(store, slots, order, url, database):
    """The server whose browser ends need not be the one where an order waits, nor the one that serves the queue."""
    if database == "sqlite":  # one server: what it gives itself
        other = store
    else:
        other = await Store.open(url)
    worker_id = await add_worker(store)
    theirs, mine = await order(of=other), await order()
    assert await other.reserve_slot(theirs) is not None
    waiting = asyncio.ensure_future(slots.reserve(mine))
    await in_line(store, 1)
    await other.abandon(theirs, EndReason.START_FAILED, now=NOW)
    await other.serve_queue()
    assert (await waiting).id == worker_id
    if other is not store:
        await other.close()


@pytest.mark.parametrize("database", [pytest.param("postgresql", marks=postgres.INSTALLED)], indirect=True)
async def test_a_slot_freed_on_one_server_starts_what_waits_on_another_without_its_looking(
    store, slots, order, url, monkeypatch
):
    """It was looked for twice a second, so a waiter started 330 ms after its slot was free, at the median."""
    monkeypatch.setattr("cdpbridge.server.workers._store_slots._LOOK_SECONDS", 3600)
    other = await Store.open(url)
    others = StoreSlots(other, timeout=LONG, wall=lambda: NOW)
    others.open()
    worker_id = await add_worker(store)
    theirs, mine = await order(of=other), await order()
    assert await other.reserve_slot(theirs) is not None
    waiting = asyncio.ensure_future(slots.reserve(mine))
    await in_line(store, 1)

    async def listens():
        rows = (
            "SELECT 1 FROM pg_stat_activity "
            "WHERE application_name = 'cdpbridge listener' AND datname = current_database()"
        )
        return await asyncio.to_thread(postgres.instance().rows, url, rows)

    await until(listens)
    await other.abandon(theirs, EndReason.START_FAILED, now=NOW)
    assert (await waiting).id == worker_id
    await others.close()
    await other.close()
