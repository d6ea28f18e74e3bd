"""Claim: nothing leaks, whatever dies.

Each trial rents browsers from a server through a TCP relay and strikes one of them all at a random point: the client, the
server, Chromium, or the network. What died starts again on the same data, and `cdpbridge reap` follows. Then no Chromium may be
alive and no browser active, no row of the journal open, the balance must be the ledger's sum, each browser's price right, and no
order may have been paid twice. `python benchmarks/leaks.py [--trials N | --each N] [--seed N] [--replay N]`: the seed of a run
gives the seeds of its trials; `--cluster` strikes two servers, two workers, PostgreSQL, their cables and clocks, each on a
machine of its own (Linux, as root); `--replay` repeats one by its own. The point is counted in messages, so that a replay hits it again
as exactly as the programs repeat themselves. Writes results/leaks.json; exit status 1 when something leaked.

A create that was lost with its client, and of which no browser came, stays in the journal for ten minutes, as an answer may
still be on its way. The trials do not wait for that: a second `reap` is told that the ten minutes are over.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import signal
import statistics
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import _harness as harness
from _trials import VICTIMS, Trial, World

_SAID_EVERY = 50  # trials, for a log


async def run_all(
    seeds: list[int], worlds: int, world: type[World], trial: type[Trial]
) -> list[dict[str, Any]]:
    """A row for each trial; those that are done when SIGTERM or Ctrl-C comes."""
    loop = asyncio.get_running_loop()
    rows: list[dict[str, Any]] = []
    left = iter(seeds)
    working = [
        asyncio.create_task(_work(left, rows, len(seeds), world, trial))
        for _ in range(min(worlds, len(seeds)))
    ]
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: [each.cancel() for each in working])
    await asyncio.wait(working)
    for each in working:
        if not each.cancelled():
            each.result()
    harness.progress("")
    return rows


async def _work(
    left: Iterator[int],
    rows: list[dict[str, Any]],
    count: int,
    world_type: type[World],
    trial_type: type[Trial],
) -> None:
    while True:
        async with world_type() as world:
            for seed in left:
                trial = trial_type(seed)
                try:
                    row = await world.run(trial)
                except Exception:  # noqa: BLE001  # a row of its own, and the others go on
                    row = trial.broken(traceback.format_exc())
                rows.append(row)
                if row["leaks"]:
                    print(f"seed {seed}: {row['what']}: {'; '.join(row['leaks'])}\n{row['log']}", flush=True)
                harness.progress(f"{len(rows)} of {count}: {row['what']}, {row['seconds']} s")
                if len(rows) % _SAID_EVERY == 0:
                    print(f"{len(rows)} of {count}", flush=True)
                if row["leaks"]:
                    break  # what is left there is not the next one's fault
            else:
                return


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--each", type=int, help="trials of each victim, instead of `--trials`")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the run")
    parser.add_argument("--replay", type=int, help="seed of one trial to repeat")
    parser.add_argument(
        "--worlds", type=int, default=2, help="trials side by side, each with a server of its own"
    )
    parser.add_argument(
        "--cluster", action="store_true", help="two servers on one PostgreSQL, and two workers"
    )
    given = parser.parse_args()
    world, trial_type, victims, name = World, Trial, VICTIMS, "leaks"
    if given.cluster:
        import _cluster as cluster

        world, trial_type, victims, name = (
            cluster.Cluster,
            cluster.ClusterTrial,
            cluster.VICTIMS,
            "leaks_cluster",
        )
    about = harness.machine()
    print(harness.describe_machine(about))
    drawn = _seeds(random.Random(given.seed), given.each, trial_type)
    count = given.trials if given.each is None else given.each * len(victims)
    seeds = list(itertools.islice(drawn, count))
    if given.replay is not None:
        seeds = [given.replay]
    print(f"seed {given.seed}" if given.replay is None else f"trial {given.replay}", flush=True)
    began = time.monotonic()
    with cluster.laid() if given.cluster else nullcontext():
        rows = asyncio.run(run_all(seeds, given.worlds, world, trial_type))
    seconds = time.monotonic() - began
    if not rows:
        return 1
    harness.print_table(
        "what was struck",
        ["", "trials", "orders", "rentals", "left to reap", "for ten minutes", "too late", "leaked"],
        [_summary(victim, [row for row in rows if row["victim"] == victim]) for victim in victims]
        + [_summary("all", rows)],
    )
    print(
        f"{len(rows)} trials in {seconds:.0f} s, {seconds / len(rows):.2f} s each; "
        f"one takes {statistics.median(row['seconds'] for row in rows):.2f} s (median)"
    )
    harness.save(name, {"machine": about, "seed": given.seed, "seconds": round(seconds), "rows": rows})
    return 1 if any(row["leaks"] for row in rows) else 0


def _seeds(chance: random.Random, each: int | None, trial: type[Trial]) -> Iterator[int]:
    """Seeds of trials, without end; at most `each` of a victim, if that is given."""
    drawn: Counter[str] = Counter()
    while True:
        seed = chance.randrange(10**9)
        victim = trial(seed).victim
        if each is None or drawn[victim] < each:
            drawn[victim] += 1
            yield seed


def _summary(name: str, rows: list[dict[str, Any]]) -> list[str]:
    counted = ("orders", "rentals", "left_to_reap", "left_for_ten_minutes", "too_late")
    return [
        name,
        str(len(rows)),
        *(str(sum(row[each] for row in rows)) for each in counted),
        str(sum(bool(row["leaks"]) for row in rows)),
    ]


if __name__ == "__main__":
    sys.exit(main())
