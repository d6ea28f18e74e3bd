"""Claim: to rent a browser takes little more than to launch one: stages of a rental beside Playwright's and puppeteer's launch.

    python benchmarks/rental.py [--rounds N] [--builds shell,full]

Each round does one cycle of each, in turns: a browser, a tab, an answer of JavaScript, a page of a site on loopback, the end.
`local()` is a new interpreter each time: from its start to the first answer of a page, with the embedded server's own start; and
once more while the server of another program runs, which it joins.
The other rows of cdpbridge rent from a running server that keeps no browser ready, and from one that keeps one (`ready`); a
cycle there begins when one waits. Medians of the wall clock in ms, CPU of the servers for a create and a stop, and the load of
the machine; ratios are within a round. Then ten at once, beside ten bare starts of Chromium two at a time, and rentals a second,
four at a time, without and with ready browsers. Prints three tables, writes results/rental.json.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import _harness as harness
import httpx
from playwright.async_api import async_playwright
from pool import serve_site

import cdpbridge
from cdpbridge import cdp
from cdpbridge.chromium import Chromium, find

STAGES = ("create", "connect", "first answer", "navigate", "release")
KEY = "key-of-benchmarks"
EXPRESSION = "6 * 7"
AT_ONCE = 10
# As many as a server of this machine would start at the same time.
STARTS = 2
VISITORS = 4
# Until nothing of a cycle is left on a machine that does nothing else.
SETTLE_SECONDS = 0.5
FROM_NOTHING = """
import asyncio, sys
import cdpbridge
async def main():
    async with cdpbridge.open_browser(cdpbridge.local(data_dir=sys.argv[1], browser_build=sys.argv[2])) as browser:
        tab = await browser.new_tab()
        assert await tab.evaluate("6 * 7") == 42
        print("answered", flush=True)
asyncio.run(main())
"""
# Whoever is measured has his bytecode, as an installation by pip has it.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
# A server ends with its last program: the next one starts its own.
PROGRAM_ENVIRONMENT = {
    name: value for name, value in ENVIRONMENT.items() if not name.startswith("CDPBRIDGE_")
} | {"CDPBRIDGE_LOCAL_GRACE_SECONDS": "0"}
Cycle = Callable[[str], Awaitable[list[float]]]


class Laps:
    """Times of stages, in ms."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._last = time.perf_counter()

    def lap(self) -> None:
        now = time.perf_counter()
        self.times.append((now - self._last) * 1000)
        self._last = now


@asynccontextmanager
async def server(
    folder: str, build: str, *, paper: bool = False, **settings: object
) -> AsyncIterator[tuple[str, int]]:
    """A running server: the base URL of its API, and its pid; with `paper`, one that runs no browsers."""
    command = ["-m", "cdpbridge.server", "--port", "0", "--data-dir", folder, "--dead-man-fd", "0"]
    given = {"api_keys": KEY, "browser_build": build, **settings}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *([str(harness.HERE / "_paper_server.py"), folder] if paper else command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=ENVIRONMENT | {f"CDPBRIDGE_{name.upper()}": str(value) for name, value in given.items()},
    )
    try:
        line = (await process.stdout.readline()).decode()
        yield line.removeprefix("cdpbridge: serving ").strip(), process.pid
    finally:
        process.stdin.close()
        await process.wait()


async def until_ready(base_url: str, number: int, *, look_seconds: float = 0.02) -> None:
    """Wait until so many browsers of a server wait for orders; each look takes time of the server's."""
    pressure = f"{base_url.removesuffix('/api/v2')}/pressure"
    async with httpx.AsyncClient() as http:
        while (await http.get(pressure)).json()["readyBrowsers"] < number:
            await asyncio.sleep(look_seconds)


def cpu_ms(pid: int) -> float:
    """CPU of a process and its threads, without its children."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e6


def renting(client: cdpbridge.AsyncClient) -> Cycle:
    async def cycle(page: str) -> list[float]:
        laps = Laps()
        session = await client.browsers.create()
        laps.lap()
        async with cdp.connect(session.cdp_url) as connection:
            laps.lap()
            tab = await connection.new_tab()
            answer = await tab.send("Runtime.evaluate", {"expression": EXPRESSION})
            assert answer["result"]["value"] == 42
            laps.lap()
            async with tab.expect("Page.loadEventFired"):
                await tab.send("Page.navigate", {"url": page})
            laps.lap()
            await client.browsers.stop(session.id)
        laps.lap()
        return laps.times

    return cycle


def opening(client: cdpbridge.AsyncClient) -> Cycle:
    async def cycle(page: str) -> list[float]:
        laps = Laps()
        async with cdpbridge.open_browser(client) as browser:
            laps.lap()
            laps.lap()  # it is connected
            tab = await browser.new_tab()
            assert await tab.evaluate(EXPRESSION) == 42
            laps.lap()
            await tab.goto(page)
            laps.lap()
        laps.lap()
        return laps.times

    return cycle


@asynccontextmanager
async def playwright(path: Path) -> AsyncIterator[Cycle]:
    async with async_playwright() as tools:

        async def cycle(page: str) -> list[float]:
            laps = Laps()
            browser = await tools.chromium.launch(executable_path=path)
            laps.lap()
            laps.lap()  # as above
            tab = await browser.new_page()
            assert await tab.evaluate(EXPRESSION) == 42
            laps.lap()
            await tab.goto(page)
            laps.lap()
            await browser.close()
            laps.lap()
            return laps.times

        yield cycle


@asynccontextmanager
async def puppeteer(path: Path) -> AsyncIterator[Cycle | None]:
    folder, missing = harness.node_peers()
    if missing:
        print(f"puppeteer: {missing}", file=sys.stderr)
        yield None
        return
    process = await asyncio.create_subprocess_exec(
        "node",
        str(harness.HERE / "_launch.mjs"),
        str(folder),
        str(path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )

    async def cycle(page: str) -> list[float]:
        process.stdin.write(f"{page}\n".encode())
        await process.stdin.drain()
        times: list[float] = json.loads(await process.stdout.readline())
        return times

    try:
        yield cycle
    finally:
        process.stdin.close()
        await process.wait()


async def from_nothing(folder: str, build: str) -> float:
    """Milliseconds from the start of a program that rents from `local()` to its first answer."""
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", FROM_NOTHING, folder, build),
        stdout=asyncio.subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=PROGRAM_ENVIRONMENT,
    )
    line = await process.stdout.readline()
    took = (time.perf_counter() - began) * 1000
    await process.wait()
    assert line == b"answered\n", "local() gave no answer"
    return took


async def bare_starts(path: Path, number: int, at_once: int) -> float:
    """Milliseconds that so many starts of Chromium take, some at a time, without a server."""
    turns = asyncio.Semaphore(at_once)
    build = find(path=path)

    async def start() -> Chromium:
        async with turns:
            return await Chromium.start(build=build)

    began = time.perf_counter()
    started = await asyncio.gather(*(start() for _ in range(number)))
    took = (time.perf_counter() - began) * 1000
    await asyncio.gather(*(each.stop() for each in started))
    return took


async def creates_at_once(client: cdpbridge.AsyncClient, number: int) -> float:
    """Milliseconds until so many orders, sent at once, all have their browsers."""
    began = time.perf_counter()
    sessions = await asyncio.gather(*(client.browsers.create() for _ in range(number)))
    took = (time.perf_counter() - began) * 1000
    await asyncio.gather(*(client.browsers.stop(session.id) for session in sessions))
    return took


async def rentals_a_second(client: cdpbridge.AsyncClient, number: int) -> float:
    """Creates and stops a second, some at a time."""
    left = iter(range(number))

    async def visitor() -> None:
        for _ in left:
            await client.browsers.stop((await client.browsers.create()).id)

    began = time.perf_counter()
    await asyncio.gather(*(visitor() for _ in range(VISITORS)))
    return number / (time.perf_counter() - began)


async def measure_many(path: Path, folder: str, build: str, rounds: int) -> dict[str, list[float]]:
    """Ten at once and rentals a second, in turns on a server without ready browsers and one with them."""
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    settings = {"max_browsers": 2 * AT_ONCE, "concurrent_starts": STARTS, "max_load_per_cpu": 10_000}
    async with (
        server(f"{folder}/cold", build, warm_browsers=0, **settings) as (cold_url, _),
        server(f"{folder}/warm", build, warm_browsers=AT_ONCE, **settings) as (warm_url, _),
        cdpbridge.at(cold_url, KEY) as cold,
        cdpbridge.at(warm_url, KEY) as warm,
    ):
        for _ in range(rounds):
            await until_ready(warm_url, AT_ONCE)
            note("bare", await bare_starts(path, AT_ONCE, STARTS))
            note("cold", await creates_at_once(cold, AT_ONCE))
            note("ready", await creates_at_once(warm, AT_ONCE))
            await until_ready(warm_url, AT_ONCE)
            note("cold a second", await rentals_a_second(cold, 2 * AT_ONCE))
            note("ready a second", await rentals_a_second(warm, AT_ONCE))
    return found


async def measure(build: str, rounds: int, page: str) -> dict[str, object]:
    """Every row of one build."""
    path = find(kind=build).path
    rows: dict[str, list[list[float]]] = {}
    nothing: list[float] = []
    joining: list[float] = []
    cpu: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="rental-") as name:
        Path(name).chmod(0o711)  # browsers of a root process have uids of their own
        async with (
            server(f"{name}/served", build, warm_browsers=0) as (base_url, pid),
            server(f"{name}/ready", build, warm_browsers=1) as (ready_url, ready_pid),
            cdpbridge.at(base_url, KEY) as client,
            cdpbridge.at(ready_url, KEY) as ready,
            playwright(path) as launch,
            puppeteer(path) as other,
            cdpbridge.local(data_dir=f"{name}/joined", browser_build=build, local_grace_seconds=0),
        ):
            cycles = {
                "cdpbridge": renting(client),
                "open_browser": opening(client),
                "cdpbridge, ready": renting(ready),
                "open_browser, ready": opening(ready),
                "Playwright": launch,
            }
            if other is not None:
                cycles["puppeteer"] = other
            pids = {"cdpbridge": pid, "cdpbridge, ready": ready_pid}
            for number in range(rounds + 1):
                for row, cycle in cycles.items():
                    await until_ready(ready_url, 1)
                    before = cpu_ms(pids.get(row, pid))
                    times = await cycle(page)
                    if row in pids:  # with the removal of its folder, and the start of the next one
                        await asyncio.sleep(SETTLE_SECONDS)
                        await until_ready(ready_url, 1, look_seconds=SETTLE_SECONDS)
                    if number:  # the first warms up
                        rows.setdefault(row, []).append(times)
                        if row in pids:
                            cpu.setdefault(row, []).append(cpu_ms(pids[row]) - before)
                for folder, times in (("local", nothing), ("joined", joining)):
                    took = await from_nothing(f"{name}/{folder}", build)
                    if number:
                        times.append(took)
        many = await measure_many(path, name, build, max(3, rounds // 3))
    return {
        "rows": rows,
        "from_nothing_ms": nothing,
        "joining_ms": joining,
        "server_cpu_ms": cpu,
        "many": many,
    }


def shown(times: list[list[float]]) -> list[str]:
    columns = [statistics.median(column) for column in zip(*times, strict=True)]
    return [f"{value:.0f}" for value in (*columns, sum(columns[:2]), statistics.median(map(sum, times)))]


def compared(rows: dict[str, list[list[float]]], one: str, other: str, stages: int) -> float:
    """The median of the rounds' ratios of the first stages of two rows."""
    pairs = zip(rows[one], rows[other], strict=True)
    return statistics.median(sum(first[:stages]) / sum(second[:stages]) for first, second in pairs)


def ratio(some: list[float], others: list[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(one / other for one, other in zip(some, others, strict=True))


async def run(rounds: int, builds: list[str]) -> dict[str, object]:
    results: dict[str, dict[str, object]] = {}
    with serve_site() as page:
        for build in builds:
            harness.progress(build)
            results[build] = await measure(build, rounds, page)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--builds", default="shell,full")
    given = parser.parse_args()
    about = harness.machine()
    results = asyncio.run(run(given.rounds, given.builds.split(",")))
    load = os.getloadavg()
    print(
        f"{about['cpu']}; {about['system']}; Python {about['python']}; load {load[0]:.1f}; "
        f"medians of {given.rounds} rounds, ms"
    )
    table, summary, together = [], [], []
    for build, found in results.items():
        rows = found["rows"]
        table += [[build, row, *shown(times)] for row, times in rows.items()]
        summary.append(
            [
                build,
                f"{statistics.median(found['from_nothing_ms']):.0f}",
                f"{statistics.median(found['joining_ms']):.0f}",
                f"{compared(rows, 'open_browser', 'Playwright', 2):.2f}",
                f"{compared(rows, 'open_browser', 'Playwright', 5):.2f}",
                f"{compared(rows, 'open_browser, ready', 'Playwright', 2):.2f}",
                f"{compared(rows, 'open_browser, ready', 'Playwright', 5):.2f}",
                " / ".join(f"{statistics.median(each):.0f}" for each in found["server_cpu_ms"].values()),
            ]
        )
        many = found["many"]
        alone = statistics.median(many["bare"])
        together.append(
            [
                build,
                f"{alone:.0f}",
                *(
                    f"{statistics.median(many[name]):.0f} ({ratio(many[name], many['bare']):.2f})"
                    for name in ("cold", "ready")
                ),
                *(f"{statistics.median(many[name]):.1f}" for name in ("cold a second", "ready a second")),
            ]
        )
    harness.print_table("Stages of a rental", ["build", "", *STAGES, "usable", "whole cycle"], table)
    harness.print_table(
        "In short",
        [
            "build",
            "local() from nothing to the first answer",
            "the same, joining a server",
            "open_browser / Playwright's launch",
            "whole cycle / Playwright's",
            "the same, ready: open_browser",
            "whole cycle",
            "server CPU of a rental, cold / ready",
        ],
        summary,
    )
    harness.print_table(
        f"{AT_ONCE} at once, ms (and beside bare starts), and rentals a second, {VISITORS} at a time",
        ["build", f"Chromium, {STARTS} at a time", "cold", "ready", "cold, a second", "ready, a second"],
        together,
    )
    harness.save("rental", {"machine": about, "load": load, "rounds": given.rounds, "builds": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
