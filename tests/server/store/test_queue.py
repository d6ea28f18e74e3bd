"""The queue for slots, as rows: fair, and served by any server."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest

from cdpbridge._lifecycle import EndReason
from cdpbridge.billing import Tariff
from cdpbridge.server._fairness import fair_round
from cdpbridge.server.store import Browser, NotStarting, Store
from cdpbridge.server.store._database import FOR_CHANGE
from tests import postgres
from tests.server.store.conftest import NOW

pytestmark = pytest.mark.programs

HOUR = timedelta(hours=1)
POSTGRESQL = pytest.mark.parametrize(
    "database", [pytest.param("postgresql", marks=postgres.INSTALLED)], indirect=True
)


@pytest.fixture
async def projects(store):
    await store.prepare({name: [f"key of {name}"] for name in "abc"}, credits=Decimal(1), now=NOW)
    return {name: await store.project_of(f"key of {name}") for name in "abc"}


@pytest.fixture
def order(store, projects):
    """A browser that starts, of a project, by its name."""

    async def order(name="a", *, of=store, key=None):
        browser_id = uuid4()
        terms = {"profile_id": None, "proxy_country": None, "tariff": Tariff(Decimal(0)), "limit": 1000}
        idempotency = None if key is None else (key, "hash")
        await of.reserve(projects[name], browser_id, timeout=HOUR, now=NOW, idempotency=idempotency, **terms)
        return browser_id

    return order


@pytest.fixture
def wait(order, store):
    """A browser that waits for a slot."""

    async def wait(name="a", *, of=store, key=None):
        browser_id = await order(name, of=of, key=key)
        await of.join_queue(browser_id, now=NOW)
        return browser_id

    return wait


async def add_worker(store, slots, name="w"):
    terms = {"name": name, "address": f"{name}:1", "protocol": 1, "slots": slots}
    worker = await store.register_worker(uuid4(), **terms, now=NOW)
    await store.beat(timedelta(0), [worker.id])  # it is heard from


async def served(store, ids):
    """The order in which browsers get their slots, one at a time."""
    found = []
    while len(found) < len(ids):
        await add_worker(store, 1, name=f"w{len(found)}")
        assert await store.serve_queue() == 1
        found += [each for each in await store.slots_given(ids) if each not in found]
    return found


@pytest.mark.parametrize(
    ("arrivals", "order"),
    [("aab", "aba"), ("aaabbc", "abcaba"), ("abab", "abab"), ("a", "a")],
)
def test_projects_take_turns_however_many_they_order(arrivals, order):
    waiting = []
    for number, name in enumerate(arrivals):
        first = min((each[0] for each in waiting), default=None)
        own_last = max((each[0] for each in waiting if each[2] == name), default=None)
        waiting.append((fair_round(first, own_last), number, name))
    assert "".join(name for _, _, name in sorted(waiting)) == order


async def test_a_project_that_orders_many_does_not_hold_the_others_up(store, wait):
    many = await asyncio.gather(*(wait("a") for _ in range(5)))
    one, other = await wait("b"), await wait("c")
    first_two = await served(store, [*many, one, other])
    assert first_two[0] in many
    assert first_two[1:3] == [one, other]
    assert set(first_two[3:]) <= set(many)


async def test_within_a_project_who_came_first_is_served_first(store, wait):
    ids = [await wait(name) for name in "aaba"]
    assert await served(store, ids) == [ids[0], ids[2], ids[1], ids[3]]


async def test_who_waits_comes_before_a_new_order(store, wait, order):
    waiting = await wait()
    await add_worker(store, 1)
    late = await order("b")
    assert await store.reserve_slot(late) is None, "the slot is for the one that waits"
    assert await store.serve_queue() == 1
    assert list(await store.slots_given([waiting, late])) == [waiting]
    assert await store.waiting() == 0
    await store.abandon(waiting, EndReason.START_FAILED, now=NOW)
    assert await store.reserve_slot(late) is not None


async def test_a_client_that_left_leaves_no_row_and_no_slot(store, wait):
    """Also when it leaves in the moment in which it is given one."""
    first, second = await wait(), await wait()
    await store.abandon(first, EndReason.STOPPED_BY_CALLER, now=NOW)
    assert await store.waiting() == 1
    await add_worker(store, 1)
    assert await store.serve_queue() == 1
    assert (await store.leave_queue(second)).slots == 1, "it was just given"
    await store.abandon(second, EndReason.STOPPED_BY_CALLER, now=NOW)
    [worker] = await store.workers()
    assert (worker.running, worker.starting, await store.waiting()) == (0, 0, 0)
    with pytest.raises(NotStarting):
        await store.join_queue(second, now=NOW)


async def test_who_waited_too_long_gets_none_later(store, wait):
    browser_id = await wait()
    assert await store.leave_queue(browser_id) is None
    await add_worker(store, 1)
    assert await store.serve_queue() == 0


async def test_what_a_dead_server_left_waits_only_for_a_repeat_with_its_key(store, wait, order):
    """Its place is kept, and counts for no one else."""
    lost, keyless = await wait("a", key="k"), await wait("a")
    behind = await wait("a")
    for browser_id in (lost, keyless):
        await store.abandon(browser_id, EndReason.SERVER_LOST, now=NOW)
    assert await store.waiting() == 1
    again = await wait("a", key="k")
    assert await store.waiting() == 2
    assert await served(store, [again, behind]) == [again, behind]


async def test_the_place_of_a_dead_server_is_not_kept_for_good(store, wait, order):
    lost = await wait("a", key="k")
    await store.abandon(lost, EndReason.SERVER_LOST, now=NOW)
    behind = await order("a")
    await store.join_queue(behind, now=NOW + HOUR)
    again = await order("a", key="k")
    await store.join_queue(again, now=NOW + HOUR)
    assert await served(store, [again, behind]) == [behind, again]


async def test_many_orders_at_once_and_few_slots_give_each_slot_once(store, wait, order):
    await add_worker(store, 3)
    ids = [await order(name) for name in "abc" * 4]

    async def want(browser_id):
        if await store.reserve_slot(browser_id) is None:
            await store.join_queue(browser_id, now=NOW)
            await store.serve_queue()

    await asyncio.gather(*map(want, ids))
    await store.serve_queue()
    given = await store.slots_given(ids)
    [worker] = await store.workers()
    assert (len(given), worker.running, await store.waiting()) == (3, 3, 9)


@POSTGRESQL
async def test_any_server_serves_all_and_two_at_once_serve_each_once(store, url, wait):
    other = await Store.open(url)
    mine, theirs = await wait("a"), await wait("b", of=other)
    await add_worker(store, 2)
    assert sum(await asyncio.gather(*(each.serve_queue() for each in (store, other) * 3))) == 2
    assert set(await other.slots_given([mine, theirs])) == {mine, theirs}
    assert set(await store.slots_given([mine, theirs])) == {mine, theirs}
    await other.close()


@POSTGRESQL
async def test_a_browser_that_is_being_stopped_holds_up_no_other(store, wait):
    first, second = await wait("a"), await wait("b")
    await add_worker(store, 1)
    async with store._write() as session:
        assert await session.get(Browser, first, with_for_update=FOR_CHANGE)
        async with asyncio.timeout(5):
            assert await store.serve_queue() == 1
    assert list(await store.slots_given([first, second])) == [second]
    assert await store.waiting() == 1
