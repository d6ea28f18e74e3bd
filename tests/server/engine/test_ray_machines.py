"""The whole machine of Ray's head is lost: its node, its control store and its drivers' port. Rentals of other nodes go on."""

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests import machines, postgres
from tests.conftest import until
from tests.server.engine.ray_head import INSTALLED, cmdline
from tests.server.workers.grid import Traffic, grid_of, passing, rented, stopped
from tests.server.workers.worker_programs import SECRET

pytestmark = [
    INSTALLED,
    machines.POSSIBLE,
    postgres.INSTALLED,
    pytest.mark.chromium,
    pytest.mark.one_build("what starts workers, whichever build these start"),
    pytest.mark.slow,  # three minutes, and two nodes of Ray
    pytest.mark.timeout(900),
]

AWAY_SECONDS = 180
LONG = 200
PORT, CLIENT_PORT, REDIS_PORT = 6379, 10001, 6380
MARK = "CDPBRIDGE_TESTS_RAY_NODE"


class RayNodes:
    """Ray's head and a node with slots for browsers, on machines of their own; Redis is on a third."""

    def __init__(self, grid, folder, environment):
        self._grid, self._folder = grid, folder
        self._head, self._node, self._redis_machine = (
            grid.machine(name) for name in ("head", "node", "redis")
        )
        self.token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._environment = os.environ | self.token | environment
        self._password, self._run = secrets.token_hex(8), secrets.token_hex(4)
        self._redis = None
        self.address = f"ray://{self._head.address}:{CLIENT_PORT}"

    def start(self):
        command = ["redis-server", "--port", REDIS_PORT, "--bind", self._redis_machine.address, "--save", ""]
        command += ["--requirepass", self._password, "--dir", self._folder]
        self._redis = subprocess.Popen(self._redis_machine.command(*command), stdout=subprocess.DEVNULL)
        self.start_head()
        self._ray(self._node, "--address", f"{self._head.address}:{PORT}", "--resources", '{"browser": 4}')

    def start_head(self):
        options = ["--head", "--port", PORT, "--ray-client-server-port", CLIENT_PORT]
        options += ["--include-dashboard", "false", "--temp-dir", self._folder / "ray"]
        redis = {"RAY_REDIS_ADDRESS": f"{self._redis_machine.address}:{REDIS_PORT}"}
        self._ray(self._head, *options, "--redis-password", self._password, **redis)

    def _ray(self, machine, *options, **environment):
        ray = Path(sys.executable).with_name("ray")
        options = [*options, "--node-ip-address", machine.address, "--num-cpus", "0"]
        options += ["--object-store-memory", str(80 << 20), "--disable-usage-stats"]
        done = subprocess.run(
            machine.command(ray, "start", *options),
            env=self._environment | environment | {MARK: f"{self._run}-{machine.address}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONG,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _processes(self, machine):
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == f"{self._run}-{machine.address}":
                    found.append(process)
        # Ray's agents write their titles over their environment.
        return {each for process in found for each in (process, *children(process))}

    def lose_head(self):
        """End all that runs on that machine, at once."""
        _kill(self._processes(self._head))

    def workers(self):
        return [each for each in self._processes(self._node) if "--owned" in cmdline(each)]

    def close(self):
        _kill(self._processes(self._head) | self._processes(self._node))
        if self._redis is not None:
            self._redis.terminate()
            self._redis.wait(20)


def children(process):
    with suppress(psutil.Error):
        return process.children(recursive=True)
    return []


def _kill(processes):
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, 30)


@pytest.fixture
def folder():
    """Short: the names of Ray's sockets begin with it."""
    made = Path(tempfile.mkdtemp(prefix="cdpb-ray-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


async def test_fault_b56_the_machine_of_rays_head_is_lost_for_three_minutes(tmp_path, folder):
    on_nodes = {
        "CDPBRIDGE_WORKER_SECRET": SECRET,
        "CDPBRIDGE_DATA_DIR": str(tmp_path / "nodes"),
        "CDPBRIDGE_BROWSER_BUILD": "shell",
        "CDPBRIDGE_WARM_BROWSERS": "0",
        "RAY_gcs_rpc_server_reconnect_timeout_s": "86400",
    }
    async with grid_of(tmp_path) as grid:
        nodes = RayNodes(grid, folder, on_nodes)
        try:
            await asyncio.to_thread(nodes.start)
            engine = {"engine": "ray", "ray_address": nodes.address, "ray_namespace": "tests"}
            engine |= {"slots_per_worker": 2, "min_workers": 2, "max_workers": 2, "spare_slots": 0}
            a = await grid.server("a", environment=nodes.token, **engine)
            b = await grid.server("b", environment=nodes.token, **engine)

            async def pressure():
                url = str(b.http.base_url).partition("/api/")[0]
                return (await b.http.get(f"{url}/pressure")).json()

            async def is_engine(state, **figures):
                found = await pressure()
                said = found["engine"] | {"accepting": found["workers"]["accepting"]}
                return all(said.get(name) == value for name, value in ({"state": state} | figures).items())

            await until(lambda: is_engine("running", running=2, accepting=2), timeout=LONG)
            workers = {each.pid for each in nodes.workers()}
            browser = await rented(a, timeout=60)
            async with Traffic(b.address(browser)) as traffic:
                nodes.lose_head()
                await until(lambda: is_engine("away", accepting=2), timeout=LONG)
                for _ in passing(AWAY_SECONDS):
                    await traffic.goes_on()
                    # What is free is rented out.
                    more = await rented(b)
                    assert (await stopped(a, more))["endReason"] == "stopped_by_caller"
                    assert {each.pid for each in nodes.workers()} == workers
                await asyncio.to_thread(nodes.start_head)
                await until(lambda: is_engine("running", running=2, accepting=2), timeout=LONG)
                assert {each.pid for each in nodes.workers()} == workers, "the same, and no more"
                await traffic.goes_on()
            assert (await stopped(a, browser))["endReason"] == "stopped_by_caller"
            assert grid.entries(browser) == ["charge", "refund"]
            await grid.in_order()
        finally:
            await asyncio.to_thread(nodes.close)
