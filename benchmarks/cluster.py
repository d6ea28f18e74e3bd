"""Claim: a browser on a worker costs a start at most 15 ms, and a message at most 10 us of CPU, server and worker together.

    python benchmarks/cluster.py [--rounds N] [--commands N] [--builds shell,full]

Three servers rent in turns, the order changing each round: one with browsers of its own, one with a worker beside it on this machine, and
one whose worker has a certificate (TLS). The floor is the first one behind the barest relay that an event loop can have
(`_relay.py --uvloop`): a worker is two more sockets on the way, so it cannot cost less.
`create` until its answer; then commands over one WebSocket, each after the answer of the one before, and as many in flocks of 32.
A command is two messages. CPU is that of the server's process and of the worker's, without Chromium's; medians, and medians of the
differences within a round. Prints a table, writes results/cluster.json.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import _harness as harness
import trustme
from rental import ENVIRONMENT, KEY, cpu_ms, server

import cdpbridge
from cdpbridge import cdp

SECRET = "secret-of-servers-and-workers-of-benchmarks"
LIMIT_MS, LIMIT_US = 15, 10
FLOCK = 32
PLACES = ("here", "floor", "worker", "tls")
SHOWN = {
    "floor": "behind a bare relay (floor)",
    "worker": "on a worker",
    "tls": "on a worker, TLS",
}


@asynccontextmanager
async def worker(folder: str, build: str, base_url: str, **settings: str) -> AsyncIterator[int]:
    """A running worker: its pid."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "cdpbridge", "worker", "--server", base_url.removesuffix("/api/v2"), "--slots", "4"),
        *("--listen", "127.0.0.1:0", "--data-dir", folder),
        stdout=asyncio.subprocess.PIPE,
        env=ENVIRONMENT
        | {
            "CDPBRIDGE_WORKER_SECRET": SECRET,
            "CDPBRIDGE_BROWSER_BUILD": build,
            "CDPBRIDGE_WARM_BROWSERS": "0",
        }
        | {f"CDPBRIDGE_{name.upper()}": value for name, value in settings.items()},
    )
    try:
        assert (await process.stdout.readline()).startswith(b"cdpbridge: worker ")
        yield process.pid
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def bare_relay(base_url: str) -> AsyncIterator[tuple[str, int]]:
    """A relay to a server: its `host:port` and its pid."""
    there = urlsplit(base_url)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *(str(harness.HERE / "_relay.py"), "--uvloop", str(there.hostname), str(there.port)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield (await process.stdout.readline()).decode().strip(), process.pid
    finally:
        process.terminate()
        await process.wait()


async def one_by_one(tab: cdp.CDPSession, commands: int) -> None:
    for _ in range(commands):
        await tab.send("Runtime.evaluate", {"expression": "6 * 7"})


async def in_flocks(tab: cdp.CDPSession, commands: int) -> None:
    for _ in range(commands // FLOCK):
        await asyncio.gather(*(tab.send("Runtime.evaluate", {"expression": "6 * 7"}) for _ in range(FLOCK)))


async def rental(
    client: cdpbridge.AsyncClient, pids: list[int], commands: int, relay: str = ""
) -> dict[str, float]:
    """Milliseconds of a create, and microseconds of CPU a message; over `relay` when there is one."""
    began = time.perf_counter()
    session = await client.browsers.create()
    found = {"create": (time.perf_counter() - began) * 1000}
    address = urlsplit(session.cdp_url)
    async with cdp.connect(address._replace(netloc=relay or address.netloc).geturl()) as connection:
        tab = await connection.new_tab()
        for name, work in (("one by one", one_by_one), ("in flocks", in_flocks)):
            await work(tab, FLOCK)
            before = sum(map(cpu_ms, pids))
            await work(tab, commands)
            found[name] = (sum(map(cpu_ms, pids)) - before) * 1000 / (2 * (commands // FLOCK) * FLOCK)
    await client.browsers.stop(session.id)
    return found


async def measure(build: str, rounds: int, commands: int) -> dict[str, list[dict[str, float]]]:
    """Rentals of one build, here and on a worker."""
    with tempfile.TemporaryDirectory(prefix="cluster-") as name:
        Path(name).chmod(0o711)  # browsers of a root process have uids of their own
        given = {"warm_browsers": 0, "min_free_memory_mb": 0}
        workers = {"browsers": "workers", "worker_secret": SECRET}
        issued = trustme.CA().issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(f"{name}/worker.pem")
        async with (
            server(f"{name}/here", build, **given) as (here, here_pid),
            server(f"{name}/server", build, **given, **workers) as (there, there_pid),
            worker(f"{name}/worker", build, there) as worker_pid,
            server(f"{name}/secure", build, **given, **workers) as (secure, secure_pid),
            worker(
                f"{name}/tls", build, secure, worker_tls_certificate=f"{name}/worker.pem"
            ) as secure_worker_pid,
            bare_relay(here) as (relay, relay_pid),
            cdpbridge.at(here, KEY) as local,
            cdpbridge.at(there, KEY) as remote,
            cdpbridge.at(secure, KEY) as encrypted,
        ):
            places: dict[str, tuple[cdpbridge.AsyncClient, list[int], str]] = {
                "here": (local, [here_pid], ""),
                "floor": (local, [here_pid, relay_pid], relay),
                "worker": (remote, [there_pid, worker_pid], ""),
                "tls": (encrypted, [secure_pid, secure_worker_pid], ""),
            }
            found: dict[str, list[dict[str, float]]] = {place: [] for place in PLACES}
            for number in range(rounds + 1):
                for place in PLACES if number % 2 else reversed(PLACES):
                    client, pids, over = places[place]
                    figures = await rental(client, pids, commands, over)
                    if number:  # the first one warms up
                        found[place].append(figures)
            return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--commands", type=int, default=2048)
    parser.add_argument("--builds", default="shell,full")
    given = parser.parse_args()
    about = harness.machine()
    results = {}
    for build in given.builds.split(","):
        harness.progress(build)
        results[build] = asyncio.run(measure(build, given.rounds, given.commands))
    load = os.getloadavg()
    print(f"{about['cpu']}; {about['system']}; load {load[0]:.1f}; medians of {given.rounds} rounds")
    rows = []
    for build, found in results.items():
        for what, unit in (("create", "ms"), ("one by one", "us a message"), ("in flocks", "us a message")):
            here = [each[what] for each in found["here"]]
            row = [build, f"{what}, {unit}", f"{statistics.median(here):.1f}"]
            for place in SHOWN:
                there = [each[what] for each in found[place]]
                more = statistics.median(a - b for a, b in zip(there, here, strict=True))
                row.append(f"{statistics.median(there):.1f} ({more:+.1f})")
            rows.append(row)
    harness.print_table(
        f"A create may cost {LIMIT_MS} ms more, a message {LIMIT_US} us of CPU",
        ["build", "", "here", *(f"{each} (difference)" for each in SHOWN.values())],
        rows,
    )
    harness.save("cluster", {"machine": about, "load": load, "rounds": given.rounds, "builds": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
