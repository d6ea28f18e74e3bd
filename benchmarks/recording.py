"""Claim: a recording costs a small part of a core, few MB, and holds nothing up.

The embedded server in a process of its own over real Chromium, with a browser that is recorded and one that is not, nobody
watching: `python benchmarks/recording.py [--quick] [--build full|shell]`. Prints a table, writes results/recording.json.

    still           a page of text that does not change
    animated        a page that repaints on every frame
    scrolling       a page of text in motion, the worst for the encoder
    CPU             of the server, encoder included, and of the browser; one core = 100 %
    MB a minute     by which the video has grown
    answer          of GET /healthz: whether the server's event loop is held up
    round trip      the automation's Runtime.evaluate, one at a time
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import _harness as harness
import httpx
import live_view as live
import psutil

from cdpbridge.cdp import Connection

_LINES = "".join(
    f"<p>Line {number} of a page of <b>text</b>, and <a href=#>links</a>.</p>" for number in range(80)
)
PAGES = {
    "still": _LINES,
    "animated": live.ANIMATED,
    "scrolling": f"{_LINES}<script>(function move(time) {{ scrollTo(0, time / 20 % 800); requestAnimationFrame(move) }})(0)</script>",
}


async def answers(client: httpx.AsyncClient, seconds: float) -> list[float]:
    """ms."""
    address = str(client.base_url).partition("/api/")[0] + "/healthz"
    found = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        (await client.get(address)).raise_for_status()
        found.append(1000 * (time.perf_counter() - began))
        await asyncio.sleep(0.05)
    return found


async def measure(
    automation: Connection, server: psutil.Process, client: httpx.AsyncClient, html: str, seconds: float
) -> dict[str, Any]:
    page = await live.open_page(automation, html)
    await asyncio.sleep(1.5)
    folder = Path(server.cmdline()[server.cmdline().index("--data-dir") + 1])
    before, began, bytes_before = live.cpu_seconds(server), time.perf_counter(), recorded_bytes(folder)
    healthz = await answers(client, seconds)
    after, ended, bytes_after = live.cpu_seconds(server), time.perf_counter(), recorded_bytes(folder)
    took = ended - began
    round_trip = await live.round_trips(page, 300)
    await live.close_page(automation, page)
    return {
        "server_cpu": 100 * (after[0] - before[0]) / took,
        "browser_cpu": 100 * (after[1] - before[1]) / took,
        "mb_per_minute": (bytes_after - bytes_before) / took * 60 / 1e6,
        "answer_p50_ms": statistics.median(healthz),
        "answer_p99_ms": statistics.quantiles(healthz, n=100)[98],
        "round_trip_ms": round_trip,
    }


def recorded_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("files/browsers/*/recording/.recording.webm"))


async def run(options: argparse.Namespace) -> int:
    about = harness.machine()
    print(f"{about['cpu']}; {about['system']}; Python {about['python']}; load {about['load'][0]}")
    report: dict[str, Any] = {"machine": about, "build": options.build}
    rows = []
    for recorded in (False, True):
        async with live.rented(options.build, enableRecording=recorded) as (_, automation, server, client):
            for name, html in PAGES.items():
                found = await measure(automation, server, client, html, 10 if options.quick else 60)
                label = f"{name}, {'recorded' if recorded else 'not recorded'}"
                report[label] = found
                rows.append([label, *(harness.number(value) for value in found.values())])
    heads = ["", "server CPU %", "browser CPU %", "MB a minute", "answer p50", "answer p99", "round trip, ms"]
    harness.print_table(f"recording, {options.build}", heads, rows)
    harness.save("recording", report)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a sixth of the time")
    parser.add_argument("--build", choices=["full", "shell"], default="full", help="which Chromium")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
