"""Claim: with every feature on, the CDP client costs little more CPU a message than the barest Python client can.

Workloads against a fake browser (`_server.py`), every client in one run: `python benchmarks/cdp_fake.py [--quick]`.
The floor is `_floor.py`. Prints a table per workload and the verdicts, writes results/cdp_fake.json and charts/cdp_fake.svg.
Exit status 1 when a target is missed.

The row `cdpbridge` uses typed commands, built for each message, and typed events; `cdpbridge, dicts` uses method names and dicts. The
floor's commands are method names and dicts for both; its events are what ours are compared with.

    build               `Runtime.evaluate("1+1")` as a value, not sent
    sequential          one command at a time
    in-flight           100 tasks, each with one command at a time, on one session
    sessions            the same on 100 flat sessions of one connection
    events-600-heard    a flood of 600 B Network.requestWillBeSent with one handler that reads one field
    events-600-unheard  the same when nobody listens
    events-2000-...     the same with events of 2 kB
    large               one reply of 32 MB: CPU, peak memory, longest turn of the event loop (in Python its CPU, of the
                        process that the user's code runs in; in Node its time)
    idle                connections that do nothing: memory of each
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import _harness as harness
from _harness import Client, Series

PAYLOAD = 32 * 1024 * 1024


@dataclass(frozen=True)
class Workload:
    """What is measured, how often, and what our client must reach.

    Attributes:
        amount: Messages of a round for the fastest clients.
        field: The figure compared.
        times_floor: Our figure is at most this multiple of the floor's.
        times_peer: Every peer's figure is at least this multiple of ours.
        times_floor_too: Other figures that are at most a multiple of the floor's.
        most: Our figures may be at most this, whatever others have.
    """

    key: str
    title: str
    amount: int
    field: str = "cpu_us"
    unit: str = "µs"
    times_floor: float | None = None
    times_peer: float | None = 1
    times_floor_too: tuple[tuple[str, float], ...] = ()
    most: tuple[tuple[str, float], ...] = ()
    shown: tuple[tuple[str, str], ...] = (("per_second", "per second"),)


WORKLOADS = [
    Workload("build", "a typed command, built", 200_000, times_peer=None, most=(("cpu_us", 0.4),)),
    Workload("sequential", "one command at a time", 2_000, times_floor=1.25),
    Workload("in-flight", "100 commands in flight", 20_000, times_floor=1.5),
    Workload("sessions", "100 flat sessions at once", 20_000, times_floor=1.5),
    Workload(
        "events-600-heard",
        "600 B event, one handler",
        60_000,
        times_floor=1.4,
        shown=(("per_second", "per second"), ("lost", "lost")),
    ),
    Workload(
        "events-2000-heard",
        "2 kB event, one handler",
        40_000,
        times_floor=1.4,
        shown=(("per_second", "per second"), ("lost", "lost")),
    ),
    Workload("events-600-unheard", "600 B event, nobody listens", 80_000, times_floor=1.0),
    Workload("events-2000-unheard", "2 kB event, nobody listens", 60_000, times_floor=1.0),
    Workload(
        "large",
        "one reply of 32 MB",
        PAYLOAD,
        "cpu_ms",
        "ms",
        times_floor=1.2,
        times_floor_too=(("blocked_ms", 1.0),),
        most=(("memory_ratio", 2.2),),
        shown=(
            ("wall_ms", "wall ms"),
            ("memory_ratio", "memory / payload"),
            ("blocked_ms", "longest turn, ms"),
        ),
    ),
    Workload(
        "idle",
        "idle connections, each",
        500,
        "kb_each",
        "kB",
        most=(("kb_each", 20),),
        shown=(("connect_ms", "connect, CPU ms"), ("idle_percent", "idle, % of a core")),
    ),
]
NOISE = 1.05
"""A target of 1.0 means equal; two runs of one program differ by this much in the median."""
COMMANDS = {"sequential", "in-flight", "sessions"}
TITLES = {"full": "generated class", "one-field": "class of one field"}


def rows_of(workload: Workload, peers: Sequence[Client]) -> list[Client]:
    """The clients of a workload: ours and the floor on asyncio and on uvloop, then the peers."""
    variants = [("cdpbridge", ""), ("bare floor", "")]
    if workload.key == "build":
        return [_row("cdpbridge", "", "")]
    if workload.key in COMMANDS:
        variants = [("cdpbridge", ""), ("cdpbridge", "dicts"), ("bare floor", "")]
    if workload.key.endswith("-unheard"):
        variants = [("cdpbridge", ""), ("bare floor", ""), ("bare floor", "peek")]
    if workload.key.endswith("-heard"):
        variants = [
            *(("cdpbridge", variant) for variant in ("", "dicts", "one-field")),
            *(("bare floor", variant) for variant in ("full", "dicts", "")),
        ]
    return [_row(name, variant, loop) for loop in ("", "uvloop") for name, variant in variants] + [*peers]


def _row(name: str, variant: str, loop: str) -> Client:
    kind, adapter = ("ours", "cdpbridge_client") if name == "cdpbridge" else ("floor", "floor_client")
    label = ", ".join(part for part in (name, TITLES.get(variant, variant), loop) if part)
    return harness.python_client(label, kind, adapter, f"{variant} {loop}".strip())


def amount_for(workload: Workload, client: Client, scale: float) -> int:
    if workload.key == "large":
        return workload.amount
    if workload.key == "idle":
        return 50 if client.adapter == "playwright_client" else workload.amount
    return max(200, int(workload.amount * client.speed * scale))


def pairs(workload: Workload) -> list[tuple[str, str]]:
    """Which of our rows is held against which floor: like against like."""
    same = [("cdpbridge", "bare floor")]
    if workload.key in COMMANDS:
        same += [("cdpbridge, dicts", "bare floor")]
    if workload.key.endswith("-unheard"):
        same = [("cdpbridge", "bare floor, peek")]
    if workload.key.endswith("-heard"):
        same = [
            ("cdpbridge", "bare floor, generated class"),
            ("cdpbridge, dicts", "bare floor, dicts"),
            ("cdpbridge, class of one field", "bare floor"),
        ]
    return same + [(f"{ours}, uvloop", f"{floor}, uvloop") for ours, floor in same]


def verdicts(
    workload: Workload, figures: dict[str, dict[str, Series]], peers: Sequence[str]
) -> list[Verdict]:
    found = []
    main = {name: series[workload.field] for name, series in figures.items()}
    if workload.times_floor is not None:
        for ours, floor in pairs(workload):
            value = harness.ratio(main[ours], main[floor])
            least = harness.least_ratio(main[ours], main[floor])
            limit = workload.times_floor
            met = value is not None and value <= (limit if limit > 1 else NOISE)
            said = f"{ours}: {harness.number(value)} x {floor} (best rounds {harness.number(least)})"
            found.append(Verdict(workload.title, said, f"at most {limit} x", met))
    for field, limit in workload.times_floor_too:
        for ours, floor in pairs(workload):
            value = harness.ratio(figures[ours][field], figures[floor][field])
            met = value is not None and value <= (limit if limit > 1 else NOISE)
            said = f"{ours}: {field} {harness.number(value)} x {floor}"
            found.append(Verdict(workload.title, said, f"at most {limit} x", met))
    if workload.times_peer is not None:
        for peer in peers:
            value = harness.ratio(main[peer], main["cdpbridge"])
            if value is None:
                found.append(Verdict(workload.title, f"{peer}: {main[peer].error}", "not compared", True))
                continue
            said = f"{peer}: {harness.number(value)} x cdpbridge"
            found.append(
                Verdict(
                    workload.title, said, f"at least {workload.times_peer} x", value >= workload.times_peer
                )
            )
    for field, limit in workload.most:
        value = figures["cdpbridge"][field].median
        met = value is not None and value <= limit
        found.append(
            Verdict(workload.title, f"cdpbridge: {field} {harness.number(value)}", f"at most {limit}", met)
        )
    return found


def times(figures: dict[str, Series], name: str, floor: str) -> list[str]:
    """The two columns that compare a row with its floor; empty where there is none."""
    if floor not in figures:
        return ["-", "-"]
    one, other = figures[name], figures[floor]
    return [harness.number(harness.ratio(one, other)), harness.number(harness.least_ratio(one, other))]


@dataclass(frozen=True)
class Verdict:
    workload: str
    said: str
    target: str
    met: bool


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 short rounds")
    parser.add_argument("--rounds", type=int, help="rounds of each workload; default 5")
    parser.add_argument("--only", nargs="+", metavar="WORKLOAD", help="these workloads")
    parser.add_argument(
        "--clients", nargs="*", metavar="NAME", help="these clients besides the floor and ours; may be none"
    )
    options = parser.parse_args()
    rounds = options.rounds or (2 if options.quick else 5)
    scale = 0.25 if options.quick else 1.0
    peers = harness.peers() if options.clients != [] else []
    if options.clients is not None:
        peers = [client for client in peers if client.name in options.clients]
    about = harness.machine()
    print(harness.describe_machine(about))
    versions = [f"{client.name} {client.version}" for client in peers if client.version]
    print(f"peers: {', '.join(versions)}; {rounds} rounds; CPU of the client, median (least..most)")

    report: dict[str, Any] = {"machine": about, "peers": versions, "rounds": rounds, "workloads": {}}
    groups, judged = [], []
    started = time.monotonic()
    with harness.server() as url:
        for workload in WORKLOADS:
            if options.only and workload.key not in options.only:
                continue
            rows = rows_of(workload, peers)
            fields = (workload.field, *(name for name, _ in workload.shown))
            floors = {
                **dict.fromkeys((client.name for client in rows), "bare floor"),
                **dict(pairs(workload)),
            }
            turns = min(rounds, 3) if workload.key == "idle" else rounds

            def one(client: Client, workload: Workload = workload) -> dict[str, Any]:
                return harness.measure(client, workload.key, url, amount_for(workload, client, scale))

            figures = harness.interleave(rows, turns, one, fields, title=workload.title)
            main_figures = {name: series[workload.field] for name, series in figures.items()}
            harness.print_table(
                f"{workload.key}: {workload.title}",
                ["client", workload.unit, "x floor", "best x floor", *(title for _, title in workload.shown)],
                [
                    [
                        client.name,
                        main_figures[client.name].text(),
                        *times(main_figures, client.name, floors[client.name]),
                        *(harness.number(figures[client.name][name].median) for name, _ in workload.shown),
                    ]
                    for client in rows
                ],
            )
            judged += verdicts(workload, figures, [client.name for client in peers])
            report["workloads"][workload.key] = {
                client.name: {name: series.values for name, series in figures[client.name].items()}
                | {"error": figures[client.name][workload.field].error}
                for client in rows
            }
            groups.append(
                (
                    workload.title,
                    workload.unit,
                    [
                        (
                            client.name,
                            client.kind,
                            figures[client.name][workload.field].median,
                            figures[client.name][workload.field].error,
                        )
                        for client in rows
                    ],
                )
            )
    harness.print_table(
        "targets",
        ["workload", "found", "target", ""],
        [[one.workload, one.said, one.target, "met" if one.met else "MISSED"] for one in judged],
    )
    print(f"\ntook {time.monotonic() - started:.0f} s")
    report["verdicts"] = [vars(one) for one in judged]
    if not options.quick and not options.only and not options.clients:
        harness.chart("cdp_fake", "CPU of the client a message, fake browser", groups)
    harness.save("cdp_fake", report)
    return 0 if all(one.met for one in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
