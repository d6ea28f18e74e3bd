"""The trials of `leaks.py --cluster`: two servers on one PostgreSQL behind a balancer, and two workers."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from _forked import CONTEXT, Forked
from _network import FAULTS, Balancer
from _trials import KEY, LONGEST_DELAY, Trial, World

sys.path.insert(0, str(Path(__file__).parents[1]))

from cdpbridge.server import Settings, serve
from cdpbridge.server.rentals import _heart, _membership, _worker_watch
from cdpbridge.server.workers import WorkerLimits, WorkerOptions, run_worker
from tests import postgres

SECRET = "secret-of-the-benchmark-0123456789-0123456789"
VICTIMS = ("client", "server", "frozen server", "worker", "frozen worker", "chromium", "network")
SERVERS, WORKERS = ("a", "b"), ("v", "w")
# A third of the times that servers and workers go by: a death is observed in three seconds.
DEAD_SECONDS, STALE_SECONDS, BEAT_SECONDS, SILENT_SECONDS, ALONE_SECONDS = 3.0, 2.4, 0.6, 2.0, 10.0
LONGEST_OUTAGE = 6.0
# A browser that has started late, on a worker that was taken for dead, ends in that time after all.
SETTLED_SECONDS = 3 * ALONE_SECONDS
SLOTS = 4


class ClusterTrial(Trial):
    """What its seed decides: of a server or a worker, also which."""

    def __post_init__(self) -> None:
        chance = random.Random(self.seed)
        self.victim = chance.choice(VICTIMS)
        self.point = chance.uniform(0, 1)
        self.delay = chance.choice([0, chance.uniform(0, LONGEST_DELAY)])
        self.outage = chance.uniform(0, LONGEST_OUTAGE)
        self.name = chance.choice(SERVERS if "server" in self.victim else WORKERS)
        signals = [signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]
        self.how = {
            "client": chance.choice([*signals, signal.SIGINT]),
            "server": chance.choice(signals),
            "worker": chance.choice(signals),
            "chromium": chance.uniform(0, 1),
            "network": chance.choice(FAULTS),
        }.get(self.victim, signal.SIGSTOP)


def run_server(data_dir: Path, database: str, url: str, ready: Connection, owner: Connection) -> None:
    """A server, until a signal, or until the benchmark itself has died."""
    _membership.DEAD_SECONDS, _membership.STALE_SECONDS = DEAD_SECONDS, STALE_SECONDS  # type: ignore[misc]
    _heart._BEAT_AMONG_OTHERS = timedelta(seconds=BEAT_SECONDS)  # type: ignore[misc]
    _worker_watch.SILENT_SECONDS = SILENT_SECONDS  # type: ignore[misc]
    settings = Settings.load(
        data_dir=data_dir,
        port=0,
        api_keys=KEY,
        credits_usd=10**6,
        database_url=database,
        secret_key=SECRET,
        browsers="workers",
        worker_secret=SECRET,
        storage_url=(data_dir.parent / "objects").as_uri(),
        public_url=url,
    )
    serve(settings, ready=lambda _url: ready.send(_own_port()), dead_man_fd=owner.fileno())


def _own_port() -> int:
    import psutil

    [port] = {
        each.laddr.port
        for each in psutil.Process().net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    }
    return int(port)


def run_one_worker(folder: Path, name: str, servers: tuple[str, ...], ready: Connection) -> None:
    """A worker, until a signal."""
    settings = Settings.load(
        data_dir=folder / name,
        browser_build="shell",
        warm_browsers=0,
        worker_secret=SECRET,
        storage_url=(folder / "objects").as_uri(),
    )
    limits = WorkerLimits(alone=timedelta(seconds=ALONE_SECONDS))
    options = WorkerOptions(servers, "127.0.0.1:0", SLOTS, name=name, limits=limits)
    run_worker(settings, options, ready=lambda _id, _address: ready.send(0))


class Cluster(World):
    """Servers and workers with a folder each, and the balancer before the servers."""

    quiet_seconds = 90.0

    def __init__(self) -> None:
        super().__init__()
        self._balancer = self._relay = Balancer()
        self._database = postgres.instance().new_database()
        self._running: dict[str, Forked] = {}
        self._owners: list[Connection] = []

    @property
    def _browsers(self) -> list[Path]:
        loaded = [Settings.load(data_dir=self.folder / name / "worker") for name in WORKERS]
        return [each.runtime_folder / "browsers" for each in loaded]

    @property
    def _behind(self) -> str:
        return self._address

    async def __aenter__(self) -> Self:
        self._stack.callback(postgres.instance().drop, self._database)
        return await super().__aenter__()

    async def _start_server(self) -> None:
        for name in (*SERVERS, *WORKERS):
            await self._start(name)

    async def _end_server(self) -> None:
        for name in (*WORKERS, *SERVERS):
            if name in self._running:
                self._running[name].send(signal.SIGCONT)
                await self._running[name].end(signal.SIGTERM)
        for owner in self._owners:
            owner.close()
        for name in WORKERS:
            shutil.rmtree(
                Settings.load(data_dir=self.folder / name / "worker").runtime_folder, ignore_errors=True
            )

    async def _start(self, name: str) -> None:
        log = self.folder / "server.log"
        ready, told = CONTEXT.Pipe(duplex=False)
        with ready, told:
            if name in SERVERS:
                watched, owner = CONTEXT.Pipe(duplex=False)
                self._owners.append(owner)
                with watched:
                    url = f"http://127.0.0.1:{self._port}"
                    self._running[name] = Forked(
                        run_server, self.folder / name, self._database, url, told, watched, log=log
                    )
            else:
                servers = (f"http://127.0.0.1:{self._port}",)
                self._running[name] = Forked(run_one_worker, self.folder, name, servers, told, log=log)
            told.close()
            try:
                port = await asyncio.to_thread(ready.recv)
            except EOFError:
                raise RuntimeError(log.read_text()) from None
        if name in SERVERS:
            self._balancer.targets[name] = port

    async def _strike(self, trial: Trial, client: Forked) -> bool:
        assert isinstance(trial, ClusterTrial)  # they are made for this
        if "server" not in trial.victim and "worker" not in trial.victim:
            return await super()._strike(trial, client)
        early = await self._moment(trial, client)
        struck = self._running[trial.name]
        if trial.how == signal.SIGSTOP:
            struck.send(signal.SIGSTOP)
            await asyncio.sleep(trial.outage)
            struck.send(signal.SIGCONT)
        else:
            self._balancer.targets.pop(trial.name, None)
            await struck.end(trial.how)
            await asyncio.sleep(trial.outage)
            await self._start(trial.name)
        return early

    def _rows(self, table: str) -> list[dict[str, Any]]:
        rows = postgres.instance().rows(self._database, f"SELECT * FROM {table}")
        return [{name: _plain(value) for name, value in row.items()} for row in rows]

    async def _left(self, *arguments: Any) -> list[str]:
        """What has leaked: what is still there when a worker has had the time to notice that no server wants it."""
        deadline = time.monotonic() + SETTLED_SECONDS
        while (leaks := await self._left_now(*arguments)) and time.monotonic() < deadline:
            await asyncio.sleep(0.5)
        return leaks

    async def _left_now(self, *arguments: Any) -> list[str]:
        leaks = await super()._left(*arguments)
        for row in await asyncio.to_thread(self._rows, "workers"):
            if (row["running"], row["starting"]) != (0, 0):
                leaks.append(f"worker {row['name']} counts {row['running']} browsers")
        return leaks


_PLAIN: dict[type, Callable[[Any], Any]] = {UUID: lambda value: value.hex, datetime: datetime.isoformat}


def _plain(value: Any) -> Any:
    """A value as SQLite gives it."""
    return next((plain(value) for kind, plain in _PLAIN.items() if isinstance(value, kind)), value)


def close() -> None:
    """End PostgreSQL."""
    with suppress(FileNotFoundError):
        postgres.close_instance()
