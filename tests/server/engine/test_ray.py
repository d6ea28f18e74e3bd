"""Workers that a real Ray starts for real servers. Slow: Ray's head takes some seconds and much CPU to start."""

import asyncio
import json
import secrets
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from uuid import uuid4

import psutil
import pytest

from cdpbridge.server.data_dir import locked
from cdpbridge.server.engine import open_driver
from tests import postgres
from tests.conftest import clean_environment, until
from tests.server.engine.ray_head import INSTALLED, ray_head

pytestmark = [
    INSTALLED,
    pytest.mark.slow,
    pytest.mark.chromium,
    pytest.mark.one_build("what starts workers, whichever build these start"),
    pytest.mark.timeout(400),
]

LONG = 150


@pytest.fixture(scope="module")
def worker_secret():
    return secrets.token_urlsafe(32)


@pytest.fixture(scope="module")
def nodes_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("nodes")


@pytest.fixture(scope="module")
def head(worker_secret, nodes_folder):
    """One for all tests: each has a namespace of its own."""
    environment = {
        "CDPBRIDGE_WORKER_SECRET": worker_secret,
        "CDPBRIDGE_DATA_DIR": str(nodes_folder),
        "CDPBRIDGE_BROWSER_BUILD": "shell",
        "CDPBRIDGE_WARM_BROWSERS": "0",
        "RAY_gcs_rpc_server_reconnect_timeout_s": "86400",
    }
    with ray_head(slots=8, node_environment=environment) as head:
        yield head


@pytest.fixture
async def engine(head, worker_secret, spawn_server, monkeypatch):
    """A server with `engine = "ray"`, as a block; its actors end with the test."""
    for name, value in head.environment.items():
        monkeypatch.setenv(name, value)
    namespace = f"tests-{uuid4().hex[:8]}"

    @asynccontextmanager
    async def engine(*, address=head.address, **settings):
        settings = {"slots_per_worker": 2, "min_workers": 1, "max_workers": 3, "spare_slots": 0} | settings
        async with spawn_server(
            env=head.environment,
            browsers="workers",
            worker_secret=worker_secret,
            engine="ray",
            ray_address=address,
            ray_namespace=namespace,
            **settings,
        ) as server:
            yield server

    yield engine
    async with open_driver(head.address, namespace=namespace) as driver:
        found = (await driver.ask("look"))["actors"]
        await driver.ask("end", [each["name"] for each in found])
    await until(lambda: not head.actors() and not head.workers(), timeout=LONG)


async def pressure(server):
    url = str(server.http.base_url).removesuffix("/").removesuffix("/api/v2")
    return (await server.http.get(f"{url}/pressure")).json()


async def workers(server, count, **figures):
    """Wait until so many workers accept browsers, and the engine says these figures; what it says then."""
    found = {}

    async def enough():
        found.update(await pressure(server))
        said = found["engine"]
        return found["workers"]["accepting"] == count and all(said[name] == figures[name] for name in figures)

    try:
        await until(enough, timeout=LONG)
    except TimeoutError:
        raise AssertionError(f"{count} workers, {figures}: {found}") from None
    return found["engine"]


async def test_as_many_as_are_wanted_run_and_one_that_is_killed_is_replaced(head, engine):
    async with engine(min_workers=2) as server:
        said = await workers(server, 2, running=2)
        assert said["state"] == "running"
        assert said["warnings"] == []
        assert (said["wanted"], said["pending"]) == (2, 0)
        assert len(head.actors()) == 2
        browser = await server.rent()
        assert browser["status"] == "active"
        assert (await server.stop(browser))["status"] == "stopped"
        victims = head.workers()
        assert len(victims) == 2
        head.actors()[0].kill()
        # The worker ends with its actor, and another one takes its place.
        await until(lambda: sum(each.is_running() for each in victims) == 1, timeout=LONG)
        await until(lambda: len(head.workers()) == 2, timeout=LONG)
        await workers(server, 2, running=2)
        assert len(head.actors()) == 2


async def test_fewer_are_wanted_and_no_rental_ends(head, engine):
    async with engine(slots_per_worker=1, spare_slots=0, scale_down_seconds=1) as server:
        await workers(server, 1, running=1)
        # The second one waits until a worker has started for it.
        first, second = await asyncio.gather(server.rent(), server.rent())
        await workers(server, 2, running=2, wanted=2)
        await server.stop(first)
        said = await workers(server, 1, running=1, draining=0, wanted=1)
        assert said["state"] == "running"
        assert (await server.browser(second))["status"] == "active"
        [_] = head.actors()
        await server.stop(second)
        assert (await server.browser(second))["endReason"] == "stopped_by_caller"


async def test_no_more_than_the_nodes_have_slots_for(head, engine):
    """What Ray cannot place waits there, where its autoscaler sees it, and is withdrawn when it is not wanted."""
    async with engine(slots_per_worker=5, min_workers=1, max_workers=2, scale_down_seconds=1) as server:
        await workers(server, 1, running=1)
        rented = await asyncio.gather(*(server.rent() for _ in range(5)))
        waits = asyncio.create_task(server.http.post("/browsers", json={}))
        await workers(server, 1, running=1, pending=1, wanted=2)
        await server.stop(rented[0])
        assert (await waits).status_code == 201, "it has the slot that is free now"
        for browser in rented[1:]:
            await server.stop(browser)
        await workers(server, 1, running=1, pending=0, wanted=1)
        assert len(head.actors()) == 1


@postgres.INSTALLED
async def test_fault_b53_the_server_with_the_engine_is_killed(head, engine, new_postgresql):
    shared = {"database_url": new_postgresql(), "secret_key": postgres.SECRET, "min_workers": 2}
    async with engine(folder="a", **shared) as a:
        await workers(a, 2, running=2)
        async with engine(folder="b", **shared) as b:
            said = await workers(b, 2, running=2)
            assert said["state"] == "running", "what the other one says"
            before = {each.pid for each in head.workers()}
            assert not drivers_of(b.process)
            assert drivers_of(a.process)
            orphans = drivers_of(a.process)
            a.process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(a.process.wait)
            await until(lambda: drivers_of(b.process), timeout=LONG)
            assert not [each for each in orphans if each.is_running()], "a driver ends with its server"
            await workers(b, 2, running=2)
            assert {each.pid for each in head.workers()} == before, "no more, and the same ones"
            # It does what the other one did.
            head.actors()[0].kill()
            await until(lambda: {each.pid for each in head.workers()} - before, timeout=LONG)
            await workers(b, 2, running=2)
            assert len(head.actors()) == 2


async def test_fault_b56_the_head_of_ray_is_lost_and_comes_back(head, engine):
    async with engine(min_workers=2, slots_per_worker=1) as server:
        await workers(server, 2, running=2)
        rented = await server.rent()
        head.kill_head()
        said = await workers(server, 2, state="away")
        assert "no worker is started" in said["message"]
        assert (await server.browser(rented))["status"] == "active"
        more = await server.rent()
        await server.stop(more)

        # A worker that ends meanwhile is replaced when the head is back.
        free = next(each for each in head.workers() if not children_of(each))
        free.kill()
        head.return_head()
        await workers(server, 2, state="running", running=2)
        assert (await server.browser(rented))["status"] == "active"
        assert (await server.stop(rented))["endReason"] == "stopped_by_caller"


async def test_a_worker_that_does_not_start_says_why_and_another_one_does(head, engine, nodes_folder):
    with locked(nodes_folder / "workers" / "worker-1" / "worker"):
        async with engine() as server:
            said = await workers(server, 1, running=1)
            assert said["message"].startswith("worker-1: the worker ended with 1: ")
            assert "is used by another server" in said["message"]


async def test_a_server_on_no_node_of_ray(head, engine):
    """By Ray's client server: a driver with `ray.init` needs a node on its machine."""
    async with engine(address=head.client_address) as server:
        await workers(server, 1, running=1)
        await server.stop(await server.rent())


async def test_doctor_looks_at_the_nodes(head, engine):
    code, checks, words = await doctor(head.client_address, head.environment)
    assert code == 0, words
    [node] = checks
    assert node["status"] == "ok"
    assert node["text"].endswith("8 slots")

    # Without the token it learns nothing; `RAY_AUTH_MODE` is set by itself.
    code, [refused], _ = await doctor(head.address, {"RAY_AUTH_TOKEN_PATH": "/nonexistent"})
    assert (code, refused["status"]) == (1, "fail")
    assert "token" in refused["text"]
    assert head.environment["RAY_AUTH_TOKEN"] not in refused["text"]


async def doctor(address, environment):
    """Its return code, its checks of Ray, and all that it said."""
    command = [sys.executable, "-m", "cdpbridge", "doctor", "--machine", "--json", "--ray-address", address]
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        env={k: v for k, v in clean_environment().items() if not k.startswith("RAY_")} | environment,
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    found = json.loads(done.stdout)["machine"]
    return done.returncode, [each for each in found if each["name"] == "ray"], done.stdout + done.stderr


def drivers_of(process):
    found = psutil.Process(process.pid).children(recursive=True)
    return [each for each in found if "cdpbridge.server.engine._driver" in each.cmdline()]


def children_of(process):
    return [each for each in process.children(recursive=True) if "chrom" in each.name()]
