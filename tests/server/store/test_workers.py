"""Workers and their slots in the database."""

import asyncio
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from sqlalchemy import text

from cdpbridge._lifecycle import EndReason
from cdpbridge.billing import Tariff
from cdpbridge.server.store import NotStarting, Store
from tests import postgres
from tests.conftest import until
from tests.server.store.conftest import NOW

pytestmark = pytest.mark.programs

HOUR = timedelta(hours=1)
# SQLite's transactions that write follow each other, of its one server.
POSTGRESQL = pytest.mark.parametrize(
    "database", [pytest.param("postgresql", marks=postgres.INSTALLED)], indirect=True
)


@pytest.fixture
def order(store, project):
    """A browser that starts."""

    async def order(of=store):
        browser_id = uuid4()
        terms = {
            "profile_id": None,
            "proxy_country": None,
            "tariff": Tariff(Decimal(0)),
            "limit": 1000,
            "now": NOW,
        }
        await of.reserve(project, browser_id, timeout=HOUR, **terms)
        return browser_id

    return order


@pytest.fixture
def register(store):
    async def register(name="w", slots=8, worker_id=None, address=None, *, heard=True):
        worker = await store.register_worker(
            worker_id or uuid4(), name=name, address=address or f"{name}:1", protocol=1, slots=slots, now=NOW
        )
        if heard:
            await store.beat(HOUR, [worker.id])
        return worker.id

    return register


async def counters(store, worker_id):
    worker = await store.worker(worker_id)
    return worker.running, worker.starting


async def test_a_slot_is_counted_from_the_reservation_to_the_last_entry(store, order, register):
    worker_id = await register()
    browser_id = await order()
    assert (await store.reserve_slot(browser_id)).id == worker_id
    assert (await store.reserve_slot(browser_id)).id == worker_id, "asked again"
    assert await counters(store, worker_id) == (1, 1)
    assert (await store.activate(browser_id, started_at=NOW, profile_writable=None)).worker == worker_id
    assert await counters(store, worker_id) == (1, 0)
    assert not await store.free_slot(browser_id), "it runs"
    await store.settle(browser_id, EndReason.STOPPED_BY_CALLER, HOUR / 2, now=NOW)
    assert await counters(store, worker_id) == (1, 0)
    for _ in range(2):
        await store.finish(browser_id, proxy_bytes=0)
        assert await counters(store, worker_id) == (0, 0)


async def test_a_start_that_fails_frees_its_slot_once(store, order, register):
    worker_id = await register()
    first, second = await order(), await order()
    for browser_id in (first, second):
        await store.reserve_slot(browser_id)
    assert await counters(store, worker_id) == (2, 2)
    assert await store.free_slot(first)
    assert not await store.free_slot(first)
    for _ in range(2):
        for browser_id in (first, second):
            await store.abandon(browser_id, EndReason.START_FAILED, now=NOW)
        assert await counters(store, worker_id) == (0, 0)
    with pytest.raises(NotStarting):
        await store.reserve_slot(first)


async def test_orders_at_once_share_the_workers_and_never_get_more_than_there_is(store, order, register):
    """The fewest starts first: a machine that starts two at once is slow, so nothing is put on one worker while another is idle."""
    workers = [await register(f"w{number}", slots=4) for number in range(3)]
    ids = [await order() for _ in range(15)]
    found = [await store.reserve_slot(each) for each in ids[:3]]
    assert {each.id for each in found} == set(workers)
    found += await asyncio.gather(*(store.reserve_slot(each) for each in ids[3:]))
    assert Counter(None if each is None else each.id for each in found) == {
        **dict.fromkeys(workers, 4),
        None: 3,
    }
    assert {(each.running, each.starting, each.free) for each in await store.workers()} == {(4, 4, 0)}


async def test_the_worker_with_fewer_starts_comes_before_the_one_with_fewer_browsers(store, order, register):
    busy, starting = await register("busy"), await register("starting")
    ids = [await order() for _ in range(5)]
    await store.drain_worker(starting)
    for browser_id in ids[:3]:
        await store.reserve_slot(browser_id)
        await store.activate(browser_id, started_at=NOW, profile_writable=None)
    await register("starting", worker_id=starting)
    assert (await store.reserve_slot(ids[3])).id == busy, "the other one still drains"
    assert await counters(store, busy) == (4, 1)
    idle = await register("idle")
    assert (await store.reserve_slot(ids[4])).id == idle


@POSTGRESQL
async def test_a_reservation_on_its_way_does_not_hide_the_other_slots_of_its_worker(store, order, register):
    """Seven of eight slots are free, and the row of their worker is held: the order waits for it."""
    await register(slots=8)
    first, second = await order(), await order()
    held, release = asyncio.Event(), asyncio.Event()

    async def hold():
        async with store._write() as session:
            assert await store._take_slot(session) is not None
            held.set()
            await release.wait()

    holding = asyncio.ensure_future(hold())
    await held.wait()
    waiting = asyncio.ensure_future(store.reserve_slot(first))
    await until(lambda: blocked(store))
    assert not waiting.done(), "it is not refused"
    release.set()
    await holding
    assert await waiting is not None
    assert await store.reserve_slot(second) is not None


async def blocked(store):
    """A transaction waits for another one's lock."""
    async with store._read() as session:
        mine = "datname = current_database() AND wait_event_type = 'Lock'"
        return await session.scalar(text(f"SELECT count(*) FROM pg_stat_activity WHERE {mine}"))


async def test_a_worker_started_again_at_its_address_is_another_one(store, order, register):
    former = await register(address="host:9")
    browser_id = await order()
    await store.reserve_slot(browser_id)
    worker_id = await register(address="host:9")
    assert [each.id for each in await store.workers()] == [worker_id]
    assert await counters(store, worker_id) == (0, 0)
    # The old one is dialled no more, and its browser's end meets no counter.
    assert await store.worker(former) is None
    await store.abandon(browser_id, EndReason.START_FAILED, now=NOW)
    assert await counters(store, worker_id) == (0, 0)


async def test_a_worker_that_was_forgotten_by_mistake_comes_back_with_its_browsers(store, order, register):
    worker_id = await register()
    ids = [await order() for _ in range(3)]
    for browser_id in ids:
        await store.reserve_slot(browser_id)
    await store.activate(ids[0], started_at=NOW, profile_writable=None)
    await store.abandon(ids[1], EndReason.START_FAILED, now=NOW)
    await store.forget_worker(worker_id)
    await register(worker_id=worker_id)
    assert await counters(store, worker_id) == (2, 1)


async def test_one_beat_is_for_the_server_and_for_all_that_answered_it(store, register):
    await store.join("here", now=NOW)
    alive, silent = await register("alive"), await register("silent")
    before = {each.id: each.beats for each in await store.workers()}
    assert await store.beat(HOUR, [alive, uuid4()])
    after = {each.id: each.beats for each in await store.workers()}
    assert (after[alive], after[silent]) == (before[alive] + 1, before[silent])
    # Who has found it silent removes it only if no other server has heard from it meanwhile.
    assert not await store.forget_worker(alive, beats=before[alive])
    assert await store.forget_worker(silent, beats=before[silent])
    assert [each.id for each in await store.workers()] == [alive]


@POSTGRESQL
async def test_a_beat_waits_for_no_reservation(store, register):
    await store.join("here", now=NOW)
    held, other = await register("held"), await register("other")
    async with store._write() as session:
        await store.drain_worker(other)
        assert (await store._take_slot(session)).id == held
        async with asyncio.timeout(5):
            assert await store.beat(HOUR, [held, other])
    beats = {each.id: each.beats for each in await store.workers()}
    assert (beats[held], beats[other]) == (1, 2)


async def test_a_worker_that_no_server_has_heard_from_gets_no_browser(store, order, register):
    """It may reach a server and not be reached: idle for good, it would be chosen each time."""
    busy = await register("busy", slots=1)
    out_of_reach = await register("out of reach", heard=False)
    first, second = await order(), await order()
    assert (await store.reserve_slot(first)).id == busy
    assert await store.reserve_slot(second) is None
    await register("out of reach", worker_id=out_of_reach, heard=False)  # again and again
    assert await store.reserve_slot(second) is None
    assert [each.free for each in await store.workers()] == [0, 0]
    await store.beat(HOUR, [out_of_reach])
    assert (await store.reserve_slot(second)).id == out_of_reach


@POSTGRESQL
async def test_two_servers_registering_one_worker_make_one_row(store, url):
    other = await Store.open(url)
    worker_id = uuid4()
    terms = {"name": "w", "address": "w:1", "protocol": 1, "slots": 2, "now": NOW}
    await asyncio.gather(*(each.register_worker(worker_id, **terms) for each in (store, other) * 3))
    [worker] = await store.workers()
    assert (worker.id, worker.beats) == (worker_id, 0)
    await other.close()
