"""Claim: a person sees a click's effect at once, and neither one nor ten people slow the automation down.

The embedded server in a process of its own over real Chromium, viewers with their own sockets in this process:
`python benchmarks/live_view.py [--quick] [--build full|shell]`. Prints a table and the verdicts, writes results/live_view.json.
Exit status 1 when a target is missed.

    first      from the WebSocket's handshake to the first picture, ms
    click      from a click that repaints the page to the next picture, ms
    key        the same from a key in a text field
    animated   pictures a second of a page that repaints on every frame; CPU of server and browser, one core = 100 %
    round trip the automation's Runtime.evaluate, one at a time, without viewers and with ten, on a page that changes once a
               second, and CPU of both; each round measures both
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import _harness as harness
import httpx
import psutil
import websockets

from cdpbridge.cdp import CDPSession, Connection, connect

KEY = "key-of-the-benchmark"
CLICK = """<body style="margin:0;height:100vh"><script>
let on = false;
onmousedown = () => { on = !on; document.body.style.background = on ? 'navy' : 'gold' };
</script>"""
FIELD = "<input autofocus style='font:20px monospace;caret-color:transparent;width:600px'>"
ANIMATED = """<body style="margin:0"><canvas width=760 height=460></canvas><script>
const context = document.querySelector('canvas').getContext('2d');
(function draw(time) {
  for (let row = 0; row < 8; row++) for (let column = 0; column < 10; column++) {
    context.fillStyle = `hsl(${(time / 6 + row * 40 + column * 20) % 360} 70% 55%)`;
    context.fillRect(column * 76, row * 58, 74, 56);
  }
  requestAnimationFrame(draw);
})(0);
</script>"""
QUIET = "<h1>0</h1><script>setInterval(() => document.querySelector('h1').textContent++, 1000)</script>"


class Viewer:
    """A viewer's socket: acknowledges each picture and knows when it came."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self.socket = socket
        self.times: list[float] = []
        self.news = asyncio.Event()
        self.status: dict[str, Any] = {}

    async def read(self) -> None:
        with suppress(websockets.ConnectionClosed):
            async for message in self.socket:
                if isinstance(message, bytes):
                    self.times.append(time.perf_counter())
                    await self.send(type="ack", number=struct.unpack("!I", message[:4])[0])
                else:
                    content = json.loads(message)
                    if content["type"] == "status":
                        self.status = content
                self.news.set()

    async def send(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def next_after(self, moment: float) -> float:
        async with asyncio.timeout(10):
            while not self.times or self.times[-1] < moment:
                self.news.clear()
                await self.news.wait()
        return next(at for at in self.times if at >= moment)


@asynccontextmanager
async def viewer(live_url: str) -> AsyncIterator[Viewer]:
    base, _, token = live_url.rpartition("/")
    async with websockets.connect(f"{base.replace('http', 'ws', 1)}/socket", max_size=None) as socket:
        one = Viewer(socket)
        reading = asyncio.create_task(one.read())
        await one.send(type="hello", token=token)
        yield one
        await socket.close()
        await reading


@asynccontextmanager
async def rented(
    build: str, **body: Any
) -> AsyncIterator[tuple[dict[str, Any], Connection, psutil.Process, httpx.AsyncClient]]:
    with tempfile.TemporaryDirectory(prefix="cdpbridge-bench-") as folder:
        environment = os.environ | {"CDPBRIDGE_API_KEYS": KEY, "CDPBRIDGE_BROWSER_BUILD": build}
        command = [sys.executable, "-m", "cdpbridge.server", "--port", "0", "--data-dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        try:
            assert process.stdout is not None
            base_url = (await asyncio.to_thread(process.stdout.readline)).split()[-1]
            headers = {"X-Browser-Use-API-Key": KEY}
            async with httpx.AsyncClient(base_url=base_url, headers=headers, timeout=60) as client:
                record = (await client.post("/browsers", json=body)).raise_for_status().json()
                async with connect(record["cdpUrl"]) as automation:
                    yield record, automation, psutil.Process(process.pid), client
                await client.patch(f"/browsers/{record['id']}", json={"action": "stop"})
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, 20)
            assert process.stdout is not None
            process.stdout.close()


def cpu_seconds(server: psutil.Process) -> tuple[float, float]:
    """Of the server itself, and of all the processes below it."""
    own = server.cpu_times()
    browser = 0.0
    for child in server.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            browser += times.user + times.system
    return own.user + own.system, browser


async def open_page(automation: Connection, html: str) -> CDPSession:
    document = base64.b64encode(f"<!doctype html>{html}".encode()).decode()
    tab = await automation.new_tab(f"data:text/html;base64,{document}")
    await asyncio.sleep(1)
    return tab


async def close_page(automation: Connection, page: CDPSession) -> None:
    await automation.root.send("Target.closeTarget", {"targetId": page.target_id})


async def first_picture(record: dict[str, Any], automation: Connection, times: int) -> list[float]:
    page = await open_page(automation, FIELD)
    found = []
    for _ in range(times):
        began = time.perf_counter()
        async with viewer(record["liveUrl"]) as one:
            found.append(1000 * (await one.next_after(began) - began))
        await asyncio.sleep(0.3)  # the cast has ended: each measurement begins one
    await close_page(automation, page)
    return found


async def to_picture(record: dict[str, Any], automation: Connection, html: str, times: int) -> list[float]:
    """ms from a click, or a key in the page with the field, to the next picture."""
    page = await open_page(automation, html)
    found = []
    async with viewer(record["liveUrl"]) as one:
        await one.next_after(0)
        await one.send(type="drive", on=True)
        await asyncio.sleep(1)
        for number in range(times):
            began = time.perf_counter()
            if html == CLICK:
                at = {"x": 200, "y": 200, "button": "left", "clicks": 1}
                await one.send(type="mouse", kind="down", buttons=1, **at)
                await one.send(type="mouse", kind="up", **at)
            else:
                key = {"key": "x", "code": "KeyX", "keyCode": 88}
                await one.send(type="key", kind="down", text="x", **key)
                await one.send(type="key", kind="up", **key)
            found.append(1000 * (await one.next_after(began) - began))
            await asyncio.sleep(0.4 + number % 7 * 0.013)  # at rest, and at no fixed phase
    await close_page(automation, page)
    return found


async def animated(
    record: dict[str, Any], automation: Connection, server: psutil.Process, viewers: int, seconds: float
) -> tuple[float, float, float]:
    """Pictures a second that each viewer got, at least; CPU of server and browser in %."""
    page = await open_page(automation, ANIMATED)
    async with AsyncExitStack() as stack:
        everyone = [await stack.enter_async_context(viewer(record["liveUrl"])) for _ in range(viewers)]
        await asyncio.sleep(1.5)
        before, began = cpu_seconds(server), time.perf_counter()
        await asyncio.sleep(seconds)
        after, ended = cpu_seconds(server), time.perf_counter()
        rate = min(sum(began <= at <= ended for at in one.times) for one in everyone) / (ended - began)
    await close_page(automation, page)
    used = [100 * (b - a) / (ended - began) for a, b in zip(before, after, strict=True)]
    return rate, used[0], used[1]


async def round_trips(page: CDPSession, times: int) -> float:
    """ms, p50."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        await page.send("Runtime.evaluate", {"expression": "1"})
        found.append(1000 * (time.perf_counter() - began))
    return statistics.median(found)


async def disturbance(
    record: dict[str, Any], automation: Connection, html: str, rounds: int, times: int
) -> tuple[float, float]:
    """p50 of the automation's round trips without viewers and with ten, medians over the rounds."""
    page = await open_page(automation, html)
    without, with_ten = [], []
    for _ in range(rounds):
        without.append(await round_trips(page, times))
        async with AsyncExitStack() as stack:
            for _ in range(10):
                await stack.enter_async_context(viewer(record["liveUrl"]))
            await asyncio.sleep(1)
            with_ten.append(await round_trips(page, times))
        await asyncio.sleep(0.5)
    await close_page(automation, page)
    return statistics.median(without), statistics.median(with_ten)


async def run(options: argparse.Namespace) -> int:
    about = harness.machine()
    print(f"{about['cpu']}; {about['system']}; Python {about['python']}; load {about['load'][0]}")
    times = 12 if options.quick else 40
    rows: list[list[str]] = []
    verdicts: list[tuple[str, str, str, bool]] = []
    report: dict[str, Any] = {"machine": about, "build": options.build}

    def latency(name: str, found: list[float], limit: float) -> None:
        middle, worst = statistics.median(found), max(found)
        report[name] = found
        rows.append([name, f"{harness.number(middle)} ms", f"{harness.number(worst)} ms", "-", "-"])
        verdicts.append((name, f"p50 {harness.number(middle)} ms", f"under {limit:.0f} ms", middle < limit))

    async with rented(options.build) as (record, automation, server, _):
        latency("first picture", await first_picture(record, automation, max(5, times // 4)), 1000)
        latency("click to picture", await to_picture(record, automation, CLICK, times), 100)
        latency("key to picture", await to_picture(record, automation, FIELD, times), 100)
        for viewers in (1, 10):
            rate, ours, browser = await animated(
                record, automation, server, viewers, 3 if options.quick else 8
            )
            name = f"animated, {viewers} viewer{'s' * (viewers > 1)}"
            report[name] = {"per_second": rate, "server_cpu": ours, "browser_cpu": browser}
            rows.append([name, f"{harness.number(rate)} /s", "-", f"{ours:.0f} %", f"{browser:.0f} %"])
            if viewers == 1:
                verdicts.append(
                    (name, f"{harness.number(rate)} pictures a second", "at least 15", rate >= 15)
                )
        rounds = 3 if options.quick else 7
        without, with_ten = await disturbance(record, automation, QUIET, rounds, 300)
        report["round_trip_ms"] = {"without": without, "with_ten": with_ten}
        rows.append(["round trip, nobody", f"{harness.number(without)} ms", "-", "-", "-"])
        rows.append(["round trip, ten viewers", f"{harness.number(with_ten)} ms", "-", "-", "-"])
        grown = 100 * (with_ten / without - 1)
        verdicts.append(("round trip", f"{grown:+.0f} % with ten viewers", "less than +30 %", grown < 30))
    harness.print_table(
        f"live view, {options.build}", ["", "p50 or rate", "max", "server CPU", "browser CPU"], rows
    )
    harness.print_table(
        "targets",
        ["", "found", "target", ""],
        [[*each[:3], "met" if each[3] else "MISSED"] for each in verdicts],
    )
    report["verdicts"] = [
        dict(zip(("name", "found", "target", "met"), each, strict=True)) for each in verdicts
    ]
    harness.save("live_view", report)
    return 0 if all(each[3] for each in verdicts) else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer measurements")
    parser.add_argument("--build", choices=["full", "shell"], default="full", help="which Chromium")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
