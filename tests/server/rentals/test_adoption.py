"""Browsers of workers outlive their server: another goes on with them, after its death and after its orderly end."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest

from cdpbridge._lifecycle import EndReason
from cdpbridge.server.hosts import Placement, SavedState, StopReport
from cdpbridge.server.objects import ObjectStorageError
from cdpbridge.server.rentals import _heart, _membership, _recovery
from cdpbridge.server.store import Browser, RecordingState, Server, _servers
from tests import postgres
from tests.conftest import until
from tests.server.conftest import ScriptedHosts
from tests.server.rentals.conftest import kill
from tests.server.store.conftest import NOW

MINUTE = 60.0
KEY = {"Idempotency-Key": "once"}
SETTINGS = {"browsers": "workers", "worker_secret": "s" * 32, "max_browsers": 50, "heartbeat_seconds": 0.05}

POSTGRESQL = pytest.mark.parametrize(
    "database", [pytest.param("postgresql", marks=postgres.INSTALLED)], indirect=True
)


class Machines:
    """What runs on workers, whichever server asks; the newest generation is obeyed."""

    def __init__(self):
        self.worker = uuid4()
        self.running = {}
        self.reports = {}
        self.saves = None


class ScriptedWorkers(ScriptedHosts):
    """A server's way to `Machines`. What is rented through it is in `running`, and `left` in none."""

    def __init__(self, machines):
        super().__init__()
        self.machines = machines
        self.released = []
        self.store = None

    async def start(self, spec, **reports):
        await self.store.reserve_slot(spec.id)
        await super().start(spec, **reports)
        self.machines.running[spec.id] = spec.generation
        return self._hold(spec)

    def _hold(self, spec):
        writable = None if spec.profile_id is None else True
        placement = Placement(f"token-{spec.id.hex}", writable, worker=self.machines.worker)
        self.running[spec.id] = placement, spec
        return placement

    async def adopt(self, spec, *, on_exit, on_limit):
        generation = self.machines.running.get(spec.id)
        if generation is None:
            self._hold(spec)
            return None
        assert spec.generation > generation
        self.machines.running[spec.id] = spec.generation
        self.on_exit[spec.id] = on_exit
        return self._hold(spec)

    async def release(self, browser_id):
        self.released.append(browser_id)
        return self.running.pop(browser_id, None) is not None

    async def stop(self, browser_id, frame, *, save):
        if browser_id not in self.running:
            return None
        _, spec = self.running.pop(browser_id)
        if self.machines.running.get(browser_id, spec.generation) > spec.generation:
            return None  # another server's
        if self.machines.running.pop(browser_id, None) is None:
            return self.machines.reports.pop(browser_id, None)
        self.stopped.append((browser_id, frame, save))
        saved = SavedState(1, ["example.com"]) if save and spec.profile_id is not None else None
        return StopReport("closed", saved, 7)

    def answered(self):
        return [self.machines.worker]

    async def close(self):
        assert not self.running  # what is left of them is the workers' to remove


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(_membership, "DEAD_SECONDS", 90.0)
    monkeypatch.setattr(_membership, "STALE_SECONDS", 80.0)
    monkeypatch.setattr(_heart, "_BEAT_AMONG_OTHERS", timedelta(seconds=0.05))
    monkeypatch.setattr(_heart, "_LISTEN_SECONDS", 0.02)
    monkeypatch.setattr(_recovery, "_RETRY_SECONDS", 0.01)


@pytest.fixture
def machines():
    return Machines()


@pytest.fixture
def on_workers(make_api, tmp_path, quick, machines):
    """A server whose browsers run on workers, as a block."""

    @asynccontextmanager
    async def on_workers(name, **settings):
        hosts = ScriptedWorkers(machines)
        async with make_api(data_dir=tmp_path / name, hosts=hosts, **(SETTINGS | settings)) as api:
            hosts.store = api.services.store
            await hosts.store.register_worker(
                machines.worker, name="w", address="w:1", protocol=1, slots=9, now=NOW
            )
            await hosts.store.beat(timedelta(0), [machines.worker])  # it is heard from
            yield api

    return on_workers


async def seen(api, after=0.0):
    """Give the last sign of life, so much later: none from before comes after it."""
    await api.services.rentals._heart.close()
    api.clock.advance(after)
    await api.services.rentals._heart.beat()


async def seems_dead(api):
    """Let the others take over from a server that was killed, without the wait."""
    store = api.services.store
    async with store._write() as session:
        (await session.get(Server, store.server_id)).leaving = True


async def is_stopped(api, browser):
    return (await api.browser(browser))["status"] == "stopped"


def rented(api, browser):
    rental = api.services.rentals._rentals.get(UUID(browser["id"]))
    return rental is not None and rental.is_active


async def counts(api):
    kinds = [kind for kind, _, _ in await api.entries()]
    return kinds.count("charge"), kinds.count("refund")


@pytest.mark.parametrize("end", ["killed", "closed"])
@POSTGRESQL
async def test_fault_b53_a_lost_server_ends_no_browser_of_a_worker(on_workers, machines, end):
    """Its hours go on where they were: the first is booked by the one server, the second by the other, each once."""
    async with on_workers("b") as b:
        async with on_workers("a") as a:
            browser = await a.rent(timeout=90, headers=KEY)
            browser_id = UUID(browser["id"])
            b.clock.advance(50 * MINUTE)
            await seen(a, 50 * MINUTE)
            if end == "killed":
                await kill(a)
                await seems_dead(a)
                await until(lambda: rented(b, browser))
        if end == "closed":
            assert a.hosts.released == [browser_id]
            assert not a.hosts.stopped
        await until(lambda: rented(b, browser))
        assert (await b.browser(browser))["status"] == "active"
        assert list(machines.running) == [browser_id]
        await until(lambda: is_alone(b))
        # What was rented with a key is found by it, and its address is the same.
        again = await b.rent(timeout=90, headers=KEY)
        assert (again["id"], b.hosts.starts) == (browser["id"], 0)

        b.clock.advance(11 * MINUTE)
        await until(lambda: charged(b, 2))
        assert not await is_stopped(b, browser)
        b.clock.advance(29 * MINUTE)
        await until(lambda: is_stopped(b, browser))
        ended = await b.browser(browser)
        assert ended["endReason"] == EndReason.EXPIRED
        assert Decimal(ended["browserCost"]) == Decimal("0.075")
        assert await counts(b) == (2, 1)
        assert not machines.running
        await until(lambda: slots_are_free(b))  # with its last entry, which comes after "stopped"


async def slots_are_free(api):
    return [each.running for each in await api.services.store.workers()] == [0]


async def is_alone(api):
    return not await api.services.store.other_servers()


async def charged(api, hours):
    return (await counts(api))[0] == hours


@POSTGRESQL
async def test_fault_b53_what_has_ended_with_a_server_or_since_is_settled(on_workers, machines):
    """One that has ended on its worker meanwhile, one whose end was begun, and one that was starting."""
    async with on_workers("b") as b, on_workers("a") as a:
        profile = (await a.post("/profiles", {})).json()["id"]
        exited, stopping = await a.rent(timeout=60, profileId=profile), await a.rent(timeout=60)
        await seen(a, 10 * MINUTE)
        store, ids = a.services.store, [UUID(each["id"]) for each in (exited, stopping)]
        await store.settle(ids[1], EndReason.STOPPED_BY_CALLER, timedelta(minutes=10), now=a.wall())
        a.hosts.may_start.clear()
        creating = asyncio.create_task(a.post("/browsers", {}, headers=KEY))
        await until(lambda: a.hosts.starting)
        machines.running.pop(ids[0])
        machines.reports[ids[0]] = StopReport("exited", SavedState(1, ["left.example"]), 42)
        await kill(a)
        await seems_dead(a)
        for browser in (exited, stopping):
            await until(lambda browser=browser: is_stopped(b, browser))
            assert Decimal((await b.browser(browser))["browserCost"]) == Decimal("0.008333")
        assert (await b.browser(exited))["endReason"] == EndReason.SERVER_LOST
        assert (await b.browser(stopping))["endReason"] == EndReason.STOPPED_BY_CALLER
        assert (await store.rental(ids[0])).proxy_bytes == 42
        assert (await b.get(f"/profiles/{profile}")).json()["cookieDomains"] == ["left.example"]
        await until(lambda: not machines.running)
        assert await counts(b) == (2, 2)
        await b.rent(headers=KEY)  # the key of the one that was starting is free
        a.hosts.may_start.set()
        assert (await creating).status_code == 503


@POSTGRESQL
async def test_a_server_that_was_taken_for_dead_leaves_its_browsers_to_the_other(on_workers, machines):
    async with on_workers("b") as b, on_workers("a") as a:
        browser = await a.rent(timeout=60)
        heart = a.services.rentals._heart
        await heart.close()  # it stands still
        await seems_dead(a)
        await until(lambda: rented(b, browser))
        heart.start()
        await until(lambda: not rented(a, browser))
        assert a.hosts.released == [UUID(browser["id"])]
        assert not a.hosts.stopped
        # A stop reaches the one whose it is now, also through the other.
        assert (await a.stop(browser))["status"] == "stopped"
        assert [each for each, _, _ in b.hosts.stopped] == [UUID(browser["id"])]
        assert await counts(b) == (1, 1)


@POSTGRESQL
async def test_a_server_that_reaches_no_workers_leaves_their_browsers_to_others(
    on_workers, make_api, tmp_path, monkeypatch
):
    """As long as they may run: when no other server has taken them by then, they have ended."""
    async with make_api(data_dir=tmp_path / "here", heartbeat_seconds=0.05) as here, on_workers("a") as a:
        browser = await a.rent()
        await seen(a)
        await kill(a)
        await seems_dead(a)
        first = await beats(here)

        async def looked():
            return await beats(here) >= first + 3

        await until(looked)
        assert not await is_stopped(here, browser)
        monkeypatch.setattr(_servers, "_ALONE", timedelta(0))
        await until(lambda: is_stopped(here, browser))
        assert (await here.browser(browser))["endReason"] == EndReason.SERVER_LOST


async def beats(api):
    store = api.services.store
    async with store._read() as session:
        return (await session.get(Server, store.server_id)).beats


@pytest.mark.parametrize("end", ["killed", "closed"])
async def test_a_server_goes_on_with_its_own_browsers_after_a_restart(on_workers, machines, end):
    """Also the only one, with SQLite: what runs on workers needs no server for some seconds."""
    async with on_workers("a") as a:
        browser = await a.rent(timeout=60, enableRecording=False)
        await seen(a, 20 * MINUTE)
        if end == "killed":
            await kill(a)
    async with on_workers("a") as again:
        assert rented(again, browser)
        again.clock.advance(10 * MINUTE)
        stopped = await again.stop(browser)
        # A few seconds more, by the clock of the database, may have begun the next minute.
        assert Decimal(stopped["browserCost"]) in {Decimal("0.025"), Decimal("0.025833")}
        assert await counts(again) == (1, 1)


async def test_the_recording_of_a_lost_server_has_an_end(on_workers, machines):
    async with on_workers("a") as a:
        browser = await a.rent()
        store = a.services.store
        async with store._write() as session:
            (await session.get(Browser, UUID(browser["id"]))).recording = RecordingState.RUNNING
        if not store.one_writer:
            await kill(a)
    async with on_workers("a") as again:
        answer = await again.get(f"/browsers/{browser['id']}/recording")
        assert answer.json()["status"] == RecordingState.SERVER_LOST
        await again.stop(browser)


@POSTGRESQL
async def test_what_a_lost_server_has_uploaded_is_asked_for_until_the_storage_answers(
    make_api, tmp_path, quick
):
    """A storage that is away does not mean that nothing was uploaded; other browsers do not wait for it."""
    async with make_api(data_dir=tmp_path / "b") as b, make_api(data_dir=tmp_path / "a") as a:
        profile = (await a.post("/profiles", {})).json()["id"]
        saves, other = await a.rent(profileId=profile), await a.rent()
        asked, away = [], SimpleNamespace(storage=True)

        async def find_upload(profile_id, browser_id):
            asked.append(browser_id)
            if away.storage:
                raise ObjectStorageError("the storage is away")
            return SavedState(4, ["uploaded.example"], "an archive")

        recovery = b.services.rentals._heart._recovery
        object.__setattr__(recovery, "find_upload", find_upload)
        await kill(a)
        await seems_dead(a)
        await until(lambda: is_stopped(b, other))
        await until(lambda: len(asked) > 2)
        assert (await b.services.store.rental(UUID(saves["id"]))).state == "stopping"
        assert Decimal((await b.browser(saves))["browserCost"]) > 0
        # Until that is known, no other browser saves the profile.
        assert (await b.rent(profileId=profile))["profileWritable"] is False
        away.storage = False
        await until(lambda: state_is(b, saves, "stopped"))
        assert (await b.get(f"/profiles/{profile}")).json()["cookieDomains"] == ["uploaded.example"]


async def state_is(api, browser, state):
    return (await api.services.store.rental(UUID(browser["id"]))).state == state


@POSTGRESQL
async def test_a_worker_that_does_not_answer_is_no_end_of_its_browser(on_workers):
    """A client that comes back is told to try again: 404 would end it for good."""
    async with on_workers("b") as b, on_workers("a") as a:
        b.services.registry.allow_hosts(["test"])
        browser = await a.rent()
        address = (await b.browser(browser))["cdpUrl"]
        answer = await b.client.get(f"{address}/json/version")
        assert answer.status_code == 503
        assert "worker" in answer.json()["detail"]
        await a.stop(browser)
        assert (await b.client.get(f"{address}/json/version")).status_code == 404
