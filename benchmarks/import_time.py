"""Claim: `import cdpbridge` takes less than 150 ms of CPU, and a protocol domain less than 40 ms on top.

Each row is a fresh interpreter with its .pyc files present; CPU is `time.process_time()` inside it. Run it with
`python benchmarks/import_time.py`; it prints a table and writes benchmarks/results/import_time.json.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

RUNS = 15
LIMIT_PACKAGE_MS = 150
LIMIT_DOMAIN_MS = 40
DOMAINS = ("Page", "Network", "Runtime", "DOM", "CSS")
RESULTS = Path(__file__).with_name("results") / "import_time.json"

# What is measured, after what: (row, code run before the clock starts, code under the clock, limit in ms).
ROWS: list[tuple[str, str, str, float | None]] = [
    ("python itself", "", "pass", None),
    ("msgspec", "", "import msgspec", None),
    ("import cdpbridge", "", "import cdpbridge", LIMIT_PACKAGE_MS),
    ("cdpbridge.protocol", "import cdpbridge, msgspec", "import cdpbridge.protocol", None),
    *(
        (
            f"protocol.{name}",
            "import cdpbridge, cdpbridge.protocol",
            f"from cdpbridge.protocol import {name}",
            LIMIT_DOMAIN_MS,
        )
        for name in DOMAINS
    ),
    (
        "first decoder of Network.RequestWillBeSent",
        "from cdpbridge.protocol import Network; from cdpbridge.protocol._base import decoder_for",
        "decoder_for(Network.RequestWillBeSent)",
        None,
    ),
    (
        "all 59 domains",
        "import cdpbridge, cdpbridge.protocol as p",
        "[getattr(p, name) for name in p.__all__]",
        None,
    ),
]


def cpu_ms(before: str, code: str) -> float:
    """CPU milliseconds of `code` in a fresh interpreter; the interpreter's own start when there is none."""
    program = (
        f"import time\n{before}\nt = time.process_time()\n{code}\nprint((time.process_time() - t) * 1e3)"
    )
    if code == "pass":
        program = "import time\nprint(time.process_time() * 1e3)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout)


def slowest(code: str, count: int = 6) -> list[tuple[str, float]]:
    """The modules with the largest own time, by `-X importtime`, in ms."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True
    )
    rows = []
    for line in done.stderr.splitlines()[1:]:
        own, _, name = line.removeprefix("import time:").split("|")
        if own.strip().isdigit():
            rows.append((name.strip(), int(own) / 1e3))
    return sorted(rows, key=lambda row: -row[1])[:count]


def machine() -> dict[str, object]:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        cpu = f"{names[0]} x{len(names)}" if names else cpu
    return {"cpu": cpu, "system": platform.platform(), "python": platform.python_version()}


def main() -> int:
    about = machine()
    print(f"{about['cpu']}; {about['system']}; Python {about['python']}; {RUNS} runs, CPU in ms")
    print(f"{'':44} {'median':>8} {'least':>8} {'most':>8} {'limit':>8}")
    rows, failed = [], False
    for name, before, code, limit in ROWS:
        cpu_ms(before, code)  # writes the .pyc files
        times = [cpu_ms(before, code) for _ in range(RUNS)]
        median = statistics.median(times)
        verdict = "" if limit is None else f"{limit:8.0f} {'ok' if median < limit else 'TOO SLOW'}"
        failed |= limit is not None and median >= limit
        print(f"{name:44} {median:8.1f} {min(times):8.1f} {max(times):8.1f} {verdict}")
        rows.append(
            {
                "name": name,
                "median_ms": median,
                "least_ms": min(times),
                "most_ms": max(times),
                "limit_ms": limit,
            }
        )
    owners = slowest("import cdpbridge; from cdpbridge.protocol import Page")
    print(
        "\nlargest shares of `import cdpbridge; from cdpbridge.protocol import Page`, wall time of -X importtime:"
    )
    for module, own in owners:
        print(f"  {module:42} {own:8.1f}")
    RESULTS.parent.mkdir(exist_ok=True)
    report = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": about,
        "runs": RUNS,
        "rows": rows,
        "shares_ms": dict(owners),
    }
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
