"""Claim: a bad tenant at most doubles the 99th percentile of a good one's rental and message latency, on one server.

    python benchmarks/bad_tenant.py [--seconds 200] [--only sockets,downloads,bodies,disk,loops] [--together] [--builds shell,full]

The good tenant has one browser, to which it sends small commands one at a time, and rents and stops another one again and again. The
bad one opens 2,000 sockets to the server, downloads through its forwarder at full speed, sends bodies of 400 MiB, fills its quota of disk,
and has 100 pages compute without end: each of these alone, then all together; with `--together` only that. Turns of quiet and bad times
in one run, so that other load of the machine meets all of them; each bad turn begins with what is being done then, and ends with it. The
clients of the bad tenant run at the lowest priority: what is measured is the server. Prints a table of latencies in ms and the ratios to
the quiet turns, and writes results/bad_tenant.json. `--seconds` are those of a build, about.
On a machine with other load, run it in a cpu control group with a large share: else what is measured is the wait for a processor.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

import _harness as harness
import httpx
from rental import cpu_ms, server

from cdpbridge.cdp import connect
from cdpbridge.errors import CDPBridgeError

GOOD, BAD = "key-of-the-good-one", "key-of-the-bad-one"
KINDS = ("sockets", "downloads", "bodies", "disk", "loops")
SOCKETS, PAGES, BODY_MB = 2000, 100, 400
QUOTA_MB = 256
ROUNDS = 2
LEAD_SECONDS = 3.0
MIN_SECONDS = 3.0
QUIET = "without"
# Between two messages: a program that waits for pages does not send without a pause.
PAUSE_SECONDS = 0.005


class Good:
    """The good tenant, and what it has seen: seconds of messages and of rentals."""

    def __init__(self, base_url: str) -> None:
        self._http = httpx.AsyncClient(
            base_url=base_url, headers={"X-Browser-Use-API-Key": GOOD}, timeout=120, trust_env=False
        )

    async def work(self, seconds: float) -> tuple[list[float], list[float]]:
        messages: list[float] = []
        rentals: list[float] = []
        end = time.monotonic() + seconds
        browser = (await self._http.post("/browsers", json={})).raise_for_status().json()
        async with connect(browser["cdpUrl"]) as connection:
            sending = asyncio.create_task(self._send(connection, end, messages))
            while time.monotonic() < end:
                began = time.perf_counter()
                rented = (await self._http.post("/browsers", json={})).raise_for_status().json()
                rentals.append(time.perf_counter() - began)
                await self._stop(rented)
            await sending
        await self._stop(browser)
        return messages, rentals

    async def _send(self, connection, end: float, messages: list[float]) -> None:
        while time.monotonic() < end:
            began = time.perf_counter()
            await connection.root.send("Browser.getVersion")
            messages.append(time.perf_counter() - began)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _stop(self, browser) -> None:
        (await self._http.patch(f"/browsers/{browser['id']}", json={"action": "stop"})).raise_for_status()

    async def close(self) -> None:
        await self._http.aclose()


# --- the bad tenant: a process of its own -----------------------------------------------------------------------------


async def serve_endless() -> tuple[asyncio.Server, str]:
    """A site whose answers never end."""

    async def answer(reader, writer):
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            head = b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Type: application/octet-stream\r\n\r\n"
            writer.write(head)
            while True:
                writer.write(bytes(256 * 1024))
                await writer.drain()

    made = await asyncio.start_server(answer, "127.0.0.1", 0)
    return made, f"http://127.0.0.1:{made.sockets[0].getsockname()[1]}/"


async def rented(http: httpx.AsyncClient):
    while True:
        answer = await http.post("/browsers", json={"timeout": 5})
        if answer.status_code == 201:
            return answer.json()
        await asyncio.sleep(0.2)


async def bad_sockets(http, _site) -> None:
    """Hold 2,000 sockets: gateway clients as far as they are let in, then silent ones; ever again."""
    browser = await rented(http)
    version = (await http.get(f"{browser['cdpUrl'].rstrip('/')}/json/version")).raise_for_status().json()
    _, _, address, path = version["webSocketDebuggerUrl"].split("/", 3)
    host, _, port = address.rpartition(":")
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13"
    upgrade = f"GET /{path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}\r\n\r\n".encode()

    async def one(number: int) -> None:
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection(host, int(port))
                try:
                    if number % 2:
                        writer.write(upgrade)
                    while await reader.read(4096):
                        pass
                finally:
                    writer.transport.abort()
            await asyncio.sleep(random.uniform(0.5, 2))  # no secret

    await asyncio.gather(*(one(number) for number in range(SOCKETS)))


async def bad_downloads(http, site) -> None:
    """Download through the forwarder, eight at a time."""
    while True:
        browser = await rented(http)
        with suppress(CDPBridgeError, OSError):
            async with connect(browser["cdpUrl"]) as connection:
                tab = await connection.new_tab()
                script = (
                    "(async () => { const pull = async url => { const reader = (await fetch(url)).body.getReader();"
                    " while (!(await reader.read()).done); };"
                    f" await Promise.all([...Array(6)].map((_, i) => pull('{site}' + i))); }})()"
                )
                await tab.send("Runtime.evaluate", {"expression": script, "awaitPromise": True}, timeout=3600)


async def bad_bodies(http, _site) -> None:
    """Send bodies of 400 MiB, four at a time, to where a small one is expected."""

    async def body():
        for _ in range(BODY_MB):
            yield bytes(1 << 20)

    async def one() -> None:
        while True:
            with suppress(httpx.HTTPError):
                await http.post("/profiles", content=body(), headers={"Content-Type": "application/json"})

    await asyncio.gather(*(one() for _ in range(4)))


async def bad_disk(http, site) -> None:
    """Download files until the quota ends the browser; then with the next one."""
    while True:
        browser = await rented(http)
        with suppress(CDPBridgeError, OSError):
            async with connect(browser["cdpUrl"]) as connection:
                tab = await connection.new_tab()
                script = f"const a = document.createElement('a'); a.href = '{site}file'; a.download = 'x.bin'; a.click()"
                for _ in range(4):
                    await tab.send("Runtime.evaluate", {"expression": script})
                await connection.wait_closed()


async def bad_loops(http, _site) -> None:
    """Have 100 pages compute without end."""
    while True:
        browser = await rented(http)
        with suppress(CDPBridgeError, OSError):
            async with connect(browser["cdpUrl"]) as connection:
                page = "data:text/html,<script>setTimeout(() => { for (;;); }, 10)</script>"
                for _ in range(PAGES):
                    await connection.root.send("Target.createTarget", {"url": page}, timeout=600)
                await connection.wait_closed()


async def be_bad(base_url: str, kinds: list[str]) -> None:
    site_server, site = await serve_endless()
    async with (
        site_server,
        httpx.AsyncClient(
            base_url=base_url, headers={"X-Browser-Use-API-Key": BAD}, timeout=120, trust_env=False
        ) as http,
    ):
        works = {f"bad_{kind}": globals()[f"bad_{kind}"] for kind in kinds}
        print("began", flush=True)  # to its parent
        await asyncio.gather(*(work(http, site) for work in works.values()))


async def end_bad(base_url: str) -> None:
    """Stop the browsers of the bad tenant."""
    async with httpx.AsyncClient(
        base_url=base_url, headers={"X-Browser-Use-API-Key": BAD}, timeout=120, trust_env=False
    ) as http:
        for each in (await http.get("/browsers", params={"pageSize": 100, "filterBy": "active"})).json()[
            "items"
        ]:
            await http.patch(f"/browsers/{each['id']}", json={"action": "stop"})


# --- the run ----------------------------------------------------------------------------------------------------------


def p99(values: list[float]) -> float:
    """The 99th percentile, in ms; of few values the largest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * 0.99) - 1)] * 1000


async def run_bad(base_url: str, kinds: list[str]) -> asyncio.subprocess.Process:
    command = [sys.executable, __file__, "--bad", base_url, "--only", ",".join(kinds)]
    bad = await asyncio.create_subprocess_exec("nice", "-n", "19", *command, stdout=asyncio.subprocess.PIPE)
    assert bad.stdout is not None
    await bad.stdout.readline()
    await asyncio.sleep(LEAD_SECONDS)  # until its browsers are there
    return bad


@dataclass
class Seen:
    """What the good tenant has seen in the turns of one kind; and the server's CPU, in % of a core, in each."""

    messages: list[float] = field(default_factory=list)
    rentals: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def row(self) -> dict[str, float]:
        return {
            "messages": len(self.messages),
            "messages_median_ms": round(statistics.median(self.messages) * 1000, 2),
            "messages_p99_ms": round(p99(self.messages), 2),
            "rentals": len(self.rentals),
            "rentals_median_ms": round(statistics.median(self.rentals) * 1000, 1),
            "rentals_p99_ms": round(p99(self.rentals), 1),
            "server_cpu_percent": round(statistics.mean(self.cpu)),
        }


async def measure(seconds: float, build: str, turns: list[list[str]]) -> dict[str, dict[str, float]]:
    """Measure a build.

    Args:
        turns: What the bad tenant does in each turn of a round; a quiet turn comes before each second one.
    """
    seen = {QUIET: Seen()} | {named(kinds): Seen() for kinds in turns}
    order: list[list[str]] = []
    for number, kinds in enumerate(turns):
        order += [kinds] if number % 2 else [[], kinds]
    each = max(MIN_SECONDS, (seconds / ROUNDS - LEAD_SECONDS * len(turns)) / len(order))
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cdpbridge-bench-", dir="/tmp"))
        settings = {
            "api_keys": json.dumps({"good": GOOD, "bad": BAD}),
            "max_browsers": 20,
            "private_network": "allow",
            "disk_mb_per_browser": QUOTA_MB,
            "health_check_seconds": 2,
            "max_load_per_cpu": 1000,
        }
        base_url, pid = await stack.enter_async_context(server(folder, build, **settings))
        good = Good(base_url)
        stack.push_async_callback(good.close)
        await good.work(2)
        for kinds in order * ROUNDS:
            bad = await run_bad(base_url, kinds) if kinds else None
            began, used = time.monotonic(), cpu_ms(pid)
            found = seen[named(kinds)]
            try:
                messages, rentals = await good.work(each)
            finally:
                found.cpu.append((cpu_ms(pid) - used) / (time.monotonic() - began) / 10)
                if bad is not None:
                    bad.send_signal(signal.SIGKILL)
                    await bad.wait()
                    await end_bad(base_url)
            found.messages.extend(messages)
            found.rentals.extend(rentals)
    return {name: each.row() for name, each in seen.items()}


def named(kinds: list[str]) -> str:
    return QUIET if not kinds else kinds[0] if len(kinds) == 1 else "all together"


def show(build: str, rows: dict[str, dict[str, float]]) -> None:
    print(f"\nbad tenant, {build}; load {os.getloadavg()[0]:.1f}")
    print(
        f"{'':13} {'messages':>8} {'median ms':>10} {'p99 ms':>8} {'ratio':>6}"
        f"  {'rentals':>7} {'median ms':>10} {'p99 ms':>8} {'ratio':>6}  {'CPU of the server':>17}"
    )
    quiet = rows[QUIET]
    for name, row in rows.items():
        ratios = {each: row[f"{each}_p99_ms"] / quiet[f"{each}_p99_ms"] for each in ("messages", "rentals")}
        print(
            f"{name:13} {row['messages']:8} {row['messages_median_ms']:10.2f} {row['messages_p99_ms']:8.2f} {ratios['messages']:6.2f}"
            f"  {row['rentals']:7} {row['rentals_median_ms']:10.1f} {row['rentals_p99_ms']:8.1f} {ratios['rentals']:6.2f}"
            f"  {row['server_cpu_percent']:15} %"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=200)
    parser.add_argument("--only", default=",".join(KINDS))
    parser.add_argument("--together", action="store_true")
    parser.add_argument("--builds", default="shell")
    parser.add_argument("--bad", help=argparse.SUPPRESS)
    given = parser.parse_args()
    kinds = [kind for kind in given.only.split(",") if kind]
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    with contextlib.suppress(KeyboardInterrupt):
        if given.bad:
            asyncio.run(be_bad(given.bad, kinds))
            return
    turns = [] if given.together else [[kind] for kind in kinds]
    if len(kinds) > 1:
        turns.append(kinds)
    found = {}
    for build in given.builds.split(","):
        found[build] = asyncio.run(measure(given.seconds, build, turns))
        show(build, found[build])
    harness.save("bad_tenant", {"kinds": kinds, "builds": found})


if __name__ == "__main__":
    main()
