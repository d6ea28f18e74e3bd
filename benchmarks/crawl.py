"""Claim: a crawl with our Scrapy handler is faster than with scrapy-playwright, and takes half the client's CPU.

Crawls the Python documentation of Debian's python3-doc (over 500 pages), served on loopback by nginx, or by Python's
http.server where that is missing: `python benchmarks/crawl.py [--rounds N] [--tabs N] [--folder NAME] [--ways NAME ...]
[--keep DIR]`. One
browser, the same number of tabs, the same Chromium, the same extraction, nothing blocked; see _crawlers.py. Each round runs
every way once, one after another; figures are medians of the rounds. Checked: the results of all ways are equal.

* pages/s: from the first request to the last page, the start of the browser included.
* client: CPU of the crawler's process and of Playwright's driver. Peak memory: of the same (PSS, sampled).
* server: CPU of the embedded server, which only our handler needs here; it would run elsewhere with a hosted browser.
* Chromium: CPU of its processes, as far as they lived to the end; renderers that ended before are missing.
"""

from __future__ import annotations

import argparse
import http.server
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import _harness as harness
import psutil
from _crawlers import WAYS

from cdpbridge.chromium import find

DOCUMENTATION = Path("/usr/share/doc/python3/html")
SAMPLE_SECONDS = 0.5
TIMEOUT_SECONDS = 600


# --- the site ---------------------------------------------------------------------------------------------------------


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Python's own file server, with connections kept."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def served(folder: Path, scratch: Path) -> Iterator[str]:
    """Its address while the folder is served."""
    nginx = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if nginx is None:
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = scratch / "nginx.conf"
    temporary = "".join(
        f"{kind}_temp_path {scratch}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config.write_text(
        f"pid {scratch}/nginx.pid; error_log stderr crit; daemon off; worker_processes 1; events {{}}\n"
        f"http {{ include /etc/nginx/mime.types; access_log off; {temporary}\n"
        f"server {{ listen 127.0.0.1:{port}; root {folder}; }} }}\n"
    )
    # The folder may be closed to nginx's own user.
    user = "user root; " if os.geteuid() == 0 else ""
    process = subprocess.Popen([nginx, "-c", str(config), "-g", user])
    try:
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


# --- one crawl --------------------------------------------------------------------------------------------------------


@dataclass
class Figures:
    """Of one crawl. CPU in seconds, memory in bytes."""

    pages: int
    seconds: float
    client: float
    server: float
    chromium: float
    memory: int
    results: dict[str, Any]

    @property
    def rate(self) -> float:
        """Pages a second."""
        return self.pages / self.seconds

    def per_page(self, cpu: float) -> float:
        """Milliseconds of CPU a page."""
        return cpu / self.pages * 1000


def kind(process: psutil.Process) -> str:
    """Whose a process is."""
    with suppress(psutil.Error):
        if "chrom" in process.name() or "headless" in process.name():
            return "chromium"
        if "cdpbridge.server" in process.cmdline():
            return "server"
    return "client"


def crawl(way: str, start: str, tabs: int, chromium: str, out: Path) -> Figures:
    """One crawl in a process of its own."""
    out.mkdir(parents=True)
    environment = os.environ | {
        "CDPBRIDGE_CHROMIUM": chromium,
        "CDPBRIDGE_DATA_DIR": str(out / "data"),
        "CRAWLEE_STORAGE_DIR": str(out / "storage"),
    }
    command = [sys.executable, str(Path(__file__).with_name("_crawlers.py")), way, start, str(out)]
    process = subprocess.Popen(
        [*command, "--tabs", str(tabs), "--chromium", chromium],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    watched = psutil.Process(process.pid)
    peak = 0
    done = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(SAMPLE_SECONDS):
            with suppress(psutil.Error):
                ours = [
                    each for each in [watched, *watched.children(recursive=True)] if kind(each) == "client"
                ]
                peak = max(peak, sum(each.memory_full_info().pss for each in ours))

    sampler = threading.Thread(target=sample)
    sampler.start()
    killer = threading.Timer(TIMEOUT_SECONDS, process.kill)
    killer.start()
    try:
        line = process.stdout.readline()
        done.set()
        sampler.join()
        if not line:
            raise SystemExit(f"{way} ended with status {process.wait()}")
        told = json.loads(line)
        cpu = {"client": 0.0, "server": 0.0, "chromium": 0.0}
        for each in [watched, *watched.children(recursive=True)]:
            with suppress(psutil.Error):
                times = each.cpu_times()
                cpu[kind(each)] += times.user + times.system
    finally:
        done.set()
        process.stdin.close()
        process.wait()
        killer.cancel()
        process.stdout.close()
    lines = [json.loads(each) for each in (out / "pages.jsonl").read_text().splitlines()]
    return Figures(
        told["pages"],
        told["seconds"],
        cpu["client"],
        cpu["server"],
        cpu["chromium"],
        peak,
        {each["url"]: each for each in lines} | {"screenshots": len(list(out.glob("*.png")))},
    )


# --- all of them ------------------------------------------------------------------------------------------------------


def differences(figures: dict[str, Figures]) -> list[str]:
    """What differs between the ways' results."""
    (first, base), *others = figures.items()
    found = []
    for way, other in others:
        pages = base.results.keys() | other.results.keys()
        unequal = sorted(page for page in pages if base.results.get(page) != other.results.get(page))
        if unequal:
            found.append(
                f"{first} and {way} differ in {len(unequal)} of {len(pages)} results, e.g. {unequal[0]}"
            )
    return found


def table(rounds: list[dict[str, Figures]]) -> str:
    """The medians as a Markdown table."""
    lines = [
        "| way | pages/s | client, ms/page | server, ms/page | Chromium, ms/page | peak memory, MiB | pages/s to ours | client CPU to ours |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ours = next(iter(rounds[0]))

    def median(read: Callable[[Figures, Figures], float], way: str) -> float:
        return statistics.median(read(each[way], each[ours]) for each in rounds)

    for way in rounds[0]:
        cells = [
            f"{median(lambda one, _: one.rate, way):.1f}",
            f"{median(lambda one, _: one.per_page(one.client), way):.1f}",
            f"{median(lambda one, _: one.per_page(one.server), way):.1f}",
            f"{median(lambda one, _: one.per_page(one.chromium), way):.1f}",
            f"{median(lambda one, _: one.memory / 2**20, way):.0f}",
            f"{median(lambda one, our: one.rate / our.rate, way):.2f}",
            f"{median(lambda one, our: one.per_page(one.client) / our.per_page(our.client), way):.2f}",
        ]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Crawl in every way; 1 when the results differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tabs", type=int, default=8)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--folder", default="", help="crawl a part, e.g. c-api")
    parser.add_argument("--keep", type=Path, help="folder for the results, screenshots included")
    given = parser.parse_args()
    if not DOCUMENTATION.exists():
        raise SystemExit("there is no documentation to crawl: apt-get install python3-doc")
    chromium = str(find("shell").path if shutil.which("chromium-headless-shell") else find().path)
    rounds, differ = [], []
    with tempfile.TemporaryDirectory() as scratch, served(DOCUMENTATION.resolve(), Path(scratch)) as address:
        for number in range(given.rounds):
            figures = {}
            for way in given.ways:
                out = (given.keep or Path(scratch)) / f"{number}" / way
                figures[way] = crawl(
                    way,
                    f"{address}/{given.folder}/index.html".replace("//index", "/index"),
                    given.tabs,
                    chromium,
                    out,
                )
                one = figures[way]
                print(
                    f"round {number + 1}: {way}: {one.pages} pages in {one.seconds:.1f} s, {one.rate:.1f} pages/s, "
                    f"client {one.per_page(one.client):.1f} ms/page",
                    file=sys.stderr,
                )
            differ += differences(figures)
            rounds.append(figures)
    print(
        f"\n{rounds[0][given.ways[0]].pages} pages, one browser, {given.tabs} tabs, {given.rounds} rounds\n"
    )
    print(table(rounds))
    print(*differ, sep="\n")
    harness.RESULTS.mkdir(exist_ok=True)
    (harness.RESULTS / "crawl.json").write_text(
        json.dumps(
            [
                {way: {k: v for k, v in vars(one).items() if k != "results"} for way, one in each.items()}
                for each in rounds
            ],
            indent=1,
        )
    )
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
