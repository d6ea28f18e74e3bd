"""One measurement of one Python client, in a process of its own: `_client.py ADAPTER VARIANT WORKLOAD URL AMOUNT`.

Prints one JSON object. CPU is user and system time of this process and of the processes it started, over the workload alone:
connecting, warming up and closing are outside the clock.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

_EVALUATE = "Runtime.evaluate"
_EXPRESSION = {"expression": "1+1", "returnByValue": True}


def children() -> list[int]:
    """Processes under this one."""
    found, at = [os.getpid()], 0
    while at < len(found):
        for task in Path(f"/proc/{found[at]}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                continue
        at += 1
    return found[1:]


def cpu_seconds(others: list[int]) -> float:
    """CPU used so far by this process and by living `others`."""
    total = time.process_time()
    for pid in others:
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):  # nanoseconds; `stat` has hundredths
            try:
                total += int(task.read_text().split()[0]) / 1e9
            except OSError:
                continue
    return total


def memory(others: list[int], field: str = "VmRSS") -> int:
    """Resident bytes now (`VmRSS`) or at most (`VmHWM`) of this process and `others`."""
    total = 0
    for pid in [os.getpid(), *others]:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                total += int(line.split()[1]) * 1024
    return total


Worker = Callable[[Any, int], Coroutine[Any, Any, None]]


async def one_at_a_time(session: Any, amount: int) -> None:
    for _ in range(amount):
        await session.send(_EVALUATE, _EXPRESSION)


async def in_flight(sessions: list[Any], amount: int, work: Worker = one_at_a_time) -> None:
    """Each of the sessions' workers sends one command after another."""
    await asyncio.gather(*(work(session, amount // len(sessions)) for session in sessions))


class Longest:
    """CPU seconds of the event loop's longest turn: what everything else on the loop had to wait for.

    CPU and not time, because a machine that others use too may give the processor to them in the middle of a turn. Of all
    threads, because one that decodes holds the lock of the interpreter, and the loop waits for it all the same.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.longest = 0.0
        self.last = time.process_time()
        self.timer = self.loop.call_soon(self.tick)

    def tick(self) -> None:
        now = time.process_time()
        self.longest = max(self.longest, now - self.last)
        self.last = now
        self.timer = self.loop.call_later(0.0005, self.tick)

    def stop(self) -> float:
        self.timer.cancel()
        self.tick()
        self.timer.cancel()
        return self.longest


async def clocked(work: Callable[[], Awaitable[object]], amount: int) -> dict[str, float]:
    others = children()
    gc.collect()
    cpu, wall = cpu_seconds(others), time.perf_counter()
    await work()
    wall = time.perf_counter() - wall
    cpu = cpu_seconds(others) - cpu
    return {"cpu_us": cpu / amount * 1e6, "per_second": amount / wall}


async def events(client: Any, workload: str, amount: int) -> dict[str, float]:
    session = await client.attach()
    _, size, heard = workload.split("-")
    seen: list[str] = []
    if heard == "heard":
        client.on_request(session, seen.append)
    flood = {"count": max(amount // 10, 100), "size": int(size)}
    await session.send("Fake.flood", flood)
    seen.clear()
    flood["count"] = amount
    result = await clocked(lambda: session.send("Fake.flood", flood), amount)
    if heard == "heard":
        result["lost"] = amount - len(seen)
    return result


async def large(client: Any, amount: int) -> dict[str, float]:
    session = await client.attach()
    await session.send(_EVALUATE, _EXPRESSION)
    others = children()
    gc.collect()
    before = memory(others)
    cpu, wall = cpu_seconds(others), time.perf_counter()
    reply = await session.send("Fake.big", {"bytes": amount})
    cpu, wall = cpu_seconds(others) - cpu, time.perf_counter() - wall
    peak = memory(others, "VmHWM") - before
    assert len(reply["data"]) == amount
    del reply
    blocked = Longest()
    await session.send("Fake.big", {"bytes": amount})
    return {
        "cpu_ms": cpu * 1e3,
        "wall_ms": wall * 1e3,
        "memory_ratio": peak / amount,
        "blocked_ms": blocked.stop() * 1e3,
    }


def build(client: Any, amount: int) -> dict[str, float]:
    client.build(amount // 10)
    gc.collect()
    cpu = time.process_time()
    client.build(amount)
    cpu = time.process_time() - cpu
    return {"cpu_us": cpu / amount * 1e6, "per_second": amount / cpu}


async def console(client: Any, amount: int) -> dict[str, float]:
    session = await client.new_tab()
    seen: list[Any] = []
    done = asyncio.Event()
    wanted = 0

    def handler(event: Any) -> None:
        seen.append(event)
        if len(seen) == wanted:
            done.set()

    client.on_typed(session, "Runtime.consoleAPICalled", handler)
    await session.send("Runtime.enable")

    async def flood(count: int) -> None:
        nonlocal wanted
        seen.clear()
        done.clear()
        wanted = count
        await session.send(
            _EVALUATE, {"expression": f"for (let i = 0; i < {count}; i++) console.log('line', i)"}
        )
        await done.wait()

    await flood(max(amount // 10, 50))
    return await clocked(lambda: flood(amount), amount)


NETWORK = [
    "Network.requestWillBeSent",
    "Network.requestWillBeSentExtraInfo",
    "Network.responseReceived",
    "Network.responseReceivedExtraInfo",
    "Network.dataReceived",
    "Network.loadingFinished",
    "Network.loadingFailed",
    "Network.requestServedFromCache",
    "Network.resourceChangedPriority",
    "Page.loadEventFired",
]


async def network(client: Any, pages: int) -> dict[str, float]:
    """Navigate `pages` times with ten typed handlers; per event that a handler got."""
    session = await client.new_tab()
    address = os.environ["BENCH_PAGE"]
    seen: list[Any] = []
    loaded = asyncio.Event()
    for method in NETWORK:
        client.on_typed(session, method, seen.append)
    client.on(session, "Page.frameStoppedLoading", lambda _event: loaded.set())
    await session.send("Page.enable")
    await session.send("Network.enable")

    async def visit(count: int) -> None:
        for number in range(count):
            loaded.clear()
            await session.send("Page.navigate", {"url": f"{address}?{number}"})
            await loaded.wait()

    await visit(1)
    seen.clear()
    result = await clocked(lambda: visit(pages), 1)
    return {
        "cpu_us": result["cpu_us"] / len(seen),
        "per_second": result["per_second"] * len(seen),
        "events": len(seen),
    }


async def first_answer(client: Any, url: str) -> dict[str, float]:
    """Milliseconds from the address to the first answer of a new page; a driver is started before the clock."""
    start = time.perf_counter()
    if hasattr(client, "start_driver"):
        await client.start_driver()
    ready = time.perf_counter()
    others = children()
    cpu = cpu_seconds(others)
    await client.open(url)
    session = await client.new_tab()
    await session.send(_EVALUATE, _EXPRESSION)
    end = time.perf_counter()
    cpu = cpu_seconds(others) - cpu
    await client.close()
    return {"ms": (end - ready) * 1e3, "with_driver_ms": (end - start) * 1e3, "cpu_ms": cpu * 1e3}


async def idle(make: Callable[[], Any], url: str, amount: int) -> dict[str, float]:
    first = make()
    await first.open(url)
    gc.collect()
    others = children()
    before, cpu = memory(others), cpu_seconds(others)
    clients = [make() for _ in range(amount)]
    for client in clients:
        await client.open(url)
    connect = cpu_seconds(others) - cpu
    gc.collect()
    grown = memory(others) - before
    cpu = cpu_seconds(others)
    await asyncio.sleep(1)
    burnt = cpu_seconds(others) - cpu
    for client in [first, *clients]:
        await client.close()
    return {
        "kb_each": grown / amount / 1e3,
        "connect_ms": connect / amount * 1e3,
        "idle_percent": burnt * 100,
    }


async def measure(adapter: str, variant: str, workload: str, url: str, amount: int) -> dict[str, float]:
    module = importlib.import_module(f"peers.{adapter}")
    if workload == "idle":
        return await idle(lambda: module.Client(variant), url, amount)
    client = module.Client(variant)
    if workload == "build":
        return build(client, amount)
    if workload == "chromium-first":
        return await first_answer(client, url)
    await client.open(url)
    try:
        if workload == "chromium-console":
            return await console(client, amount)
        if workload == "chromium-network":
            return await network(client, amount)
        work: Worker = getattr(client, "one_at_a_time", one_at_a_time)
        if workload == "chromium-evaluate":
            page = await client.new_tab()
            await in_flight([page] * 100, 300, work)
            return await clocked(lambda: in_flight([page] * 100, amount, work), amount)
        if workload.startswith("events-"):
            return await events(client, workload, amount)
        if workload == "large":
            return await large(client, amount)
        sessions = [await client.attach() for _ in range(100 if workload == "sessions" else 1)]
        if workload == "sequential":
            await work(sessions[0], max(amount // 10, 50))
            return await clocked(lambda: work(sessions[0], amount), amount)
        workers = sessions if workload == "sessions" else sessions * 100
        amount -= amount % len(workers)
        await in_flight(workers, max(amount // 10, 100), work)
        return await clocked(lambda: in_flight(workers, amount, work), amount)
    finally:
        await client.close()


def main() -> None:
    adapter, variant, workload, url, amount = sys.argv[1:]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    runner: Any = asyncio
    if "uvloop" in variant:
        import uvloop

        runner = uvloop
    print(json.dumps(runner.run(measure(adapter, variant, workload, url, int(amount)))))


if __name__ == "__main__":
    main()
