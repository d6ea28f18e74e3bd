"""Claim: a server that has rented thousands of browsers is as it was, and a hundred idle browsers cost it next to nothing.

    python benchmarks/capacity.py [--rentals N] [--at-once N] [--idle N] [--build shell] [--warm N] [--paper]

With `--paper` no Chromium runs, so that 10,000 rentals take minutes: what is measured is the server's own memory, and its books.
First many rentals, some at a time: the server's memory as they go, then what is left of them (descriptors, processes, folders)
and the account, which must have paid what the answers to the stops say, to the cent. Then idle browsers: the share of a core
that the server takes, and a create beside them against one on the empty server. Prints two tables, writes
results/capacity.json; exit status 1 when something is left or an amount is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path

import _harness as harness
from rental import KEY, cpu_ms, server, until_ready

import cdpbridge

SAMPLES = 10
SETTLE_SECONDS = 3.0
CREATES = 5
IDLE_SECONDS = 20.0


def memory_kb(pid: int) -> int:
    """Memory of a process that is its own, without mapped files."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("RssAnon:")[1].split()[0])


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def children(pid: int) -> list[str]:
    return [
        child
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def places(folder: Path) -> list[Path]:
    """Folders of browsers below a runtime folder."""
    return [place for found in folder.rglob("browsers") if found.is_dir() for place in found.iterdir()]


async def rent_many(client: cdpbridge.AsyncClient, pid: int, rentals: int, at_once: int) -> dict[str, object]:
    """Rent and stop so many browsers; what they cost, and the server's memory every tenth."""
    left, cost, began = iter(range(rentals)), [], time.perf_counter()
    memory: list[tuple[int, int]] = []

    async def visitor() -> None:
        for _ in left:
            session = await client.browsers.create()
            stopped = await client.browsers.stop(session.id)
            cost.append(stopped.browser_cost)
            if len(cost) % max(1, rentals // SAMPLES) == 0:
                memory.append((len(cost), memory_kb(pid)))
                harness.progress(f"{len(cost)} of {rentals} rentals")

    await asyncio.gather(*(visitor() for _ in range(at_once)))
    return {"cost": cost, "memory_kb": memory, "seconds": time.perf_counter() - began}


async def create_ms(client: cdpbridge.AsyncClient) -> float:
    times = []
    for _ in range(CREATES):
        began = time.perf_counter()
        session = await client.browsers.create()
        times.append((time.perf_counter() - began) * 1000)
        await client.browsers.stop(session.id)
    return statistics.median(times)


async def keep_idle(client: cdpbridge.AsyncClient, pid: int, number: int) -> dict[str, float]:
    """Create so many browsers, and see what the server does while they do nothing."""
    alone, before = await create_ms(client), memory_kb(pid)
    async with AsyncExitStack() as stops:
        for _ in range(number):
            session = await client.browsers.create()
            stops.push_async_callback(client.browsers.stop, session.id)
        await asyncio.sleep(SETTLE_SECONDS)
        began, cpu = time.perf_counter(), cpu_ms(pid)
        await asyncio.sleep(IDLE_SECONDS)
        share = (cpu_ms(pid) - cpu) / 1000 / (time.perf_counter() - began)
        return {
            "share_of_a_core": share,
            "create_alone_ms": alone,
            "create_beside_ms": await create_ms(client),
            "memory_kb_each": (memory_kb(pid) - before) / max(1, number),
        }


async def run(given: argparse.Namespace) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="capacity-") as name:
        Path(name).chmod(0o711)
        settings = {
            "runtime_dir": f"{name}/run",
            "credits_usd": 10_000,
            "max_browsers": max(given.idle, given.at_once) + CREATES,
            "max_load_per_cpu": 10_000,
            "warm_browsers": given.warm,
            # Others may load the machine, too.
            "queue_timeout_seconds": 600,
            "start_timeout_seconds": 120,
        }
        async with (
            server(f"{name}/data", given.build, paper=given.paper, **settings) as (base_url, pid),
            cdpbridge.at(base_url, KEY) as client,
        ):
            # What is loaded, and opened to be kept, on first use.
            await rent_many(client, pid, 2 * given.at_once, given.at_once)
            account = await client.billing.account()
            await until_ready(base_url, given.warm)
            known, running, beginning = descriptors(pid), len(children(pid)), memory_kb(pid)
            many = await rent_many(client, pid, given.rentals, given.at_once)
            await until_ready(base_url, given.warm)
            await asyncio.sleep(SETTLE_SECONDS)
            paid = account.total_credits_balance_usd - (
                (await client.billing.account()).total_credits_balance_usd
            )
            after = {
                "memory_kb_before": beginning,
                "descriptors": descriptors(pid) - known,
                "processes": len(children(pid)) - running,
                "folders": len(places(Path(name) / "run")) - given.warm,
                "paid_usd": str(paid),
                "charged_usd": str(sum(many.pop("cost"), Decimal(0))),
            }
            idle = await keep_idle(client, pid, given.idle) if given.idle else None
        return {**many, **after, "idle": idle, "left_at_the_end": len(places(Path(name) / "run"))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rentals", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=20)
    parser.add_argument("--idle", type=int, default=100)
    parser.add_argument("--warm", type=int, default=0, help="browsers that the server keeps ready")
    parser.add_argument("--build", choices=["shell", "full"], default="shell")
    parser.add_argument("--paper", action="store_true", help="rent browsers that do not run; none is idle")
    given = parser.parse_args()
    if given.paper:
        given.idle = given.warm = 0
    about = harness.machine()
    found = asyncio.run(run(given))
    load = os.getloadavg()
    harness.progress("")
    print(
        f"{about['cpu']}; {about['system']}; Python {about['python']}; load {load[0]:.1f}; "
        f"{'on paper' if given.paper else given.build}"
    )
    memory = [(0, found["memory_kb_before"]), *found["memory_kb"]]
    harness.print_table(
        f"{given.rentals} rentals, {given.at_once} at a time: {given.rentals / found['seconds']:.1f} a second",
        ["rentals", "memory, MB", "of the first sample"],
        [[number, f"{size / 1e3:.1f}", f"{size / memory[1][1]:.3f}"] for number, size in memory],
    )
    left = {name: found[name] for name in ("descriptors", "processes", "folders", "left_at_the_end")}
    equal = Decimal(found["paid_usd"]) == Decimal(found["charged_usd"])
    print("left:", ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in left.items()))
    print(
        f"paid {found['paid_usd']} USD, charged {found['charged_usd']} USD: {'equal' if equal else 'NOT EQUAL'}"
    )
    if (idle := found["idle"]) is not None:
        harness.print_table(
            f"{given.idle} idle browsers",
            ["server, % of a core", "memory of each, kB", "a create, ms", "on the empty server, ms", "ratio"],
            [
                [
                    f"{idle['share_of_a_core'] * 100:.1f}",
                    f"{idle['memory_kb_each']:.0f}",
                    f"{idle['create_beside_ms']:.0f}",
                    f"{idle['create_alone_ms']:.0f}",
                    f"{idle['create_beside_ms'] / idle['create_alone_ms']:.2f}",
                ]
            ],
        )
    harness.save("capacity", {"machine": about, "load": load, "options": vars(given), **found})
    return 0 if max(left.values()) <= 0 and equal else 1


if __name__ == "__main__":
    sys.exit(main())
