"""Claim: a pool loses no result and wastes no minute while its browsers are killed.

Four browsers visit 500 pages of a site on loopback; after every 50 visits one of them is killed, in turns by SIGKILL of all its
processes and by a stop that somebody else orders over REST: `python benchmarks/pool.py [--visits N] [--every N] [--size N]
[--seed N]`. Checked: every result once and in order, each browser replaced, no browser left, and what the server took against
the theoretical minutes: the life of each browser from its start to its death or to the last result, rounded up to minutes, at
the server's price. Prints the seed and a table, writes results/pool.json; exit status 1 when something does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import _harness as harness

import cdpbridge
from cdpbridge.billing import Tariff, billed_minutes
from cdpbridge.server import Settings
from cdpbridge.server.hosts._processes import processes_using

TOLERANCE = Decimal("0.05")


class Site(BaseHTTPRequestHandler):
    """A page with two images, so that a visit is more than one request."""

    def do_GET(self) -> None:
        page = b"<!doctype html><title>page</title><img src=/a.svg><img src=/b.svg>"
        image = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
        is_image = self.path.endswith(".svg")
        self.send_response(200)
        self.send_header("Content-Type", "image/svg+xml" if is_image else "text/html")
        self.end_headers()
        self.wfile.write(image if is_image else page)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Sites(ThreadingHTTPServer):
    """Killed browsers leave their requests halfway; that is no news here."""

    def handle_error(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serve_site() -> Iterator[str]:
    with Sites(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@dataclass
class Run:
    """One run, and what it is held against.

    Attributes:
        deaths: Browser to the moment it was killed.
        calls: How often each visit was begun.
    """

    data_dir: Path
    client: cdpbridge.AsyncClient
    pool: cdpbridge.BrowserPool
    chance: random.Random
    every: int
    deaths: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    calls: Counter[int] = field(default_factory=Counter)
    done: int = 0
    kills: set[asyncio.Task[None]] = field(default_factory=set)

    async def visit(self, tab: cdpbridge.Tab, url: str) -> int:
        number = int(url.rpartition("#")[2])
        self.calls[number] += 1
        await tab.goto(url)
        seen = int((await tab.evaluate("location.hash"))[1:])
        self.done += 1
        if self.done % self.every == 0:
            self.kills.add(asyncio.create_task(self.kill(self.done // self.every)))
        return seen

    async def kill(self, number: int) -> None:
        """End a browser that nobody has ended yet."""
        rented = [each async for each in self.client.browsers.list(status="active")]
        victim = str(self.chance.choice([each.id for each in rented if str(each.id) not in self.deaths]))
        if number % 2:
            self.deaths[victim] = "SIGKILL", datetime.now(UTC)
            for pid in await asyncio.to_thread(processes_using, browsers_folder(self.data_dir) / victim):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        else:
            self.deaths[victim] = "stopped", datetime.now(UTC)
            await self.client.browsers.stop(victim)


def browsers_folder(data_dir: Path) -> Path:
    """One folder per running browser."""
    return Settings.load(data_dir=data_dir).runtime_folder / "browsers"


async def run(visits: int, every: int, size: int, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="cdpbridge-") as folder, serve_site() as site:
        settings: dict[str, Any] = {"browser_build": "shell", "max_browsers": size, "concurrent_starts": size}
        async with cdpbridge.local(data_dir=folder, **settings) as client:
            before = (await client.billing.account()).total_credits_balance_usd
            began = time.monotonic()
            async with cdpbridge.BrowserPool(client, size=size, tabs_per_browser=4) as pool:
                this = Run(Path(folder), client, pool, random.Random(seed), every)
                urls = [f"{site}#{number}" for number in range(visits)]
                results = [
                    each async for each in pool.map(this.visit, urls, retries=5, progress=sys.stderr.isatty())
                ]
                last = datetime.now(UTC)
                seconds = time.monotonic() - began
                await asyncio.gather(*this.kills)
            taken = before - (await client.billing.account()).total_credits_balance_usd
            rentals = [each async for each in client.browsers.list()]
            left = [each for each in rentals if each.status == "active"]
            alive = await asyncio.to_thread(processes_using, browsers_folder(Path(folder)))
    ends = {str(each.id): this.deaths.get(str(each.id), ("", last))[1] for each in rentals}
    lives = [max(ends[str(each.id)] - each.started_at, timedelta(0)) for each in rentals]
    minutes = sum(billed_minutes(Tariff(), life) for life in lives)
    theory = Tariff().usd_per_hour * minutes / 60
    kinds = Counter(kind for kind, _ in this.deaths.values())
    return {
        "seed": seed,
        "visits": visits,
        "seconds": round(seconds, 1),
        "results_right": results == list(range(visits)),
        "repeated": sum(this.calls.values()) - visits,
        "browsers": len(rentals),
        "killed": dict(kinds),
        "stats": {"lost": pool.stats.lost, "retried": pool.stats.retried},
        "minutes_theory": minutes,
        "minutes_billed": pool.receipt.billed_minutes,
        "usd_theory": str(round(theory, 6)),
        "usd_receipts": str(pool.receipt.paid),
        "usd_booked": str(pool.receipt.booked),
        "usd_taken": str(taken),
        "excess": float((taken - theory) / theory),
        "left": len(left) + len(alive),
    }


def verdict(row: dict[str, Any], size: int) -> dict[str, bool]:
    """What must hold."""
    killed = sum(row["killed"].values())
    return {
        "every result once, in order": row["results_right"],
        "each lost browser was replaced, and no more": row["browsers"] <= size + killed,
        "cost within 5 % of the theoretical minutes": abs(Decimal(str(row["excess"]))) <= TOLERANCE,
        "receipts, server and account agree": (
            Decimal(row["usd_receipts"]) == Decimal(row["usd_booked"]) == Decimal(row["usd_taken"])
        ),
        "nothing left": row["left"] == 0,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--visits", type=int, default=500)
    parser.add_argument("--every", type=int, default=50, help="visits between two kills")
    parser.add_argument("--size", type=int, default=4, help="browsers")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args()
    about = harness.machine()
    print(harness.describe_machine(about))
    print(f"seed {given.seed}")
    row = asyncio.run(run(given.visits, given.every, given.size, given.seed))
    held = verdict(row, given.size)
    harness.print_table(
        "a pool whose browsers are killed", ["", ""], [[name, str(value)] for name, value in row.items()]
    )
    harness.print_table(
        "what must hold", ["", ""], [[name, "yes" if fine else "NO"] for name, fine in held.items()]
    )
    harness.save("pool", {"machine": about, "rows": [row], "held": held})
    return 0 if all(held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
