"""A real Ray on this machine: its head with slots for browsers, and Redis, from which a head that was lost comes back.

Its processes are known by a variable in their environment, and all of them end with the block.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

INSTALLED = pytest.mark.skipif(
    find_spec("ray") is None or shutil.which("redis-server") is None,
    reason="Ray or Redis is not installed; pip install 'ray[client]', apt-get install redis-server",
)
_MARK = "CDPBRIDGE_TESTS_RAY"
_START_SECONDS = 90
_GCS = "gcs_server"


class RayHead:
    """Ray with one node.

    Attributes:
        address: Of the head.
        client_address: `ray://...`, for drivers that are on no node.
        environment: What drivers need.
    """

    def __init__(self, folder, *, slots, node_environment):
        self._folder = folder
        self._mark = secrets.token_hex(8)
        # Below the ports that Ray gives its workers.
        self._redis_port, self._port, self._client_port = free_ports(3)
        self._password = secrets.token_hex(8)
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._environment = os.environ | node_environment | self.environment | {_MARK: self._mark}
        self._slots = slots
        self._redis = None
        self._lost = None
        self._returned = None

    def start(self):
        self._redis = subprocess.Popen(
            [
                "redis-server",
                *("--port", str(self._redis_port), "--bind", "127.0.0.1", "--requirepass", self._password),
                *("--dir", str(self._folder), "--save", "", "--logfile", str(self._folder / "redis.log")),
            ],
        )
        wait_for_port("127.0.0.1", self._redis_port)
        ray = Path(sys.executable).with_name("ray")
        options = [
            *("--node-ip-address", "127.0.0.1", "--port", str(self._port)),
            *("--ray-client-server-port", str(self._client_port)),
            *("--num-cpus", "0", "--resources", f'{{"browser": {self._slots}}}'),
            *("--temp-dir", str(self._folder / "ray"), "--object-store-memory", str(80 << 20)),
            *("--include-dashboard", "false", "--disable-usage-stats"),
            *("--redis-password", self._password),
        ]
        environment = {"RAY_REDIS_ADDRESS": f"127.0.0.1:{self._redis_port}"}
        subprocess.run(
            [ray, "start", "--head", *options],
            env=self._environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=_START_SECONDS,
            check=True,
        )

    @property
    def address(self):
        return f"127.0.0.1:{self._port}"

    @property
    def client_address(self):
        return f"ray://127.0.0.1:{self._client_port}"

    def processes(self):
        """All that Ray has started and that still runs."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(_MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def actors(self):
        """The processes of actors, by the name of Ray's class."""
        return [each for each in self.processes() if "ray::WorkerActor" in " ".join(cmdline(each))]

    def workers(self):
        """The processes of workers."""
        return [each for each in self.processes() if "--owned" in cmdline(each)]

    def kill_head(self):
        """End what knows the cluster: all that a lost machine of the head takes with it, but for its node."""
        [head] = [each for each in self.processes() if _GCS in Path(each.cmdline()[0]).name]
        self._lost = head.cmdline(), head.environ()
        head.kill()
        with suppress(psutil.TimeoutExpired):
            head.wait(10)

    def return_head(self):
        """Start it as before: it finds what it knew in Redis."""
        command, environment = self._lost
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        self._returned = subprocess.Popen(command, env=environment, **quiet)
        wait_for_port("127.0.0.1", self._port)

    def close(self):
        # Ray's agents write their titles over their environment.
        found = {child for each in self.processes() for child in (each, *children_of(each))}
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, 20)
        if self._returned is not None:
            self._returned.wait(20)
        if self._redis is not None:
            self._redis.send_signal(signal.SIGTERM)
            self._redis.wait(20)


@contextmanager
def ray_head(*, slots, node_environment):
    # Short: the names of Ray's sockets begin with it.
    folder = Path(tempfile.mkdtemp(prefix="cdpb-ray-"))
    head = RayHead(folder, slots=slots, node_environment=node_environment)
    try:
        head.start()
        yield head
    finally:
        head.close()
        shutil.rmtree(folder, ignore_errors=True)


def children_of(process):
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def cmdline(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def free_ports(count):
    found = []
    with_sockets = [socket.socket() for _ in range(count)]
    for each in with_sockets:
        for _ in range(100):
            port = 20000 + secrets.randbelow(8000)
            try:
                each.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
            break
    for each in with_sockets:
        each.close()
    return found


def wait_for_port(host, port):
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
