"""Claim: our WebSocket transport keeps to RFC 6455 as `websockets` itself does, on the cases of the Autobahn test suite.

`python benchmarks/autobahn.py [--wstest COMMAND] [--cases PATTERN ...]`. The suite runs on Python 2.7 alone: `python2.7 -m pip
install autobahntestsuite==0.8.2`; `--wstest`, or the variable WSTEST, names what starts it, e.g. "python2.7 -m
autobahntestsuite.wstest". Without it nothing is measured, and the program says so.

Both clients echo what they are sent, with permessage-deflate offered. CDP has no binary messages, so ours echoes every message as
text and fails cases that are about binary ones; they are counted apart. Checked: in every other case ours is judged as well as
`websockets` is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import websockets

from cdpbridge.cdp._endpoint import Progress, dial
from cdpbridge.cdp._transport import Closed
from cdpbridge.cdp._upgrade import upgrade
from cdpbridge.cdp._websocket import WebSocketTransport
from cdpbridge.errors import ConnectFailed

# Of the suite: worse ones come later. NON-STRICT is what the standard allows and its authors would not do.
GRADES = [
    *("OK", "INFORMATIONAL", "UNIMPLEMENTED", "NON-STRICT"),
    *("WRONG CODE", "UNCLEAN", "FAILED BY CLIENT", "FAILED", "MISSING"),
]
MAX_BYTES = 64 * 1024 * 1024
SECONDS_A_CASE = 100


class Echo:
    """Gives back every message as text."""

    def __init__(self, transport: WebSocketTransport) -> None:
        self._transport = transport
        self.ended = asyncio.get_running_loop().create_future()

    def received(self, buffer: bytes | bytearray, start: int, end: int, /) -> None:
        """Checked as the multiplexer does it: text must be UTF-8."""
        message = bytes(buffer[start:end])
        message.decode()
        self._transport.send(message)

    def pause(self) -> None:
        """There is nothing to hold back."""

    def resume(self) -> None:
        """See `pause`."""

    def lost(self, closed: Closed, /) -> None:
        """The case is over."""
        self.ended.set_result(closed)


async def ours(url: str) -> None:
    """One case with our transport."""
    tcp = await dial(url, progress=Progress())
    transport = await upgrade(tcp, url, headers={}, max_message_bytes=MAX_BYTES, compression=True)
    echo = Echo(transport)
    transport.start(echo)
    await echo.ended


async def theirs(url: str) -> None:
    """One case with the client of `websockets`."""
    async with websockets.connect(url, max_size=MAX_BYTES, ping_interval=None) as connection:
        with suppress(websockets.ConnectionClosed):
            async for message in connection:
                await connection.send(message)


CLIENTS = {"websockets": theirs, "cdpbridge": ours}


async def run(address: str, name: str, cases: int) -> None:
    """All cases with one client."""
    for number in range(1, cases + 1):
        with suppress(ConnectFailed, websockets.WebSocketException, OSError, TimeoutError):
            async with asyncio.timeout(SECONDS_A_CASE):
                await CLIENTS[name](f"{address}/runCase?case={number}&agent={name}")
        print(f"\r{name}: {number} of {cases}", end="", file=sys.stderr)
    print(file=sys.stderr)
    async with websockets.connect(f"{address}/updateReports?agent={name}"):
        pass


async def count(address: str) -> int:
    """How many cases the suite has."""
    deadline = time.monotonic() + 30
    while True:
        try:
            async with websockets.connect(f"{address}/getCaseCount") as connection:
                return int(await connection.recv())
        except OSError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)


async def both(address: str) -> int:
    """Each client through all cases."""
    cases = await count(address)
    for name in CLIENTS:
        await run(address, name, cases)
    return cases


def is_binary(report: dict[str, Any]) -> bool:
    """Whether the suite sent a binary message in it, by its own description."""
    return "binary" in f"{report.get('description')} {report.get('expectation')}".lower()


def grade(report: dict[str, Any]) -> str:
    """The worse of how the case and its closing were judged."""
    return max(report["behavior"], report["behaviorClose"], key=GRADES.index)


def main() -> int:
    """Run the suite's server and both clients; 1 when ours is judged worse somewhere."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wstest", default=os.environ.get("WSTEST") or shutil.which("wstest"))
    parser.add_argument("--cases", nargs="+", default=["*"])
    given = parser.parse_args()
    if not given.wstest:
        print("autobahn: not run, there is no wstest; see the head of this file")
        return 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"ws://127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as scratch:
        reports = Path(scratch, "reports")
        spec = Path(scratch, "spec.json")
        spec.write_text(
            json.dumps(
                {"url": address, "outdir": str(reports), "cases": given.cases, "exclude-cases": []}
                | {"exclude-agent-cases": {}, "options": {"failByDrop": False}}
            )
        )
        command = [*shlex.split(given.wstest), "-m", "fuzzingserver", "-s", str(spec)]
        with Path(scratch, "log").open("w") as log:
            process = subprocess.Popen(command, cwd=scratch, stdout=log, stderr=log)
            try:
                cases = asyncio.run(both(address))
            except OSError:
                print(Path(scratch, "log").read_text()[-2000:], file=sys.stderr)
                raise
            finally:
                process.terminate()
                process.wait()
        index = json.loads((reports / "index.json").read_text())
        found: dict[str, dict[str, str]] = {name: {} for name in CLIENTS}
        binary = set()
        for name in CLIENTS:
            for case, summary in index[name].items():
                report = json.loads((reports / summary["reportfile"]).read_text())
                found[name][case] = grade(summary)
                if is_binary(report):
                    binary.add(case)
    return judge(found, binary, cases)


def judge(found: dict[str, dict[str, str]], binary: set[str], cases: int) -> int:
    """Print the table; 1 when ours is worse somewhere."""
    print(f"\n{cases} cases, {len(binary)} of them with binary messages\n\n| grade | {' | '.join(found)} |")
    print(f"|---|{'---|' * len(found)}")
    for one in GRADES:
        numbers = [
            sum(grade == one for case, grade in graded.items() if case not in binary)
            for graded in found.values()
        ]
        if any(numbers):
            print(f"| {one} | {' | '.join(map(str, numbers))} |")
    worse = [
        case
        for case, grade in found["cdpbridge"].items()
        if case not in binary and GRADES.index(grade) > GRADES.index(found["websockets"].get(case, "MISSING"))
    ]
    missing = [case for case in found["websockets"] if case not in found["cdpbridge"]]
    for case in [*worse, *missing]:
        print(f"worse: case {case}: {found['cdpbridge'].get(case, 'MISSING')}, {found['websockets'][case]}")
    return 1 if worse or missing or not found["cdpbridge"] else 0


if __name__ == "__main__":
    sys.exit(main())
