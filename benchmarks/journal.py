"""What the journal adds to one rental: an intention, an id and an end on disk, one process or several at once.

    python benchmarks/journal.py [--rentals 200] [--folder DIR]

The folder should be on the disk that holds the platform's state folder: most of the time is the flush to it.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from cdpbridge import Journal, Receipt, Tariff
from cdpbridge.rental.journal import Entry, Outcome
from cdpbridge.rental.journal._owner import Owner

STEPS = ("intention", "id", "end")


def rent(path, rentals):
    """Milliseconds of each step of each rental."""
    journal = Journal(path)
    account, now = journal.fingerprint("key"), datetime.now(UTC)
    receipt = Receipt.of(Tariff(), timedelta(minutes=1))
    rows = []
    for _ in range(rentals):
        entry = Entry(uuid4(), "https://bench.test", account, Owner.this_process(), Tariff(), now)
        times = [time.perf_counter()]
        for step in (
            lambda: journal.intend(entry),  # noqa: B023  # called at once
            lambda: journal.rented(entry.rental, uuid4(), started_at=now, timeout_at=now),  # noqa: B023
            lambda: journal.end(entry.rental, Outcome.STOPPED, receipt, now=now),  # noqa: B023
        ):
            step()
            times.append(time.perf_counter())
        rows.append([(end - begin) * 1e3 for begin, end in itertools.pairwise(times)])
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rentals", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        print(f"journal: median ms of {options.rentals} rentals, on disk after each step")
        print(f"{'processes':>9} " + " ".join(f"{step:>10}" for step in (*STEPS, "rental", "p99")))
        for processes in (1, 4):
            path = Path(folder) / f"{processes}.sqlite3"
            with ProcessPoolExecutor(processes) as pool:
                shares = [pool.submit(rent, path, options.rentals // processes) for _ in range(processes)]
                rows = [row for share in shares for row in share.result()]
            totals = sorted(map(sum, rows))
            figures = [statistics.median(step) for step in zip(*rows, strict=True)]
            figures += [statistics.median(totals), totals[int(len(totals) * 0.99) - 1]]
            print(f"{processes:>9} " + " ".join(f"{figure:>10.2f}" for figure in figures))


if __name__ == "__main__":
    main()
