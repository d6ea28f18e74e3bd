"""Claim: a server on PostgreSQL costs little more than one on SQLite, for a rental and while browsers do nothing.

    python benchmarks/databases.py [--rentals N] [--at-once N] [--idle N] [--seconds N]

Two servers run side by side, one on each database, with browsers on paper: what is measured is the server's and the database's
work. They rent in turns, some at a time; then each has idle browsers, in the same seconds: with PostgreSQL there may be other
servers, so signs of life are given every 2 s, and stops that others were asked for are looked for. CPU of the server, and of
PostgreSQL's processes. Both write each transaction to the disk before they answer. Prints a table, writes results/databases.json.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import _harness as harness
from rental import KEY, cpu_ms, server

import cdpbridge

TURNS = 5
SETTLE_SECONDS = 3.0
SECRET = "secret-of-the-servers-of-benchmarks-0123456789"


def programs() -> Path:
    """Where PostgreSQL's programs are; Debian has them outside of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: int(file.parts[-3]))
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        raise SystemExit("PostgreSQL is not installed: apt-get install postgresql")
    return found[-1].parent if found else Path(str(on_path)).parent


@asynccontextmanager
async def postgresql(folder: Path) -> AsyncIterator[tuple[str, int]]:
    """An instance with PostgreSQL's own settings, on a socket in its folder: the URL of a database, and its pid."""
    folder.mkdir()
    # PostgreSQL refuses to run as root.
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    if user:
        shutil.chown(folder, "postgres", "postgres")
    command = [programs() / "initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8"]
    await asyncio.to_thread(subprocess.run, command, cwd=folder, check=True, capture_output=True, **user)
    process = await asyncio.create_subprocess_exec(
        str(programs() / "postgres"),
        *("-D", "data", "-k", str(folder), "-c", "listen_addresses="),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        **user,
    )
    try:
        while b"ready to accept connections" not in await process.stderr.readline():
            pass
        reading = asyncio.create_task(process.stderr.read())  # so that it never waits for us
        yield f"postgresql+asyncpg://postgres@/postgres?host={folder}", process.pid
    finally:
        process.terminate()
        await process.wait()
        await reading


def postgresql_ms(pid: int) -> float:
    """CPU of an instance: of the processes that run, and of those that have ended."""
    clock = os.sysconf("SC_CLK_TCK")
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ended = (int(fields[13]) + int(fields[14])) / clock * 1000
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return ended + sum(cpu_ms(int(each)) for each in (str(pid), *children))


async def rent(client: cdpbridge.AsyncClient, rentals: int, at_once: int) -> float:
    """Milliseconds that so many creates and stops take, some at a time."""
    left, began = iter(range(rentals)), time.perf_counter()

    async def visitor() -> None:
        for _ in left:
            await client.browsers.stop((await client.browsers.create()).id)

    await asyncio.gather(*(visitor() for _ in range(at_once)))
    return (time.perf_counter() - began) * 1000


async def run(given: argparse.Namespace) -> dict[str, dict[str, float]]:
    with tempfile.TemporaryDirectory(prefix="databases-") as name:
        Path(name).chmod(0o711)
        settings = {
            "credits_usd": 10_000,
            "max_browsers": given.idle + given.at_once,
            "max_load_per_cpu": 10_000,
        }
        async with AsyncExitStack() as ends:
            url, instance = await ends.enter_async_context(postgresql(Path(name) / "pg"))
            clients, pids = {}, {}
            for kind, more in {
                "SQLite": {},
                "PostgreSQL": {"database_url": url, "secret_key": SECRET},
            }.items():
                base_url, pids[kind] = await ends.enter_async_context(
                    server(
                        f"{name}/{kind}",
                        "shell",
                        paper=True,
                        runtime_dir=f"{name}/run-{kind}",
                        **settings,
                        **more,
                    )
                )
                clients[kind] = await ends.enter_async_context(cdpbridge.at(base_url, KEY))

            def used(kind: str) -> tuple[float, float]:
                return cpu_ms(pids[kind]), postgresql_ms(instance) if kind == "PostgreSQL" else 0.0

            for client in clients.values():  # what is loaded on first use
                await rent(client, 2 * given.at_once, given.at_once)
            found = {kind: dict.fromkeys(("wall", "server", "database"), 0.0) for kind in clients}
            for _ in range(TURNS):
                for kind, client in clients.items():
                    before = used(kind)
                    found[kind]["wall"] += await rent(client, given.rentals // TURNS, given.at_once)
                    found[kind]["server"] += used(kind)[0] - before[0]
                    found[kind]["database"] += used(kind)[1] - before[1]
            for row in found.values():
                for column in row:
                    row[column] /= given.rentals
            for client in clients.values():
                for _ in range(given.idle):
                    session = await client.browsers.create()
                    ends.push_async_callback(client.browsers.stop, session.id)
            await asyncio.sleep(SETTLE_SECONDS)
            before, began = {kind: used(kind) for kind in clients}, time.perf_counter()
            await asyncio.sleep(given.seconds)
            passed = (time.perf_counter() - began) * 1000
            for kind, row in found.items():
                now = used(kind)
                row["server, idle"], row["database, idle"] = (
                    (now[at] - before[kind][at]) / passed * 100 for at in (0, 1)
                )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rentals", type=int, default=500)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--idle", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30.0)
    given = parser.parse_args()
    about = harness.machine()
    found = asyncio.run(run(given))
    load = os.getloadavg()
    print(f"{about['cpu']}; {about['system']}; Python {about['python']}; load {load[0]:.1f}")
    harness.print_table(
        f"{given.rentals} rentals, {given.at_once} at a time, and {given.idle} idle browsers, all on paper",
        [
            "",
            "a rental, ms",
            "CPU of the server, ms",
            "of the database, ms",
            "idle: server, % of a core",
            "database, % of a core",
        ],
        [
            [
                kind,
                f"{row['wall']:.1f}",
                f"{row['server']:.1f}",
                f"{row['database']:.1f}",
                f"{row['server, idle']:.2f}",
                f"{row['database, idle']:.2f}",
            ]
            for kind, row in found.items()
        ],
    )
    harness.save("databases", {"machine": about, "load": load, "options": vars(given), "databases": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
