"""Claim: on a real Chromium, too, the CDP client costs little more CPU than the barest Python client, and it is soonest ready.

Chromium headless shell on this machine, started with `cdpbridge.chromium`, on one core, the clients on another, every client
in one run: `python benchmarks/cdp_chromium.py [--quick]`. Prints a table per workload and the verdicts, writes
results/cdp_chromium.json and charts/cdp_chromium.svg. Exit status 1 when a target is missed.

    evaluate   Runtime.evaluate, 100 in flight
    console    a page writes to its console as fast as it can; one handler
    network    a page with 100 resources is loaded again and again; ten typed handlers; CPU per event
    first      from the address to the first answer of a new page, in milliseconds
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import _harness as harness
from _harness import Client, Series

from cdpbridge.chromium import Chromium

RESOURCES = 100


class Page(BaseHTTPRequestHandler):
    """A page of a hundred small pictures, scripts and requests."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        kind, body = "text/plain", b"x" * 500
        if self.path.startswith("/page"):
            kind = "text/html"
            tags = [
                f'<img src="/{number}.svg{self.path[5:]}">'
                if number % 2
                else f'<script src="/{number}.js{self.path[5:]}"></script>'
                for number in range(RESOURCES)
            ]
            body = f"<!doctype html><title>bench</title>{''.join(tags)}".encode()
        elif ".svg" in self.path:
            kind, body = "image/svg+xml", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
        elif ".js" in self.path:
            kind, body = "text/javascript", b"window.seen = 1;"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Nothing: thousands of lines nobody reads."""


@contextmanager
def page() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/page"
    finally:
        server.shutdown()
        server.server_close()


WORKLOADS: list[tuple[str, str, int, str, str, float | None]] = [
    ("evaluate", "Runtime.evaluate, 100 in flight", 5_000, "cpu_us", "µs", 1.5),
    ("console", "console flood, a line", 5_000, "cpu_us", "µs", 1.3),
    ("network", "network event, ten typed handlers", 5, "cpu_us", "µs", None),
    ("first", "address to first answer of a new page", 1, "ms", "ms", None),
]
TIMES_PLAYWRIGHT = 3.0
SHOWN = {
    "first": (("with_driver_ms", "with driver"), ("cpu_ms", "CPU ms")),
    "network": (("per_second", "per second"), ("events", "events")),
}


async def run(options: argparse.Namespace) -> int:
    rounds = options.rounds or (2 if options.quick else 5)
    everyone = harness.clients()
    if options.clients is not None:
        everyone = [client for client in everyone if client.kind != "peer" or client.name in options.clients]
    about = harness.machine()
    print(harness.describe_machine(about))
    judged: list[tuple[str, str, str, bool]] = []
    groups: list[Any] = []
    report: dict[str, Any] = {"machine": about, "rounds": rounds, "workloads": {}}
    started = time.monotonic()
    core, _ = harness.cores()
    if core is not None:
        os.sched_setaffinity(0, {core})  # Chromium inherits it
    with page() as address:
        os.environ["BENCH_PAGE"] = address
        for key, title, amount, field, unit, limit in WORKLOADS:
            if options.only and key not in options.only:
                continue
            shown = SHOWN.get(key, (("per_second", "per second"),))
            async with await Chromium.start() as chromium:  # a new one: pages of the last workload are gone
                url = f"ws://127.0.0.1:{chromium.port}{chromium.browser_path}"
                report["chromium"] = chromium.build.kind

                def one(
                    client: Client, key: str = key, amount: int = amount, url: str = url
                ) -> dict[str, Any]:
                    share = max(client.speed, 0.2) * (0.3 if options.quick else 1)
                    count = max(1, int(amount * share)) if key in {"evaluate", "console"} else amount
                    return harness.measure(client, f"chromium-{key}", url, count)

                fields = (field, *(name for name, _ in shown))
                figures = await asyncio.to_thread(
                    harness.interleave, everyone, rounds, one, fields, title=title
                )
            tell(key, title, unit, field, shown, everyone, figures)
            judge(key, title, field, limit, figures, judged)
            report["workloads"][key] = {
                name: {each: series.values for each, series in found.items()} | {"error": found[field].error}
                for name, found in figures.items()
            }
            groups.append(
                (
                    title,
                    unit,
                    [
                        (
                            client.name,
                            client.kind,
                            figures[client.name][field].median,
                            figures[client.name][field].error,
                        )
                        for client in everyone
                    ],
                )
            )
    harness.print_table(
        "targets",
        ["workload", "found", "target", ""],
        [[*each[:3], "met" if each[3] else "MISSED"] for each in judged],
    )
    print(f"\ntook {time.monotonic() - started:.0f} s")
    report["verdicts"] = [
        dict(zip(("workload", "said", "target", "met"), each, strict=True)) for each in judged
    ]
    if not options.quick and not options.only and not options.clients:
        harness.chart("cdp_chromium", "CPU of the client a message, real Chromium", groups)
    harness.save("cdp_chromium", report)
    return 0 if all(each[3] for each in judged) else 1


def tell(  # noqa: PLR0917  # a table's parts
    key: str,
    title: str,
    unit: str,
    field: str,
    shown: Any,
    everyone: list[Client],
    figures: dict[str, dict[str, Series]],
) -> None:
    floor = figures["bare floor"][field]
    harness.print_table(
        f"{key}: {title}",
        ["client", unit, "x floor", "best x floor", *(name for _, name in shown)],
        [
            [
                client.name,
                figures[client.name][field].text(),
                harness.number(harness.ratio(figures[client.name][field], floor)),
                harness.number(harness.least_ratio(figures[client.name][field], floor)),
                *(harness.number(figures[client.name][name].median) for name, _ in shown),
            ]
            for client in everyone
        ],
    )


def judge(  # noqa: PLR0917  # a table's parts
    key: str,
    title: str,
    field: str,
    limit: float | None,
    figures: dict[str, dict[str, Series]],
    judged: list[tuple[str, str, str, bool]],
) -> None:
    if limit is not None:
        for suffix in ("", ", uvloop"):
            ours, floor = figures[f"cdpbridge{suffix}"][field], figures[f"bare floor{suffix}"][field]
            value, least = harness.ratio(ours, floor), harness.least_ratio(ours, floor)
            said = f"cdpbridge{suffix}: {harness.number(value)} x the floor (best rounds {harness.number(least)})"
            judged.append((title, said, f"at most {limit} x", value is not None and value <= limit))
    if key == "first" and "Playwright" in figures:
        value = harness.ratio(figures["Playwright"][field], figures["cdpbridge"][field])
        said = f"Playwright: {harness.number(value)} x cdpbridge, its driver running already"
        met = value is None or value >= TIMES_PLAYWRIGHT
        judged.append((title, said, f"at least {TIMES_PLAYWRIGHT:.0f} x", met))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 short rounds")
    parser.add_argument("--rounds", type=int, help="rounds of each workload; default 5")
    parser.add_argument("--only", nargs="+", metavar="WORKLOAD", help="these workloads")
    parser.add_argument(
        "--clients", nargs="+", metavar="NAME", help="these clients besides the floor and ours"
    )
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
