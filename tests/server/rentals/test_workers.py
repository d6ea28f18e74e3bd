"""Browsers on workers: the wait for a slot as clients see it, and the end of a worker. On both databases."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import SQLAlchemyError

from cdpbridge._lifecycle import EndReason
from cdpbridge.billing import Tariff
from cdpbridge.server.rentals import ClientLeft, _membership
from cdpbridge.server.rentals._order import Order
from cdpbridge.server.rentals._worker_watch import SILENT_SECONDS, WorkerWatch
from cdpbridge.server.workers import StoreSlots
from tests import postgres
from tests.conftest import until
from tests.server.conftest import KEY, OTHER_KEY
from tests.server.store.conftest import NOW

MINUTE = 60.0
BEAT = 2.0
SETTINGS = {"browsers": "workers", "worker_secret": "s" * 32, "max_browsers": 50}


@pytest.fixture
def cluster(make_api):
    """A server whose machines ask for a slot first, and beat when they are told to, as a block."""

    @asynccontextmanager
    async def cluster(timeout=timedelta(seconds=60), **settings):
        async with make_api(**(SETTINGS | settings)) as api:
            store = api.services.store
            slots = StoreSlots(store, timeout=timeout, wall=api.wall)
            start = api.hosts.start

            async def start_on_worker(spec, **reports):
                await slots.reserve(spec.id)
                return await start(spec, **reports)

            api.hosts.start = start_on_worker
            heart = api.services.rentals._heart
            await heart.close()
            heart._workers = WorkerWatch(store, clock=api.clock.time)
            api.slots = slots
            yield api
        await slots.close()

    return cluster


async def add_worker(api, slots=1, name="w"):
    worker_id = uuid4()
    await api.services.store.register_worker(
        worker_id, name=name, address=f"{name}:1", protocol=1, slots=slots, now=NOW
    )
    await api.services.store.beat(timedelta(0), [worker_id])  # it is heard from
    return worker_id


async def beat(api, *answered, seconds=BEAT):
    """Time passes, and the server gives its sign of life."""
    api.clock.advance(seconds)
    api.hosts.heard = list(answered)
    await api.services.rentals._heart.beat()


async def in_line(api, count):
    async def reached():
        return await api.services.store.waiting() == count

    await until(reached)


async def counted(api):
    return {each.id: (each.running, each.starting) for each in await api.services.store.workers()}


# --- the end of a worker ----------------------------------------------------------------------------------------------


async def test_fault_b54_the_browsers_of_a_lost_worker_are_stopped_and_refunded_and_no_others(cluster):
    async with cluster() as api:
        lost = await add_worker(api, name="lost")
        browsers = [await api.rent(timeout=60)]
        kept = await add_worker(api, name="kept")
        browsers.append(await api.rent(timeout=60))
        await beat(api, lost, kept, seconds=10 * MINUTE)
        waited = 0.0
        while len(await counted(api)) == 2:
            await beat(api, kept)
            waited += BEAT
        assert SILENT_SECONDS <= waited <= 10
        await until(lambda: stopped(api, browsers[0]))
        ended = await api.browser(browsers[0])
        assert ended["endReason"] == EndReason.WORKER_LOST
        # Eleven started minutes of the hour that was charged.
        assert Decimal(ended["browserCost"]) == Decimal("0.009167")
        assert (await api.browser(browsers[1]))["status"] == "active"
        assert await counted(api) == {kept: (1, 0)}
        kinds = [kind for kind, _, _ in await api.entries()]
        assert (kinds.count("charge"), kinds.count("refund")) == (2, 1)
        await api.stop(browsers[1])
        assert await counted(api) == {kept: (0, 0)}


async def stopped(api, browser):
    return (await api.browser(browser))["status"] == "stopped"


async def test_fault_b54_a_start_on_a_lost_worker_is_withdrawn(cluster):
    async with cluster() as api:
        worker_id = await add_worker(api)
        api.hosts.may_start.clear()
        creating = asyncio.create_task(api.post("/browsers", {}))
        await until(lambda: api.hosts.starting)
        await beat(api, worker_id)
        for _ in range(4):
            await beat(api)
        assert (await creating).status_code == 503
        assert (await api.account())["activeSessionCount"] == 0
        assert [entry for entry in await api.entries() if entry[0] != "grant"] == []


async def test_fault_b54_a_worker_started_again_at_its_address_ends_the_browsers_of_the_former_one(cluster):
    async with cluster() as api:
        await add_worker(api, name="again")
        browser = await api.rent()
        worker_id = await add_worker(api, name="again")
        await beat(api, worker_id)
        await until(lambda: stopped(api, browser))
        assert (await api.browser(browser))["endReason"] == EndReason.WORKER_LOST
        assert await counted(api) == {worker_id: (0, 0)}


async def test_a_worker_that_any_server_hears_from_lives(cluster):
    async with cluster() as api:
        worker_id = await add_worker(api)
        browser = await api.rent()
        for _ in range(6):
            await api.services.store.beat(timedelta(0), [worker_id])  # another server, on its own connection
            await beat(api)
        assert (await api.browser(browser))["status"] == "active"
        assert list(await counted(api)) == [worker_id]


async def test_no_worker_is_given_up_while_the_database_is_away(cluster, monkeypatch):
    """However long that is: nothing was observed meanwhile."""
    async with cluster() as api:
        worker_id = await add_worker(api)
        browser = await api.rent()
        await beat(api, worker_id)
        await beat(api)
        membership = api.services.rentals._heart._membership
        with monkeypatch.context() as patch:

            async def away(*_arguments):
                raise SQLAlchemyError("away")

            patch.setattr(membership._store, "beat", away)
            for _ in range(5):
                with pytest.raises(SQLAlchemyError):
                    await beat(api, worker_id, seconds=60.0)
        await beat(api)
        assert list(await counted(api)) == [worker_id]
        assert (await api.browser(browser))["status"] == "active"
        for _ in range(3):
            await beat(api)
        assert not await counted(api)


# --- the queue --------------------------------------------------------------------------------------------------------


async def test_fault_b57_a_create_waits_for_a_slot(cluster):
    async with cluster() as api:
        worker_id = await add_worker(api)
        first = await api.rent()
        creating = asyncio.create_task(api.rent())
        await in_line(api, 1)
        await api.stop(first)
        second = await creating
        assert second["status"] == "active"
        assert await counted(api) == {worker_id: (1, 0)}


async def test_fault_b57_a_create_that_waits_too_long_gets_429_and_when_to_come_back(cluster):
    async with cluster(timeout=timedelta(seconds=0.05)) as api:
        answer = await api.post("/browsers", {}, headers={"Idempotency-Key": "k"})
        assert answer.status_code == 429
        assert "no worker has a free slot" in answer.json()["detail"]
        assert int(answer.headers["Retry-After"]) > 0
        assert (await api.account())["activeSessionCount"] == 0
        await in_line(api, 0)
        worker_id = await add_worker(api)
        browser = await api.rent(headers={"Idempotency-Key": "k"})
        assert browser["status"] == "active"
        assert await counted(api) == {worker_id: (1, 0)}


async def test_fault_b57_a_client_that_left_leaves_no_row_and_no_browser(cluster):
    async with cluster() as api:
        project = await api.project()
        leaving = asyncio.Event()

        order = Order(timedelta(hours=1), Tariff(), limit=1)
        creating = asyncio.create_task(api.services.rentals.create(project, order, client_left=leaving.wait))
        await in_line(api, 1)
        leaving.set()
        await asyncio.wait({creating})
        assert isinstance(creating.exception(), ClientLeft)
        assert await api.services.store.waiting() == 0
        worker_id = await add_worker(api)
        assert await api.services.store.serve_queue() == 0
        assert await counted(api) == {worker_id: (0, 0)}
        assert not api.hosts.running


async def test_fault_b57_a_late_start_is_stopped(cluster):
    """Its rental was stopped while the worker started it."""
    async with cluster() as api:
        worker_id = await add_worker(api)
        api.hosts.may_start.clear()
        creating = asyncio.create_task(api.post("/browsers", {}))
        await until(lambda: api.hosts.starting)
        [row] = await api.services.store.unfinished()
        await api.services.store.abandon(row.id, EndReason.STOPPED_BY_CALLER, now=api.wall())
        api.hosts.may_start.set()
        assert (await creating).status_code == 503
        assert not api.hosts.running
        assert await counted(api) == {worker_id: (0, 0)}


async def test_fault_b57_projects_take_turns(cluster):
    async with cluster() as api:
        worker_id = await add_worker(api)
        blocking = await api.rent()
        order = []

        async def rent(name, key):
            browser = await api.rent(key=key)
            order.append(name)
            await api.services.rentals.stop(await api.project(key), UUID(browser["id"]))

        tasks = []
        for number, (name, key) in enumerate([*[("many", KEY)] * 4, ("one", OTHER_KEY)]):
            tasks.append(asyncio.create_task(rent(name, key)))
            await in_line(api, number + 1)
        await api.stop(blocking)
        await asyncio.gather(*tasks)
        assert order == ["many", "one", "many", "many", "many"]
        assert await counted(api) == {worker_id: (0, 0)}


@pytest.mark.parametrize("database", [pytest.param("postgresql", marks=postgres.INSTALLED)], indirect=True)
async def test_fault_b57_who_repeats_after_the_end_of_the_server_keeps_the_place(
    cluster, tmp_path, monkeypatch
):
    """The first in line asked a server that has ended; its client asks the other one, with the same key."""
    monkeypatch.setattr(_membership, "DEAD_SECONDS", 5.0)
    key = {"Idempotency-Key": "once"}
    async with cluster(data_dir=tmp_path / "a") as a, cluster(data_dir=tmp_path / "b") as b:
        lost = asyncio.create_task(a.post("/browsers", {}, headers=key))
        await in_line(b, 1)
        behind = asyncio.create_task(b.rent())
        await in_line(b, 2)
        # As if its process ended: it does nothing any more.
        await a.slots.close()
        a.services.rentals._rentals.clear()

        repeat = asyncio.create_task(b.rent(headers=key))
        heart = b.services.rentals._heart
        heart._membership._clock = b.clock.time
        for _ in range(4):
            await beat(b)
        await until(lambda: b.slots.waiting == 2)
        assert await b.services.store.waiting() == 2  # what the dead server left does not count
        await add_worker(b)
        assert (await repeat)["status"] == "active"
        assert not behind.done()
        assert await b.services.store.waiting() == 1
        for each in (lost, behind):
            each.cancel()
        await asyncio.wait({lost, behind})
