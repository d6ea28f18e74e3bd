"""What the tunnel costs: CPU a message, time of a large picture, throughput of a large download.

    python benchmarks/tunnel.py

The tunnel is a process of its own, so its CPU is all that a message costs above the direct way. Beside it, the floor: the barest relays, of
asyncio, uvloop and C (`socat`, where it is installed), which look at no byte. The download is measured from the moment the browser has the file,
beside the same bytes over plain HTTP on loopback, by the same kind of client.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import cdpbridge
from cdpbridge import Tab
from cdpbridge.cdp import Connection, connect
from cdpbridge.tunnel import open_tunnel

ROUNDS = 5
PINGS = 4000
EVENTS = 20_000
BYTES = 1_000_000_000


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its children so far, by the scheduler, which counts nanoseconds (a tick has ten million)."""
    threads = list(Path(f"/proc/{pid}/task").iterdir())
    own = sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9
    children = [child for each in threads for child in (each / "children").read_text().split()]
    return own + sum(cpu_seconds(int(each)) for each in children)


def commands(address: str) -> Iterator[tuple[str, list[str]]]:
    """What is measured: the tunnel under both event loops, and the floors."""
    url = urlsplit(address)
    host, port = str(url.hostname), str(url.port)
    bare = [sys.executable, str(Path(__file__).with_name("_relay.py"))]
    without_uvloop = "import sys; sys.modules['uvloop'] = None; from cdpbridge.cli import main; main()"
    yield "tunnel", [sys.executable, "-m", "cdpbridge", "tunnel", address]
    yield "bare relay", [*bare, "--uvloop", host, port]
    yield "tunnel, asyncio", [sys.executable, "-c", without_uvloop, "tunnel", address]
    yield "bare relay, asyncio", [*bare, host, port]
    if program := shutil.which("socat"):
        with socket.create_server((host, 0)) as free:
            own = free.getsockname()[1]
        listen = f"TCP-LISTEN:{own},bind={host},reuseaddr,fork,nodelay"
        script = f'echo "{host}:{own}"; exec "$0" "$@"'
        yield "bare relay, C", ["sh", "-c", script, program, listen, f"TCP:{host}:{port},nodelay"]


def listens(address: str) -> bool:
    """Whether a port is open: `socat` does not tell when it is."""
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


@asynccontextmanager
async def running(command: list[str], path: str) -> AsyncIterator[tuple[str, int]]:
    """A relay in a process of its own: the address of the browser through it, and its pid."""
    process = await asyncio.create_subprocess_exec(*command, stdout=-1, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        here = (await process.stdout.readline()).decode().strip()
        while not listens(here):
            await asyncio.sleep(0.02)
        own_path = "" if "cdpbridge" in " ".join(command) else path
        yield f"http://{here}{own_path}", process.pid
    finally:
        process.terminate()
        await process.wait()


async def pings(connection: Connection) -> int:
    """One command after the other; how many messages that is."""
    for _ in range(PINGS):
        await connection.root.send("Browser.getVersion")
    return 2 * PINGS


async def burst(connection: Connection) -> int:
    """Events as fast as a page makes them."""
    page = await connection.new_tab()
    seen = 0
    done = asyncio.Event()

    def count(_event: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == EVENTS:
            done.set()

    page.on("Runtime.consoleAPICalled", count)
    await page.send("Runtime.enable")
    await page.send("Runtime.evaluate", {"expression": f"for (let i = 0; i < {EVENTS}; i++) console.log(i)"})
    await done.wait()
    await Tab(page).close()
    return EVENTS


async def picture(connection: Connection) -> float:
    """Seconds for a screenshot of about 5 MB."""
    page = await connection.new_tab()
    size = {"width": 1150, "height": 1150, "deviceScaleFactor": 1, "mobile": False}
    await page.send("Emulation.setDeviceMetricsOverride", size)
    noise = (
        "const c = Object.assign(document.createElement('canvas'), {width: 1150, height: 1150});"
        "const x = c.getContext('2d'); const d = x.createImageData(1150, 1150);"
        "for (let i = 0; i < d.data.length; i += 65536) crypto.getRandomValues(d.data.subarray(i, i + 65536));"
        "for (let i = 3; i < d.data.length; i += 4) d.data[i] = 255;"
        "x.putImageData(d, 0, 0); document.body.style.margin = 0; document.body.append(c)"
    )
    await page.send("Runtime.evaluate", {"expression": noise})
    await page.send("Page.captureScreenshot")
    start = time.perf_counter()
    reply = await page.send("Page.captureScreenshot")
    taken = time.perf_counter() - start
    assert 4_000_000 < len(reply["data"]) < 8_000_000, len(reply["data"])
    await Tab(page).close()
    return taken


class Bytes(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        if self.path == "/":
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"<p>hi\n")
            return
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Disposition", "attachment; filename=large.bin")
        self.send_header("Content-Length", str(BYTES))
        self.end_headers()
        chunk = bytes(1_000_000)
        for _ in range(BYTES // len(chunk)):
            self.wfile.write(chunk)

    def log_message(self, *_: object) -> None:
        pass


def plain(address: str, folder: Path) -> float:
    """Seconds for the bytes over plain HTTP, into a file."""
    start = time.perf_counter()
    with urlopen(f"{address}/large") as response, (folder / "plain.bin").open("wb", buffering=0) as file:
        while chunk := response.read(1_000_000):
            file.write(chunk)
    return time.perf_counter() - start


async def carried(browser: cdpbridge.Browser, address: str, folder: Path) -> float:
    """Seconds from the browser's own end of a download to the client's."""
    ends: dict[str, float] = {}
    both = asyncio.Event()

    def ended(name: str, event: dict[str, Any]) -> None:
        if event["state"] == "completed":
            ends[name] = time.perf_counter()
            if len(ends) == 2:
                both.set()

    async with open_tunnel(browser) as tunnel, connect(tunnel.cdp_url) as client:
        tab = Tab(await client.new_tab())
        await tab.goto(address)
        setting = {"behavior": "allow", "downloadPath": str(folder), "eventsEnabled": True}
        await client.root.send("Browser.setDownloadBehavior", setting)
        client.root.on("Browser.downloadProgress", lambda event: ended("client", event))
        direct = await browser.connection.attach(tab.target_id)
        direct.on("Page.downloadProgress", lambda event: ended("browser", event))
        await direct.send("Page.enable")
        await tab.evaluate("location.href = '/large'")
        await both.wait()
    assert (folder / "large.bin").stat().st_size == BYTES
    (folder / "large.bin").unlink()
    return ends["client"] - ends["browser"]


async def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bytes)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    site = f"http://127.0.0.1:{server.server_port}"
    rows: dict[str, list[float]] = {}
    # The client's copies are made in memory: on a disk, the second one waits until the kernel has written the first and the browser's.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory() as data, tempfile.TemporaryDirectory(dir=memory) as here:
        async with (
            cdpbridge.local(data_dir=data, browser_build="shell") as client,
            cdpbridge.open_browser(client) as browser,
        ):
            path = urlsplit(browser.cdp_url).path
            for _ in range(ROUNDS):
                for relay, command in commands(browser.cdp_url):
                    async with running(command, path) as (address, pid):
                        for name, work in (("one at a time", pings), ("in bursts", burst)):
                            async with connect(address) as connection:
                                before = cpu_seconds(pid)
                                messages = await work(connection)
                                spent = cpu_seconds(pid) - before
                                rows.setdefault(f"{name}, us a message: {relay}", []).append(
                                    spent / messages * 1e6
                                )
                async with connect(browser.cdp_url) as connection:
                    direct = await picture(connection)
                async with open_tunnel(browser) as tunnel, connect(tunnel.cdp_url) as connection:
                    through = await picture(connection)
                rows.setdefault("screenshot of 5 MB, % above direct", []).append((through / direct - 1) * 100)
                over_http = await asyncio.to_thread(plain, site, Path(here))
                by_tunnel = await carried(browser, site, Path(here))
                rows.setdefault("download of 1 GB, % of plain HTTP", []).append(over_http / by_tunnel * 100)
    server.shutdown()
    server.server_close()
    load = f"load {os.getloadavg()[0]:.1f}"
    print(
        f"{platform.python_version()} on {platform.machine()}, {os.cpu_count()} processors, {ROUNDS} rounds, {load}"
    )
    for name, values in rows.items():
        print(
            f"{name:48} {statistics.median(values):8.1f}   {json.dumps([round(each, 1) for each in values])}"
        )


if __name__ == "__main__":
    asyncio.run(main())
