"""What the benchmarks of the CDP client share: clients, interleaved rounds, statistics, tables, charts.

Rules that keep the figures honest:

* Client and server are pinned to different cores; nothing else is started meanwhile.
* A round measures every client once, one after another, and rounds repeat. So a slow minute of the machine meets all of them.
* Each measurement is a fresh process. Its figure is CPU, user and system, with that of the processes it started.
* Two clients are compared within a round. The ratio shown is the median of the rounds' ratios.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
CACHE = HERE.parent / ".cache"
RESULTS = HERE / "results"
CHARTS = HERE / "charts"
PYTHON_PEERS = ("cdp-use", "playwright")
MORE_PEERS = ("zendriver", "nodriver", "pydoll-python", "pychrome")
"""Those of the behaviours alone, in an environment apart: pydoll wants an older `websockets` than cdp-use gets."""
NODE_PEERS = ("chrome-remote-interface", "puppeteer-core")
_TIMEOUT = 90.0  # seconds, for one measurement
_INSTALL_TIMEOUT = 300.0


# --- clients ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Client:
    """One row: an adapter in `peers/`, a variant of it, and how to run it.

    Attributes:
        speed: Share of a workload's messages it gets: slow clients would take minutes, and their figure is as stable.
        missing: Why it cannot run.
    """

    name: str
    kind: str  # "ours", "floor" or "peer"
    adapter: str
    variant: str = "asyncio"
    command: tuple[str, ...] = ()
    speed: float = 1.0
    version: str = ""
    missing: str = ""


def python_client(name: str, kind: str, adapter: str, variant: str) -> Client:
    missing = ""
    if "uvloop" in variant:
        try:
            version("uvloop")
        except PackageNotFoundError:
            missing = "uvloop is not installed"
    command = (sys.executable, "_client.py")
    return Client(name, kind, adapter, variant, command, missing=missing)


def clients() -> list[Client]:
    """Every client, in the order of the tables; peers are installed on first use."""
    ours = [
        python_client("cdpbridge", "ours", "cdpbridge_client", "asyncio"),
        python_client("cdpbridge, uvloop", "ours", "cdpbridge_client", "uvloop"),
        python_client("bare floor", "floor", "floor_client", "asyncio"),
        python_client("bare floor, uvloop", "floor", "floor_client", "uvloop"),
    ]
    return ours + peers()


def peers() -> list[Client]:
    python, why_python = _python_peers("bench-venv", PYTHON_PEERS)
    folder, why_node = node_peers()
    node = ("node", "--expose-gc", "_client.mjs")
    return [
        Client(
            "cdp-use",
            "peer",
            "cdp_use_client",
            "",
            (str(python), "_client.py"),
            0.3,
            _python_version(python, "cdp-use"),
            why_python,
        ),
        Client(
            "chrome-remote-interface",
            "peer",
            "chrome_remote_interface",
            "",
            node,
            0.4,
            node_version(folder, "chrome-remote-interface"),
            why_node,
        ),
        Client(
            "puppeteer-core",
            "peer",
            "puppeteer_core",
            "",
            node,
            0.2,
            node_version(folder, "puppeteer-core"),
            why_node,
        ),
        Client(
            "Playwright",
            "peer",
            "playwright_client",
            "",
            (str(python), "_client.py"),
            0.05,
            _python_version(python, "playwright"),
            why_python,
        ),
    ]


def more_peers() -> list[Client]:
    """Clients whose behaviour is looked at and not their speed: they cost a multiple of cdp-use's CPU."""
    python, why = _python_peers("bench-venv-more", MORE_PEERS)
    return [
        Client(
            name,
            "peer",
            f"{name}_client",
            "",
            (str(python), "_client.py"),
            version=_python_version(python, package),
            missing=why,
        )
        for name, package in (
            ("zendriver", "zendriver"),
            ("nodriver", "nodriver"),
            ("pydoll", "pydoll-python"),
            ("pychrome", "pychrome"),
        )
    ]


def _run(command: Sequence[str | Path], where: Path) -> str:
    """Why it failed, in one line, or nothing."""
    try:
        subprocess.run(
            [str(part) for part in command],
            cwd=where,
            check=True,
            capture_output=True,
            text=True,
            timeout=_INSTALL_TIMEOUT,
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return f"not installed: {said.strip().splitlines()[-1][:100]}"
    return ""


def _python_peers(name: str, packages: Sequence[str]) -> tuple[Path, str]:
    """The interpreter of Python peers, an environment of their own: cdp-use pins what it needs."""
    folder = CACHE / name
    python = folder / "bin" / "python"
    if not (folder / ".installed").exists():
        print("installing", *packages, file=sys.stderr)
        venv.create(folder, with_pip=True)
        why = _run([python, "-m", "pip", "install", "--quiet", *packages], HERE)
        if why:
            return python, why
        (folder / ".installed").touch()
    return python, ""


def node_peers() -> tuple[Path, str]:
    folder = CACHE / "node"
    if shutil.which("node") is None:
        return folder, "not installed: there is no node"
    if not (folder / ".installed").exists():
        print("installing", *NODE_PEERS, file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}\n')
        why = _run(["npm", "install", "--no-audit", "--no-fund", "--silent", *NODE_PEERS], folder)
        if why:
            return folder, why
        (folder / ".installed").touch()
    return folder, ""


def _python_version(python: Path, package: str) -> str:
    found = sorted(python.parent.parent.glob(f"lib/*/site-packages/{package.replace('-', '_')}-*.dist-info"))
    return found[0].name.removesuffix(".dist-info").rpartition("-")[2] if found else ""


def node_version(folder: Path, package: str) -> str:
    try:
        return str(json.loads((folder / "node_modules" / package / "package.json").read_text())["version"])
    except (OSError, ValueError, KeyError):
        return ""


# --- processes --------------------------------------------------------------------------------------------------------


@functools.cache  # before anything is pinned
def cores() -> tuple[int | None, int | None]:
    """A core for the server and one for the clients; None when there is only one to have."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[1]) if len(allowed) > 1 else (None, None)


_PINNED = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); os.execvp(sys.argv[2], sys.argv[2:])"


def _pinned(core: int | None, command: Sequence[str]) -> list[str]:
    """The command, to be run on one core."""
    return list(command) if core is None else [sys.executable, "-c", _PINNED, str(core), *command]


@contextmanager
def server(script: str = "_server.py") -> Iterator[str]:
    """The fake browser in a process of its own; gives its address."""
    process = subprocess.Popen(
        _pinned(cores()[0], [sys.executable, script]),
        cwd=HERE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"ws://127.0.0.1:{int(process.stdout.readline())}/devtools/browser/bench"
    finally:
        process.stdin.close()  # it ends with its standard input
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
        process.stdout.close()


def measure(client: Client, *arguments: str | int, timeout: float = _TIMEOUT) -> dict[str, Any]:
    """One measurement in a fresh process on the clients' core; `{"error": why}` when there is no figure."""
    if client.missing:
        return {"error": client.missing}
    command = [*client.command, client.adapter, client.variant, *map(str, arguments)]
    process = subprocess.Popen(
        _pinned(cores()[1], command),
        cwd=HERE,
        env={**os.environ, "BENCH_NODE": str(CACHE / "node"), "PYTHONDONTWRITEBYTECODE": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that what it started ends with it
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return {"error": f"no result in {timeout:.0f} s"}
    for line in reversed(out.splitlines()):
        if line.startswith("{"):
            result: dict[str, Any] = json.loads(line)
            return result
    said = (err or out).strip().splitlines()
    named = [
        line.strip() for line in said if re.match(r"\s*[\w.]*Error\b", line)
    ]  # Node ends with its version
    words = (named or said or [""])[-1][:120]
    return {"error": f"process died: {words or f'exit status {process.returncode}'}"}


# --- figures ----------------------------------------------------------------------------------------------------------


@dataclass
class Series:
    """Figures of one client on one workload, one a round; a round that failed is None."""

    values: list[float | None] = field(default_factory=list)
    error: str = ""

    @property
    def known(self) -> list[float]:
        return [value for value in self.values if value is not None]

    @property
    def median(self) -> float | None:
        return statistics.median(self.known) if self.known else None

    def text(self, digits: int = 3) -> str:
        if not self.known:
            return self.error or "-"
        shown = number(statistics.median(self.known), digits)
        if len(self.known) == 1:
            return shown
        return f"{shown} ({number(min(self.known), digits)}..{number(max(self.known), digits)})"


def ratio(one: Series, other: Series) -> float | None:
    """`one` as a multiple of `other`: the median over the rounds that have both."""
    pairs = [a / b for a, b in zip(one.values, other.values, strict=False) if a is not None and b]
    return statistics.median(pairs) if pairs else None


def least_ratio(one: Series, other: Series) -> float | None:
    """The same from the best round of each: what is left when the machine was quiet."""
    return min(one.known) / min(other.known) if one.known and other.known and min(other.known) else None


def number(value: float | None, digits: int = 3) -> str:
    """Three significant digits, no exponent."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    whole = len(str(int(abs(value))))
    return f"{value:,.{max(0, digits - whole)}f}"


def interleave(
    rows: Sequence[Client],
    rounds: int,
    one: Callable[[Client], dict[str, Any]],
    fields: Sequence[str],
    *,
    title: str,
) -> dict[str, dict[str, Series]]:
    """Measure every client `rounds` times, in turn; `result[client name][field]` is its series."""
    result = {client.name: {name: Series() for name in fields} for client in rows}
    broken: set[str] = set()
    for turn in range(rounds):
        order = list(rows) if turn % 2 == 0 else list(reversed(rows))
        for client in order:
            series = result[client.name]
            got = {"error": "failed before"} if client.name in broken else one(client)
            if "error" in got and client.name not in broken:
                broken.add(client.name)
                for each in series.values():
                    each.error = got["error"]
            for name in fields:
                series[name].values.append(got.get(name))
            progress(f"{title}: round {turn + 1} of {rounds}, {client.name}")
    progress("")
    return result


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text[:100]:100}\r", end="", file=sys.stderr, flush=True)


# --- output -----------------------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        cpu = f"{names[0]} x{len(names)}" if names else cpu
    packages = {}
    for package in ("msgspec", "websockets", "uvloop"):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = "absent"
    return {
        "cpu": cpu,
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": [round(value, 1) for value in os.getloadavg()],
        "cores": cores(),
        **packages,
    }


def describe_machine(about: dict[str, Any]) -> str:
    pinned = "client and server on different cores" if about["cores"][0] is not None else "not pinned"
    return (
        f"{about['cpu']}; {about['system']}; Python {about['python']}; msgspec {about['msgspec']}, "
        f"websockets {about['websockets']}, uvloop {about['uvloop']}; load {about['load'][0]}; {pinned}"
    )


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(str(row[at])) for row in [head, *rows]) for at in range(len(head))]
    print(f"\n{title}")
    for number_, row in enumerate([head, *rows]):
        cells = [
            str(cell).ljust(width) if at == 0 else str(cell).rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  " + "  ".join(cells).rstrip())
        if number_ == 0:
            print("  " + "  ".join("-" * width for width in widths))


def save(name: str, report: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    report = {"when": datetime.now(UTC).isoformat(timespec="seconds"), **report}
    (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")


_COLOURS = {"ours": "#2f81f7", "floor": "#8b949e", "peer": "#d4a72c"}
_BAR, _GAP, _LEFT, _WIDTH = 15, 5, 200, 790


def chart(
    name: str, title: str, groups: Sequence[tuple[str, str, Sequence[tuple[str, str, float | None, str]]]]
) -> None:
    """Bars, a group a workload: `(heading, unit, [(label, kind, value, note when there is none)])`.

    Each group has its own scale. The text is grey, to be read on white and on black.
    """
    parts: list[str] = []
    y = 30
    for heading, unit, bars in groups:
        y += 24
        parts.append(f'<text x="0" y="{y}" class="h">{escape(heading)}</text>')
        y += 8
        largest = max((value for _, _, value, _ in bars if value is not None), default=1.0)
        for label, kind, value, note in bars:
            wide = 0 if value is None else max(1.0, value / largest * (_WIDTH - _LEFT - 120))
            words = note if value is None else f"{number(value)} {unit}"
            parts.append(
                f'<text x="{_LEFT - 8}" y="{y + 12}" class="l">{escape(label)}</text>'
                f'<rect x="{_LEFT}" y="{y}" width="{wide:.1f}" height="{_BAR}" fill="{_COLOURS[kind]}"/>'
                f'<text x="{_LEFT + wide + 6:.1f}" y="{y + 12}">{escape(words)}</text>'
            )
            y += _BAR + _GAP
    CHARTS.mkdir(exist_ok=True)
    style = (
        "text{font:12px system-ui,sans-serif;fill:#768390}.h{font-weight:600}.t{font-size:15px;font-weight:600}"
        ".l{text-anchor:end}"
    )
    (CHARTS / f"{name}.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y + 10}" '
        f'viewBox="0 0 {_WIDTH} {y + 10}" role="img" aria-label="{escape(title)}">\n<style>{style}</style>\n'
        f'<text x="0" y="18" class="t">{escape(title)}</text>\n' + "\n".join(parts) + "\n</svg>\n"
    )
