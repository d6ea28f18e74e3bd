"""Claim: one PostgreSQL is enough for 1,000 workers of 8 slots. What their slots and signs of life cost, and what gives out first.

    python benchmarks/workers.py [--workers N] [--slots K] [--seconds S]

The store and PostgreSQL are real, with `fsync` and autovacuum as Debian's; workers and browsers are rows. Several stores, each with its
connections, stand for as many servers; they share this process, so its CPU is that of all servers. Figures of CPU are those of
PostgreSQL's processes and of this one; waits (p50, p99) are of the wall clock, with the load of the machine beside them.

* Signs of life: each server passes on those of all workers every two seconds, and reads all counters.
* Slots alone, taken and returned, so many at a time, while seven eighths of the slots are taken.
* Rentals: reserve, slot, activate, settle, finish.
* The same while eight servers beat.
* Full: orders that find no slot, join the queue, and are served as slots become free.

Prints tables, writes results/workers.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import _harness as harness
import psutil
from sqlalchemy import insert, text

from cdpbridge._lifecycle import EndReason, State
from cdpbridge.billing import Tariff
from cdpbridge.server.rentals._worker_watch import WorkerWatch
from cdpbridge.server.store import Browser, Store

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.postgres import Postgres

# Debian's own, but for the memory and the number of connections.
SETTINGS = ("shared_buffers=256MB", "max_connections=200")
BEAT_SECONDS = 2.0
SERVERS = 8
PROJECTS = 50
HOUR = timedelta(hours=1)


@dataclass
class Cost:
    """What something has cost, in CPU seconds."""

    database: float = 0.0
    servers: float = 0.0


class Cluster:
    """Servers and rows of workers on one PostgreSQL."""

    def __init__(self, postgres: Postgres, stores: Sequence[Store], projects: Sequence[UUID]) -> None:
        self.postgres = postgres
        self.stores = stores
        self.projects = projects
        self.workers: list[UUID] = []
        self._turn = 0

    def store(self) -> Store:
        """Return a server, each in its turn."""
        self._turn += 1
        return self.stores[self._turn % len(self.stores)]

    def cpu(self) -> Cost:
        """Return the CPU used so far: by PostgreSQL with its processes, and by this one."""
        main = psutil.Process(self.postgres.pid)
        times = main.cpu_times()
        database = times.user + times.system + times.children_user + times.children_system
        for child in main.children(recursive=True):
            spent = child.cpu_times()
            database += spent.user + spent.system
        used = resource.getrusage(resource.RUSAGE_SELF)
        return Cost(database, used.ru_utime + used.ru_stime)

    async def cost_of(self, work: Awaitable[Any]) -> tuple[Cost, float]:
        """Return what `work` has cost, and its seconds."""
        before, began = self.cpu(), time.monotonic()
        await work
        after = self.cpu()
        spent = Cost(after.database - before.database, after.servers - before.servers)
        return spent, time.monotonic() - began


@asynccontextmanager
async def cluster_of(workers: int, slots: int) -> AsyncIterator[Cluster]:
    """A cluster, seven eighths of whose slots are taken."""
    postgres = await asyncio.to_thread(Postgres, SETTINGS)
    stores: list[Store] = []
    try:
        url = await asyncio.to_thread(postgres.new_database)
        stores = [await Store.open(url) for _ in range(SERVERS)]
        now = datetime.now(UTC)
        names = [f"project {number}" for number in range(PROJECTS)]
        await stores[0].prepare({name: [f"key of {name}"] for name in names}, credits=Decimal(10**6), now=now)
        projects = [await stores[0].project_of(f"key of {name}") for name in names]
        cluster = Cluster(postgres, stores, [each for each in projects if each is not None])
        for store in stores:
            await store.join("simulated", now=now)
        for number in range(workers):
            worker = await stores[0].register_worker(
                uuid4(),
                name=f"w{number}",
                address=f"10.0.{number // 250}.{number % 250}:1",
                protocol=1,
                slots=slots,
                now=now,
            )
            cluster.workers.append(worker.id)
        await stores[0].beat(timedelta(0), cluster.workers)  # they are heard from
        await _fill(cluster, slots * 7 // 8, now)
        yield cluster
    finally:
        for store in stores:
            await store.close()
        await asyncio.to_thread(postgres.close)


async def _fill(cluster: Cluster, taken: int, now: datetime) -> None:
    rows = [
        {
            "id": uuid4(),
            "project_id": cluster.projects[number % PROJECTS],
            "state": State.ACTIVE,
            "timeout_minutes": 60,
            "usd_per_hour": "0.05",
            "minimum_minutes": 1,
            "created_at": now,
            "started_at": now,
            "charged_micro_usd": 0,
            "refunded_micro_usd": 0,
            "proxy_bytes": 0,
            "owner": cluster.stores[number % SERVERS].server_id,
            "generation": 1,
            "worker": worker_id,
        }
        for number, worker_id in enumerate(cluster.workers * taken)
    ]
    store = cluster.stores[0]
    async with store._write() as session:  # rows of the past, which no method makes
        await session.execute(insert(Browser), rows)
        await session.execute(text(f"UPDATE workers SET running = {taken}"))
    async with store._write() as session:
        await session.execute(text("ANALYZE"))


# --- what is measured -------------------------------------------------------------------------------------------------


async def beats(cluster: Cluster, servers: int, number: int) -> tuple[Cost, list[float]]:
    """So many beats of each of so many servers, at once; the cost, and the seconds of each."""
    watches = [WorkerWatch(store, clock=time.monotonic) for store in cluster.stores[:servers]]
    took: list[float] = []

    async def one(store: Store, watch: WorkerWatch) -> None:
        for each in range(number):
            began = time.monotonic()
            await store.beat(timedelta(seconds=each), cluster.workers)
            await watch.look(frozenset(cluster.workers))
            took.append(time.monotonic() - began)

    work = asyncio.gather(*map(one, cluster.stores[:servers], watches))
    spent, _ = await cluster.cost_of(work)
    return spent, took


async def beat_often(cluster: Cluster) -> None:
    """Beat as servers do, until it is cancelled."""

    async def one(store: Store) -> None:
        watch = WorkerWatch(store, clock=time.monotonic)
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            await store.beat(timedelta(0), cluster.workers)
            await watch.look(frozenset(cluster.workers))

    await asyncio.gather(*map(one, cluster.stores))


async def rent(store: Store, project: UUID) -> float:
    """One rental, from its order to its last entry; return the seconds for its slot."""
    browser_id, now = uuid4(), datetime.now(UTC)
    terms = {"profile_id": None, "proxy_country": None, "tariff": Tariff(), "limit": 10_000}
    await store.reserve(project, browser_id, timeout=HOUR, now=now, **terms)  # type: ignore[arg-type]
    began = time.monotonic()
    worker = await store.reserve_slot(browser_id)
    took = time.monotonic() - began
    assert worker is not None, "an eighth of all slots is free"
    await store.activate(browser_id, started_at=now, profile_writable=None)
    await store.settle(browser_id, EndReason.STOPPED_BY_CALLER, HOUR / 60, now=now)
    await store.finish(browser_id, proxy_bytes=0)
    return took


async def slots_alone(cluster: Cluster, at_once: int, seconds: float) -> list[float]:
    """Slots that are taken and returned, without a rental's other steps; the seconds for each."""
    took: list[float] = []
    until = time.monotonic() + seconds

    async def client(number: int) -> None:
        store, now = cluster.stores[number % SERVERS], datetime.now(UTC)
        browser_id, project = uuid4(), cluster.projects[number % PROJECTS]
        terms = {"profile_id": None, "proxy_country": None, "tariff": Tariff(), "limit": 10_000}
        await store.reserve(project, browser_id, timeout=HOUR, now=now, **terms)  # type: ignore[arg-type]
        while time.monotonic() < until:
            began = time.monotonic()
            assert await store.reserve_slot(browser_id) is not None, "an eighth of all slots is free"
            took.append(time.monotonic() - began)
            await store.free_slot(browser_id)
        await store.abandon(browser_id, EndReason.STOPPED_BY_CALLER, now=now)

    await asyncio.gather(*map(client, range(at_once)))
    return took


async def rentals(cluster: Cluster, at_once: int, seconds: float) -> list[float]:
    """As many rentals as there is time for; the seconds that each has waited for its slot."""
    took: list[float] = []
    until = time.monotonic() + seconds

    async def client(number: int) -> None:
        while time.monotonic() < until:
            took.append(await rent(cluster.store(), cluster.projects[number % PROJECTS]))

    await asyncio.gather(*map(client, range(at_once)))
    return took


async def full(cluster: Cluster, slots: int, waiting: int) -> dict[str, float]:
    """Orders at workers that are full; then slots become free, and the queue is served."""
    store, now = cluster.stores[0], datetime.now(UTC)
    async with store._write() as session:
        await session.execute(text("UPDATE workers SET running = slots"))
    ids: list[UUID] = []

    async def order(number: int) -> float:
        browser_id, server = uuid4(), cluster.stores[number % SERVERS]
        terms = {"profile_id": None, "proxy_country": None, "tariff": Tariff(), "limit": 10_000}
        project = cluster.projects[number % PROJECTS]
        await server.reserve(project, browser_id, timeout=HOUR, now=now, **terms)  # type: ignore[arg-type]
        ids.append(browser_id)
        began = time.monotonic()
        assert await server.reserve_slot(browser_id) is None
        await server.join_queue(browser_id, now=now)
        return time.monotonic() - began

    took: list[float] = []
    joined, _ = await cluster.cost_of(
        _collect(took, [lambda each=each: order(each) for each in range(waiting)])
    )
    async with store._write() as session:
        await session.execute(text(f"UPDATE workers SET running = {slots - 1}"))
    began, served = time.monotonic(), 0
    before = cluster.cpu()
    while served < waiting:
        served += await store.serve_queue()
    after = cluster.cpu()
    return {
        "join_p99_ms": 1000 * _percentile(took, 99),
        "join_database_ms": 1000 * joined.database / waiting,
        "served_per_second": waiting / (time.monotonic() - began),
        "serve_database_ms": 1000 * (after.database - before.database) / waiting,
    }


async def _collect(
    took: list[float], works: Sequence[Callable[[], Awaitable[float]]], *, at_once: int = 20
) -> None:
    left = iter(works)

    async def client() -> None:
        took.extend([await work() for work in left])

    await asyncio.gather(*(client() for _ in range(at_once)))


def _percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


# --- the program ------------------------------------------------------------------------------------------------------


async def measure(workers: int, slots: int, seconds: float) -> dict[str, Any]:
    """Measure everything, and print it on the way."""
    found: dict[str, Any] = {
        "workers": workers,
        "slots": slots,
        "load": os.getloadavg()[0],
        "beats": [],
        "slots_alone": [],
        "rentals": [],
    }
    async with cluster_of(workers, slots) as cluster:
        await rentals(cluster, 4, 2.0)  # statements are prepared, pages are read
        print(f"{workers} workers of {slots} slots, load {found['load']:.1f}\n")
        print(
            "signs of life: servers, CPU of PostgreSQL a beat (ms), share of a core, CPU of a server a beat (ms), p99 (ms)"
        )
        number = 10
        for servers in (1, 2, 4, SERVERS):
            spent, took = await beats(cluster, servers, number)
            of_database = 1000 * spent.database / number / servers
            row = {
                "servers": servers,
                "database_ms": of_database,
                "database_share": of_database * servers / 1000 / BEAT_SECONDS,
                "server_ms": 1000 * spent.servers / number / servers,
                "p99_ms": 1000 * _percentile(took, 99),
            }
            found["beats"].append(row)
            print(
                f"  {servers:3}  {of_database:8.2f}  {row['database_share']:7.1%}  {row['server_ms']:8.2f}  {row['p99_ms']:8.1f}"
            )
        print(
            "\nslots alone: at once, a second, CPU of PostgreSQL to take and return one (ms), p50 and p99 (ms)"
        )
        for at_once in (1, 8, 32):
            waits: list[float] = []

            async def take(at_once: int = at_once, waits: list[float] = waits) -> None:
                waits.extend(await slots_alone(cluster, at_once, seconds))

            spent, took_seconds = await cluster.cost_of(take())
            row = {
                "at_once": at_once,
                "per_second": len(waits) / took_seconds,
                "database_ms": 1000 * spent.database / len(waits),
                "p50_ms": 1000 * statistics.median(waits),
                "p99_ms": 1000 * _percentile(waits, 99),
            }
            found["slots_alone"].append(row)
            print(
                f"  {at_once:3}  {row['per_second']:7.1f}  {row['database_ms']:6.2f}  {row['p50_ms']:7.1f}  {row['p99_ms']:7.1f}"
            )
        print(
            "\nrentals: at once, beats, a second, CPU a rental of PostgreSQL and of servers (ms), slot p50 and p99 (ms)"
        )
        for at_once, with_beats in ((1, False), (8, False), (32, False), (32, True)):
            beating = asyncio.ensure_future(beat_often(cluster)) if with_beats else None
            waits = []

            async def run(at_once: int = at_once, waits: list[float] = waits) -> None:
                waits.extend(await rentals(cluster, at_once, seconds))

            spent, took_seconds = await cluster.cost_of(run())
            if beating is not None:
                beating.cancel()
                await asyncio.wait({beating})
            row = {
                "at_once": at_once,
                "beats": with_beats,
                "per_second": len(waits) / took_seconds,
                "database_ms": 1000 * spent.database / len(waits),
                "server_ms": 1000 * spent.servers / len(waits),
                "slot_p50_ms": 1000 * statistics.median(waits),
                "slot_p99_ms": 1000 * _percentile(waits, 99),
            }
            found["rentals"].append(row)
            print(
                f"  {at_once:3}  {'yes' if with_beats else 'no ':3}  {row['per_second']:7.1f}  {row['database_ms']:6.2f}  "
                f"{row['server_ms']:6.2f}  {row['slot_p50_ms']:7.1f}  {row['slot_p99_ms']:7.1f}"
            )
        found["full"] = await full(cluster, slots, min(workers, 500))
        print("\nfull: " + ", ".join(f"{name} {value:.2f}" for name, value in found["full"].items()))
    return found


def main() -> None:
    """Read the arguments, measure, write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=15.0)
    given = parser.parse_args()
    found = asyncio.run(measure(given.workers, given.slots, given.seconds))
    harness.RESULTS.mkdir(exist_ok=True)
    (harness.RESULTS / "workers.json").write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
