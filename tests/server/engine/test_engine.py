"""What a server does with what Ray and the database say; test_ray.py has the same with a real Ray."""

from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy.exc import OperationalError

from cdpbridge.server import Settings
from cdpbridge.server.engine import Engine, EngineAway, EngineLimits
from cdpbridge.server.engine._link import DriverLink
from cdpbridge.server.store import Store
from tests.conftest import until
from tests.server.store.conftest import NOW, empty_url, project, sqlite_url, store, url

__all__ = ["empty_url", "project", "sqlite_url", "store", "url"]

pytestmark = pytest.mark.programs

NODE = {"address": "10.0.0.7", "reconnectSeconds": 60.0, "authentication": True, "secret": True}
LIMITS = EngineLimits(every=timedelta(seconds=0.01), retry=timedelta(seconds=0.01))


@pytest.fixture
def database():
    return "sqlite"


class ScriptedRay:
    """In place of a driver: actors are what the test says; it fails on demand."""

    def __init__(self):
        self.actors = {}
        self.asked = []
        self.away = None
        self.opened = self.closed = 0

    async def open(self, address, *, namespace, slots, servers):
        assert (address, slots, servers) == ("auto", 2, ["http://127.0.0.1:8700"])
        if self.away:
            raise EngineAway(self.away)
        self.opened += 1
        return self

    async def ask(self, what, names=()):
        if self.away:
            raise EngineAway(self.away)
        if what == "look":
            found = [{"name": name, **each} for name, each in self.actors.items()]
            self.actors = {name: each for name, each in self.actors.items() if each["state"] != "failed"}
            return {"actors": found}
        self.asked.append((what, *names))
        for name in names:
            if what == "start":
                self.actors[name] = {"state": "pending"}
            else:
                del self.actors[name]
        return {}

    async def close(self):
        self.closed += 1


@pytest.fixture
def ray(monkeypatch):
    ray = ScriptedRay()
    monkeypatch.setattr(DriverLink, "open", ray.open)
    return ray


@pytest.fixture
def running(store, ray, tmp_path):
    """An engine as a block."""

    @asynccontextmanager
    async def running(**settings):
        given = {
            "slots_per_worker": 2,
            "max_workers": 2,
            "spare_slots": 0,
            "scale_down_seconds": 0,
        } | settings
        loaded = Settings.load(
            data_dir=tmp_path,
            engine="ray",
            ray_address="auto",
            browsers="workers",
            worker_secret="x" * 32,
            **given,
        )
        engine = Engine(store, loaded, ["http://127.0.0.1:8700"], limits=LIMITS)
        engine.start()
        try:
            yield engine
        finally:
            await engine.close()

    return running


async def register(store, number):
    worker_id = UUID(int=number)
    await store.register_worker(
        worker_id, name=f"worker-{number}", address=f"w{number}:1", protocol=1, slots=2, now=NOW
    )
    return {"state": "running", "worker": str(worker_id), "node": NODE}


async def test_it_starts_what_is_missing_and_ends_what_is_empty(running, ray, store):
    async with running() as engine:
        await until(lambda: ray.asked == [("start", "worker-1")])
        assert engine.held
        ray.actors["worker-1"] = await register(store, 1)
        ray.actors["worker-2"] = await register(store, 2)
        # One of two is enough: it drains, ends, and has no row any more.
        await until(lambda: len(ray.asked) == 2)
        assert ray.asked[1] in {("end", "worker-1"), ("end", "worker-2")}
        await until(lambda: one_worker(store))
        await until(lambda: engine.report["running"] == 1)
        assert engine.report["state"] == "running"
        [warning] = engine.report["warnings"]
        assert warning.startswith("10.0.0.7: when Ray's head is lost")
    assert ray.closed == 1
    assert (await store.engine("ray")).owner is None


async def one_worker(store):
    return len(await store.workers()) == 1


async def test_fault_b56_nothing_is_started_while_ray_is_away(running, ray):
    ray.away = "no answer within 15 s"
    async with running() as engine:
        await until(lambda: engine.report["state"] == "away")
        assert "workers and their rentals go on" in engine.report["message"]
        assert "no answer within 15 s" in engine.report["message"]
        ray.away = None
        await until(lambda: engine.report["state"] == "running")
        assert engine.report["message"] is None
        # It goes away again while it is used.
        ray.away = "the driver has ended"
        await until(lambda: ray.closed == ray.opened == 1)
        ray.away = None
        await until(lambda: ray.opened == 2)
    assert ray.asked == [("start", "worker-1")], "once"


async def test_fault_b56_nothing_is_done_while_the_database_is_away(running, ray, monkeypatch):
    async with running() as engine:
        await until(lambda: ray.asked)

        async def away(*_):
            raise OperationalError("select", None, OSError("away"))

        with monkeypatch.context() as patch:
            patch.setattr(Store, "workers", away)
            await until(lambda: engine.report["state"] == "away")
            assert "the database does not answer" in engine.report["message"]
            ray.actors.clear()
        await until(lambda: engine.report["state"] == "running")


async def test_a_failed_start_is_told_and_tried_again(running, ray):
    async with running() as engine:
        await until(lambda: ray.asked)
        ray.actors["worker-1"] = {"state": "failed", "error": "the worker ended with 1: no Chromium"}
        await until(lambda: engine.report["message"] == "worker-1: the worker ended with 1: no Chromium")
        await until(lambda: ray.asked == [("start", "worker-1"), ("start", "worker-2")])
        assert engine.report["message"] is not None, "until it has not failed for some time"


async def test_a_server_that_has_lost_the_row_acts_no_more(running, ray, store):
    async with running() as engine:
        await until(lambda: ray.asked)
        row = await store.engine("ray")
        while await store.take_engine("ray", row) is None:
            row = await store.engine("ray")
        # The row is this server's in name, and of another generation.
        await until(lambda: ray.closed == 1)
        # With SQLite, it takes it back.
        await until(lambda: engine.held and ray.opened == 2)
