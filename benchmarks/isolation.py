"""Claim: isolation costs a start at most 30 ms and a browser at most 6 MiB.

    python benchmarks/isolation.py [--rounds N] [--browsers N] [--builds shell,full]

Two servers, one with `isolation = "require"` and one with `"none"`, rent in turns, the first one changing each round: `create` until its
answer, then a page, then the stop. Medians of the wall clock in ms, and of the differences within a round, which the load of the machine
touches less. CPU is that of the server and, where isolated, of the zygote.

Memory: so many browsers at once on each server, each with one page; the sum of the proportional set sizes (PSS) of all their processes, with
attendants and zygote, by browser. Prints two tables, writes results/isolation.json.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import _harness as harness
from rental import KEY, cpu_ms, server

import cdpbridge
from cdpbridge import cdp

MODES = ("require", "none")
LIMIT_MS, LIMIT_MIB = 30, 6


def descendants(root: int) -> set[int]:
    """Every process below a server. Attendants are its children, and a browser's processes are theirs."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # it ended meanwhile
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {root}


def pss_mib(pids: set[int]) -> float:
    """The sum of proportional set sizes: what processes share is counted once."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


def named(pids: set[int], name: str) -> list[int]:
    """Those of these processes that have a name."""
    found = []
    for pid in pids:
        with suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                found.append(pid)
    return found


async def start(client: cdpbridge.AsyncClient, pid: int) -> tuple[float, float, float]:
    """Milliseconds of a create and of the whole rental, and CPU of the server."""
    zygotes = named(descendants(pid), "cdpb-zygote")
    before, began = sum(map(cpu_ms, (pid, *zygotes))), time.perf_counter()
    session = await client.browsers.create()
    created = (time.perf_counter() - began) * 1000
    async with cdp.connect(session.cdp_url) as connection:
        tab = await connection.new_tab()
        answer = await tab.send("Runtime.evaluate", {"expression": "6 * 7"})
        assert answer["result"]["value"] == 42
    await client.browsers.stop(session.id)
    whole = (time.perf_counter() - began) * 1000
    return created, whole, sum(map(cpu_ms, (pid, *zygotes))) - before


async def memory(client: cdpbridge.AsyncClient, pid: int, browsers: int) -> float:
    """MiB a browser, of so many at once."""
    sessions = []
    try:
        for _ in range(browsers):
            session = await client.browsers.create()
            sessions.append(session)
            async with cdp.connect(session.cdp_url) as connection:
                await connection.new_tab("data:text/html,<p>a page")
        return pss_mib(descendants(pid)) / browsers
    finally:
        for session in sessions:
            await client.browsers.stop(session.id)


async def measure(build: str, rounds: int, browsers: int) -> dict[str, object]:
    """Starts and memory of one build, in both modes."""
    with tempfile.TemporaryDirectory(prefix="isolation-") as name:
        Path(name).chmod(0o711)  # browsers of a root process have uids of their own
        settings = {"max_browsers": max(browsers, 10), "min_free_memory_mb": 0}
        async with (
            server(f"{name}/require", build, isolation="require", **settings) as (one, one_pid),
            server(f"{name}/none", build, isolation="none", **settings) as (other, other_pid),
            cdpbridge.at(one, KEY) as isolated,
            cdpbridge.at(other, KEY) as plain,
        ):
            servers = {"require": (isolated, one_pid), "none": (plain, other_pid)}
            starts: dict[str, list[tuple[float, float, float]]] = {mode: [] for mode in MODES}
            for number in range(rounds + 2):
                for mode in MODES if number % 2 else reversed(MODES):
                    times = await start(*servers[mode])
                    if number > 1:  # the first ones warm up
                        starts[mode].append(times)
            found: dict[str, object] = {"starts": starts}
            if browsers:
                found["mib"] = {mode: await memory(*servers[mode], browsers) for mode in MODES}
            return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--browsers", type=int, default=50)
    parser.add_argument("--builds", default="shell,full")
    given = parser.parse_args()
    about = harness.machine()
    results = {}
    for build in given.builds.split(","):
        harness.progress(build)
        results[build] = asyncio.run(measure(build, given.rounds, given.browsers))
    load = os.getloadavg()
    print(f"{about['cpu']}; {about['system']}; load {load[0]:.1f}; medians of {given.rounds} rounds, ms")
    times, sizes = [], []
    for build, found in results.items():
        starts = found["starts"]
        for index, what in enumerate(("create", "whole rental", "CPU of the server")):
            columns = {mode: [each[index] for each in starts[mode]] for mode in MODES}
            pairs = zip(columns["require"], columns["none"], strict=True)
            times.append(
                [
                    build,
                    what,
                    *(f"{statistics.median(columns[mode]):.1f}" for mode in MODES),
                    f"{statistics.median(columns['require']) - statistics.median(columns['none']):+.1f}",
                    f"{statistics.median(one - other for one, other in pairs):+.1f}",
                ]
            )
        if "mib" in found:
            mib = found["mib"]
            sizes.append(
                [build, *(f"{mib[mode]:.1f}" for mode in MODES), f"{mib['require'] - mib['none']:+.1f}"]
            )
    harness.print_table(
        f"Starts in turns; a create may cost {LIMIT_MS} ms more",
        ["build", "", "isolated", "not", "difference of medians", "median difference of a round"],
        times,
    )
    if sizes:
        harness.print_table(
            f"PSS in MiB a browser, of {given.browsers} at once; {LIMIT_MIB} more are allowed",
            ["build", "isolated", "not", "difference"],
            sizes,
        )
    harness.save("isolation", {"machine": about, "load": load, "rounds": given.rounds, "builds": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
