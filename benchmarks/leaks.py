"""Claim: nothing leaks, whatever dies.

Each trial rents browsers from a server through a TCP relay, kills one thing at a random moment (the client, the server, a
Chromium, or the network), restarts the server on the same data folder, and looks: no Chromium alive, no browser active, the
balance equal to the ledger, every refund right, and never two rentals for one order. `python benchmarks/leaks.py [--trials N]
[--seed N] [--replay N]`: the seed of a run gives the seeds of its trials; `--replay` repeats one by its own. What the trial
does follows from its seed; the moment it hits is as exact as the machine is idle. Writes results/leaks.json; exit status 1 when
something leaked. 1,000 trials take about two hours.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import _harness as harness

import cdpbridge
from cdpbridge.billing import Tariff, cost
from cdpbridge.server.hosts._processes import processes_using

KEY = "key-of-the-benchmark"
VICTIMS = ("client", "server", "chromium", "network")
LATEST = 3.0  # seconds after the client's first order; most of a rental's life is over by then
CUT_SECONDS = 1.0
GRACE_SECONDS = 30.0
MICRO = Decimal("0.000001")

CLIENT = """
import asyncio, sys
from datetime import timedelta
import cdpbridge

async def rent(client, profile):
    for _ in range(3):
        print("ordered", flush=True)
        async with cdpbridge.open_browser(
            client, profile=profile, timeout=timedelta(minutes=5),
            connect_timeout=timedelta(seconds=5), stop_timeout=timedelta(seconds=5),
        ) as browser:
            tab = await browser.new_tab()
            for _ in range(5):
                await tab.evaluate("1 + 1")

async def main():
    async with cdpbridge.at(sys.argv[1], sys.argv[2]) as client:
        await asyncio.gather(rent(client, None), rent(client, "work"), return_exceptions=True)

asyncio.run(main())
"""


class Relay:
    """The network: bytes go both ways until it is cut."""

    def __init__(self) -> None:
        self.target = 0
        self.whole = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        try:
            yield self._server.sockets[0].getsockname()[1]
        finally:
            self.cut()
            self._server.close()
            await self._server.wait_closed()

    def cut(self) -> None:
        """Every connection is gone, without a goodbye."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if not self.whole:
                return
            upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers.add(upstream)
            await asyncio.gather(self._pump(reader, upstream), self._pump(upstream_reader, writer))
            self._writers.discard(upstream)
        except OSError:
            pass  # the server is down: so is what hangs on it
        finally:
            writer.transport.abort()
            self._writers.discard(writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()


@dataclass
class Trial:
    """What its seed decides.

    Attributes:
        moment: Seconds after the client's first order.
        restart: How the server ends afterwards, if it still runs.
    """

    seed: int
    victim: str = field(init=False)
    moment: float = field(init=False)
    restart: signal.Signals = field(init=False)

    def __post_init__(self) -> None:
        chance = random.Random(self.seed)
        self.victim = chance.choice(VICTIMS)
        self.moment = chance.uniform(0, LATEST)
        self.restart = chance.choice([signal.SIGKILL, signal.SIGTERM])


async def start_server(data_dir: Path) -> tuple[asyncio.subprocess.Process, int]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CDPBRIDGE_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "cdpbridge.server", "--port", "0", "--data-dir", str(data_dir)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment | {"CDPBRIDGE_API_KEYS": KEY, "CDPBRIDGE_BROWSER_BUILD": "shell"},
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    if not line.startswith("cdpbridge: serving "):
        raise RuntimeError(f"the server did not start: {line!r}")
    return process, int(line.rpartition(":")[2].partition("/")[0])


async def end(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)
    await process.wait()


async def strike(trial: Trial, folder: Path, relay: Relay, client: Any, server: Any) -> None:
    """What the trial is about."""
    match trial.victim:
        case "client":
            await end(client, signal.SIGKILL)
        case "server":
            await end(server, signal.SIGKILL)
        case "chromium":
            pids = await asyncio.to_thread(processes_using, folder / "browsers")
            for pid in pids[: max(1, len(pids) // 2)]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        case _:
            relay.whole = False
            relay.cut()
            await asyncio.sleep(CUT_SECONDS)
            relay.whole = True


async def reap(environment: dict[str, str]) -> None:
    """Let the journal settle what a dead client left, where the command line has that."""
    if find_spec("cdpbridge.journal") is None:
        return
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cdpbridge", "reap"),
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    await process.wait()


async def run(trial: Trial) -> dict[str, Any]:
    """One trial; its `leaks` says what was wrong."""
    folder = Path(tempfile.mkdtemp(prefix="cdpbridge-leaks-"))
    relay = Relay()
    server, relay.target = await start_server(folder / "data")
    client: asyncio.subprocess.Process | None = None
    try:
        async with relay.serving() as port:
            address = f"http://127.0.0.1:{port}/api/v2"
            environment = os.environ | {
                "CDPBRIDGE_PROVIDER": address,
                "BROWSER_USE_API_KEY": KEY,
                "XDG_STATE_HOME": str(folder / "state"),
            }
            client = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "ignore", "-c", CLIENT, address, KEY),
                env=environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            assert client.stdout is not None
            orders = len(await client.stdout.readline()) > 0
            await asyncio.sleep(trial.moment)
            await strike(trial, folder / "data", relay, client, server)
            try:
                rest, _ = await asyncio.wait_for(client.communicate(), GRACE_SECONDS)
            except TimeoutError:
                await end(client, signal.SIGKILL)
                rest = await client.stdout.read()
            orders += rest.count(b"ordered")
            await end(server, trial.restart)
            server, relay.target = await start_server(folder / "data")
            await reap(environment)
            leaks, rentals = await inspect(folder / "data", relay.target, orders)
    finally:
        if client is not None and client.returncode is None:
            await end(client, signal.SIGKILL)
        await end(server, signal.SIGTERM)
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "seed": trial.seed,
        "victim": trial.victim,
        "moment": round(trial.moment, 3),
        "orders": orders,
        "rentals": rentals,
        "leaks": leaks,
    }


async def inspect(folder: Path, port: int, orders: int) -> tuple[list[str], int]:
    """What has leaked, in words, and how many browsers were rented."""
    leaks = []
    if alive := await asyncio.to_thread(processes_using, folder / "browsers"):
        leaks.append(f"{len(alive)} processes of Chromium are alive")
    async with cdpbridge.at(f"http://127.0.0.1:{port}/api/v2", KEY) as client:
        account = await client.billing.account()
        active = [each.id async for each in client.browsers.list(status="active")]
    if active:
        leaks.append(f"{len(active)} browsers are active")
    with sqlite3.connect(folder / "cdpbridge.sqlite3") as books:
        books.row_factory = sqlite3.Row
        ledger = books.execute("SELECT * FROM ledger").fetchall()
        browsers = books.execute("SELECT * FROM browsers WHERE started_at IS NOT NULL").fetchall()
    books.close()
    if micro(account.total_credits_balance_usd) != sum(row["amount_micro_usd"] for row in ledger):
        leaks.append(f"the balance is {account.total_credits_balance_usd}, not the sum of the ledger")
    if len(browsers) > orders:
        leaks.append(f"{len(browsers)} browsers were rented for {orders} orders")
    for row in browsers:
        entries = [entry["amount_micro_usd"] for entry in ledger if entry["browser_id"] == row["id"]]
        used = datetime.fromisoformat(row["finished_at"]) - datetime.fromisoformat(row["started_at"])
        if -sum(entries) not in {micro(cost(Tariff(), max(used, timedelta(0)))), 0}:  # 0: nobody learnt of it
            leaks.append(f"browser {row['id']} cost {-sum(entries)} millionths for {used}")
    return leaks, len(browsers)


def micro(amount: Decimal) -> int:
    return int(amount / MICRO)


async def run_all(seeds: list[int]) -> list[dict[str, Any]]:
    rows = []
    for number, seed in enumerate(seeds, 1):
        row = await run(Trial(seed))
        rows.append(row)
        if row["leaks"]:
            print(f"seed {seed}: {'; '.join(row['leaks'])}")
        harness.progress(f"{number} of {len(seeds)}: {row['victim']} at {row['moment']} s")
    harness.progress("")
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the run")
    parser.add_argument("--replay", type=int, help="seed of one trial to repeat")
    given = parser.parse_args()
    about = harness.machine()
    print(harness.describe_machine(about))
    chance = random.Random(given.seed)
    seeds = [chance.randrange(10**9) for _ in range(given.trials)] if given.replay is None else [given.replay]
    print(f"seed {given.seed}" if given.replay is None else f"trial {given.replay}")
    rows = asyncio.run(run_all(seeds))
    counts = Counter(row["victim"] for row in rows)
    table = [
        [
            victim,
            str(counts[victim]),
            str(sum(row["orders"] for row in rows if row["victim"] == victim)),
            str(sum(row["rentals"] for row in rows if row["victim"] == victim)),
            str(sum(bool(row["leaks"]) for row in rows if row["victim"] == victim)),
        ]
        for victim in VICTIMS
    ]
    harness.print_table("what was killed", ["", "trials", "orders", "rentals", "leaked"], table)
    harness.save("leaks", {"machine": about, "seed": given.seed, "rows": rows})
    return 1 if any(row["leaks"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
