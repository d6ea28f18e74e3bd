"""Claim: a rental with a profile of 50 MB takes little longer than one without, from the order to the answer of its stop.

    python benchmarks/profiles.py [--rounds N] [--builds shell,full] [--megabytes N] [--ready MIB]

In turns, on one server that keeps no browser ready: a rental without a profile, one with an empty one, one with a large one. The
large one has its bytes in a few large files and some hundred small ones, as a site's databases do. A create waits for nothing:
the profile of the round before is saved by then, which the last column shows. Medians of the wall clock in ms, and what is above
the rental without a profile of the same round. The floor is what `cp -r` takes for the large profile, which a rental pays that finds no
copy ready (`--ready 0`: `ready_profiles_mb`). Prints a table, writes results/profiles.json.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import _harness as harness
from rental import KEY, server

import cdpbridge

ROWS = ("without", "an empty profile", "a large profile")
SMALL_FILES, SMALL_BYTES = 400, 16 * 1024
LARGE_FILES = 10


def enlarge(profile: Path, megabytes: int) -> None:
    """Add so much to the profile of a browser as a site's data."""
    folder = profile / "Default" / "IndexedDB" / "https_example.com_0.indexeddb.leveldb"
    folder.mkdir(mode=0o700, parents=True)
    for number in range(SMALL_FILES):
        (folder / f"{number:06}.ldb").write_bytes(os.urandom(SMALL_BYTES))
    left = megabytes * 1024**2 - SMALL_FILES * SMALL_BYTES
    for number in range(LARGE_FILES):
        (folder / f"large-{number}.ldb").write_bytes(os.urandom(left // LARGE_FILES))


async def cycle(client: cdpbridge.AsyncClient, profile: str | None) -> tuple[float, float, float]:
    """Milliseconds of a create, of the stop, and until its profile is saved."""
    began = time.perf_counter()
    session = await client.browsers.create(**({} if profile is None else {"profile_id": profile}))
    created = time.perf_counter()
    await client.browsers.stop(session.id)
    stopped = time.perf_counter()
    if profile is not None:
        await client.profiles.get(profile)
    saved = time.perf_counter()
    return (created - began) * 1000, (stopped - created) * 1000, (saved - stopped) * 1000


def copy(version: Path) -> float:
    """Milliseconds of a plain copy."""
    with tempfile.TemporaryDirectory(prefix="profiles-") as name:
        began = time.perf_counter()
        subprocess.run(["cp", "-r", str(version), name], check=True)
        return (time.perf_counter() - began) * 1000


async def measure(
    build: str, rounds: int, megabytes: int, ready: int
) -> tuple[dict[str, list[tuple[float, float, float]]], float]:
    found: dict[str, list[tuple[float, float, float]]] = {row: [] for row in ROWS}
    with tempfile.TemporaryDirectory(prefix="profiles-") as name:
        Path(name).chmod(0o711)
        given = {"warm_browsers": 0, "max_load_per_cpu": 10_000, "ready_profiles_mb": ready}
        async with (
            server(f"{name}/data", build, runtime_dir=f"{name}/run", **given) as (base_url, _),
            cdpbridge.at(base_url, KEY) as client,
        ):
            empty, large = [str((await client.profiles.create()).id) for _ in range(2)]
            await cycle(client, empty)
            session = await client.browsers.create(profile_id=large)
            [profile] = Path(name, "run").glob("*/browsers/*/profile")
            enlarge(profile, megabytes)
            await client.browsers.stop(session.id)
            await client.profiles.get(large)
            for number in range(rounds + 1):
                for row, profile in zip(ROWS, (None, empty, large), strict=True):
                    times = await cycle(client, profile)
                    if number:  # the first warms up
                        found[row].append(times)
                harness.progress(f"{build}: round {number} of {rounds}")
            [version] = Path(name, "data", "profiles", large).glob("v*")
            size = sum(path.stat().st_size for path in version.rglob("*") if path.is_file())
            assert size > 0.9 * megabytes * 1024**2, f"the profile has only {size} bytes"
            floor = statistics.median([copy(version) for _ in range(5)])
    return found, floor


def above(rows: dict[str, list[tuple[float, float, float]]], row: str, stage: int) -> float:
    pairs = zip(rows[row], rows["without"], strict=True)
    return statistics.median(one[stage] - other[stage] for one, other in pairs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--builds", default="shell,full")
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--ready", type=int, default=1024)
    given = parser.parse_args()
    about = harness.machine()
    results = {
        build: asyncio.run(measure(build, given.rounds, given.megabytes, given.ready))
        for build in given.builds.split(",")
    }
    load = os.getloadavg()
    harness.progress("")
    print(
        f"{about['cpu']}; {about['system']}; Python {about['python']}; load {load[0]:.1f}; "
        f"medians of {given.rounds} rounds, ms"
    )
    table = [
        [
            build,
            row,
            *(f"{statistics.median(column):.0f}" for column in list(zip(*times, strict=True))[:2]),
            *(f"{above(rows, row, stage):+.0f}" for stage in (0, 1)),
            f"{statistics.median(each[2] for each in times):.0f}",
        ]
        for build, (rows, _) in results.items()
        for row, times in rows.items()
    ]
    harness.print_table(
        f"A rental with a profile of {given.megabytes} MB",
        ["build", "", "create", "stop", "create, above", "stop, above", "saved after"],
        table,
    )
    for build, (_, floor) in results.items():
        print(f"{build}: a plain copy of the large profile takes {floor:.0f} ms")
    harness.save("profiles", {"machine": about, "load": load, "options": vars(given), "builds": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
