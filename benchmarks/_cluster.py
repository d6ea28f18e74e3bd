"""The trials of `leaks.py --cluster`: two servers on one PostgreSQL behind a balancer, and two workers.

Each has a machine of its own, a network namespace (`tests/machines.py`), whose cable can be cut.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from _forked import CONTEXT, Forked
from _network import FAULTS, Balancer
from _trials import KEY, LONGEST_DELAY, Trial, World

sys.path.insert(0, str(Path(__file__).parents[1]))

from cdpbridge.server import Settings, serve
from cdpbridge.server.rentals import _heart, _membership, _rentals, _worker_watch
from cdpbridge.server.workers import WorkerLimits, WorkerOptions, run_worker
from tests import machines, postgres

SECRET = "secret-of-the-benchmark-0123456789-0123456789"
VICTIMS = (
    "client",
    "server",
    "frozen server",
    "cable of a server",
    "clock of a server",
    "worker",
    "frozen worker",
    "cable of a worker",
    "database",
    "frozen database",
    "cable of the database",
    "chromium",
    "network",
)
SERVERS, WORKERS = ("a", "b"), ("v", "w")
NAMES = {"server": SERVERS, "worker": WORKERS, "database": ("database",)}
CLOCKS = (-300, 300)  # seconds that the wall clock of a server is off
# A third of the times that servers and workers go by: a death is observed in three seconds.
DEAD_SECONDS, STALE_SECONDS, BEAT_SECONDS, SILENT_SECONDS, ALONE_SECONDS = 3.0, 2.4, 0.6, 2.0, 10.0
LONGEST_OUTAGE = 6.0
# Longer than a worker waits for servers.
LONGEST_CUT = 1.5 * ALONE_SECONDS
DATABASE_SECONDS = 3.0
# A browser that has started late, on a worker that was taken for dead, ends in that time after all.
SETTLED_SECONDS = 3 * ALONE_SECONDS
SLOTS = 4
# Each is alone on its machine, and comes back to its place.
SERVER_PORT, WORKER_PORT = 8700, 8710


class ClusterTrial(Trial):
    """What its seed decides: of a server or a worker, also which.

    Attributes:
        name: Of the machine that is struck, or None.
    """

    def __post_init__(self) -> None:
        chance = random.Random(self.seed)
        self.victim = chance.choice(VICTIMS)
        self.point = chance.uniform(0, 1)
        self.delay = chance.choice([0, chance.uniform(0, LONGEST_DELAY)])
        self.outage = chance.uniform(0, LONGEST_CUT if "cable" in self.victim else LONGEST_OUTAGE)
        self.name = next((chance.choice(names) for of, names in NAMES.items() if of in self.victim), None)
        signals = [signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]
        self.how = {
            "client": chance.choice([*signals, signal.SIGINT]),
            "server": chance.choice(signals),
            "clock of a server": chance.choice(CLOCKS),
            "worker": chance.choice(signals),
            "database": chance.choice([signal.SIGQUIT, signal.SIGINT]),
            "chromium": chance.uniform(0, 1),
            "network": chance.choice(FAULTS),
        }.get(self.victim, "cut" if "cable" in self.victim else signal.SIGSTOP)


@dataclass(frozen=True)
class ServerPlace:
    """Where a server is.

    Attributes:
        host: Where it listens.
        database: Its address.
        url: Of the balancer.
        clock: By how many seconds its wall clock is off.
    """

    data_dir: Path
    host: str
    database: str
    url: str
    clock: int


def run_server(place: ServerPlace, ready: Connection, owner: Connection) -> None:
    """A server, until a signal, or until the benchmark itself has died."""
    _set_wall_clock(place.clock)
    _membership.DEAD_SECONDS, _membership.STALE_SECONDS = DEAD_SECONDS, STALE_SECONDS  # type: ignore[misc]
    _heart._BEAT_AMONG_OTHERS = timedelta(seconds=BEAT_SECONDS)  # type: ignore[misc]
    _worker_watch.SILENT_SECONDS = SILENT_SECONDS  # type: ignore[misc]
    settings = Settings.load(
        data_dir=place.data_dir,
        host=place.host,
        port=SERVER_PORT,
        api_keys=KEY,
        credits_usd=10**6,
        database_url=place.database,
        database_timeout_seconds=DATABASE_SECONDS,
        secret_key=SECRET,
        browsers="workers",
        worker_secret=SECRET,
        storage_url=(place.data_dir.parent / "objects").as_uri(),
        public_url=place.url,
    )
    serve(settings, ready=ready.send, dead_man_fd=owner.fileno())


def _set_wall_clock(seconds: int) -> None:
    """Shift all wall clocks of this process. A test has a real one, by libfaketime, which a fork cannot have."""
    if not seconds:
        return
    shift, real = timedelta(seconds=seconds), time.time

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]  # of the base, as rows take it
            return datetime.now(tz or UTC) + shift

    _rentals.datetime = Shifted  # type: ignore[misc]
    time.time = lambda: real() + seconds


def run_one_worker(folder: Path, name: str, host: str, servers: tuple[str, ...], ready: Connection) -> None:
    """A worker, until a signal."""
    settings = Settings.load(
        data_dir=folder / name,
        browser_build="shell",
        warm_browsers=0,
        worker_secret=SECRET,
        storage_url=(folder / "objects").as_uri(),
    )
    limits = WorkerLimits(alone=timedelta(seconds=ALONE_SECONDS))
    options = WorkerOptions(servers, f"{host}:{WORKER_PORT}", SLOTS, name=name, limits=limits)
    run_worker(settings, options, ready=lambda *worker: ready.send(worker))


# What all clusters share, once it is laid: the network, and a PostgreSQL that others are copies of.
_shared: list[tuple[machines.Network, postgres.Postgres]] = []


@contextmanager
def laid() -> Iterator[None]:
    """Lay the network of all clusters; this thread is on the machine of their clients."""
    with machines.network() as network:
        database = postgres.Postgres(machine=network.machine())
        try:
            database.stop()
            _shared.append((network, database))
            with network.machine().entered():
                yield
        finally:
            database.close()


class Cluster(World):
    """Servers and workers with a folder and a machine each, the balancer before the servers, and PostgreSQL."""

    quiet_seconds = 90.0

    def __init__(self) -> None:
        super().__init__()
        self._balancer = self._relay = Balancer()
        [(network, database)] = _shared
        self._machines = {name: network.machine() for name in (*SERVERS, *WORKERS, "database")}
        self._postgres = postgres.Postgres(machine=self._machines["database"], like=database)
        self._database = self._postgres.new_database()
        self._clocks = dict.fromkeys(SERVERS, 0)
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
        for machine in self._machines.values():
            self._stack.callback(machine.close)
        self._stack.callback(self._postgres.close)
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
            machine = self._machines[name]
            if name in SERVERS:
                watched, owner = CONTEXT.Pipe(duplex=False)
                self._owners.append(owner)
                with watched:
                    url = f"http://127.0.0.1:{self._port}"
                    place = ServerPlace(
                        self.folder / name, machine.address, self._database, url, self._clocks[name]
                    )
                    self._running[name] = Forked(
                        run_server, place, told, watched, log=log, machine=machine.namespace
                    )
            else:
                servers = tuple(f"http://{self._machines[each].address}:{SERVER_PORT}" for each in SERVERS)
                self._running[name] = Forked(
                    run_one_worker,
                    *(self.folder, name, machine.address, servers, told),
                    log=log,
                    machine=machine.namespace,
                )
            told.close()
            try:
                await asyncio.to_thread(ready.recv)
            except EOFError:
                raise RuntimeError(log.read_text()) from None
        if name in SERVERS:
            self._balancer.targets[name] = machine.address, SERVER_PORT

    async def _strike(self, trial: Trial, client: Forked) -> bool:
        assert isinstance(trial, ClusterTrial)  # they are made for this
        if trial.name is None:
            return await super()._strike(trial, client)
        early = await self._moment(trial, client)
        if "cable" in trial.victim:
            await self._cut(trial)
        elif trial.name == "database":
            await self._stop_database(trial)
        elif trial.how == signal.SIGSTOP:
            struck = self._running[trial.name]
            struck.send(signal.SIGSTOP)
            await asyncio.sleep(trial.outage)
            struck.send(signal.SIGCONT)
        else:
            number = trial.how
            if trial.victim == "clock of a server":
                self._clocks[trial.name], number = trial.how, signal.SIGTERM
            self._balancer.targets.pop(trial.name, None)
            await self._running[trial.name].end(number)
            await asyncio.sleep(trial.outage)
            await self._start(trial.name)
        return early

    async def _cut(self, trial: ClusterTrial) -> None:
        assert trial.name is not None  # it is a machine's cable
        machine = self._machines[trial.name]
        machine.cut()
        try:
            await asyncio.sleep(trial.outage)
        finally:
            machine.mend()

    async def _stop_database(self, trial: ClusterTrial) -> None:
        if trial.how == signal.SIGSTOP:
            self._postgres.signal_all(signal.SIGSTOP)
            try:
                await asyncio.sleep(trial.outage)
            finally:
                self._postgres.signal_all(signal.SIGCONT)
        else:
            await asyncio.to_thread(self._postgres.stop, trial.how)
            await asyncio.sleep(trial.outage)
            self._postgres.begin()
            await asyncio.to_thread(self._postgres.wait_until_ready)

    def _rows(self, table: str) -> list[dict[str, Any]]:
        rows = self._postgres.rows(self._database, f"SELECT * FROM {table}")
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
