"""Claim: what hangs, kills or misleads the other CDP clients does no harm to ours.

Each scenario is run by every client in a process of its own, against a server that does what is asked of it (`_server.py`) or
a real Chromium: `python benchmarks/behaviour.py [--quick]`. Rows marked `*` are the seven basic
tests that cdp-use fails. Prints the verdicts, writes results/behaviour.json; exit status 1 when ours fails one. `--quick`
leaves out Chromium.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import sys
from typing import Any

import _harness as harness
from _harness import Client

from cdpbridge.chromium import Chromium

# (scenario, words, whether cdp-use is known to fail it)
SCENARIOS = [
    ("command-in-handler", "async handler awaits a command", True),
    ("handler-waits-for-event", "async handler waits for a later event", False),
    ("slow-handlers", "command behind 300 slow (10 ms) async handlers", False),
    ("not-json", "message that is not JSON", True),
    ("empty-reply", "reply without a result", True),
    ("unknown-id", "reply to an unknown id", False),
    ("cancelled", "1,000 cancelled commands", True),
    ("two-handlers", "two handlers for one event", True),
    ("deadline", "deadline of a command", True),
    ("raising-handler", "handler raises", True),
    ("dropped", "socket cut, 100 commands pending", False),
    ("closed", "close frame, 100 commands pending", False),
    ("page-closes", "page closes, one command pending (Chromium)", False),
    ("page-crashes", "page crashes, one command pending (Chromium)", False),
]

_BESIDE = 4  # peers in one table: nine columns of words are wider than a screen


def clients() -> list[Client]:
    """Ours and the peers, with the runner of behaviours in place of that of measurements."""
    rows = [client for client in harness.clients() if client.kind == "peer" or client.name == "cdpbridge"]
    rows += harness.more_peers()
    return [
        dataclasses.replace(
            client, command=tuple(part.replace("_client.", "_behave.") for part in client.command)
        )
        for client in rows
    ]


def judge(client: Client, scenario: str, url: str) -> tuple[bool, str]:
    got = harness.measure(client, scenario, url, timeout=45)
    if "error" in got:
        return False, got["error"]
    return bool(got["fine"]), str(got["verdict"])


async def run(*, chromium_too: bool) -> int:
    rows = clients()
    about = harness.machine()
    print(harness.describe_machine(about))
    table: dict[str, dict[str, tuple[bool, str]]] = {}
    with harness.server() as fake:
        for scenario, words, _ in SCENARIOS:
            if scenario.startswith("page-"):
                if not chromium_too:
                    continue
                async with await Chromium.start() as chromium:
                    url = f"ws://127.0.0.1:{chromium.port}{chromium.browser_path}"
                    table[scenario] = {
                        client.name: await asyncio.to_thread(judge, client, scenario, url) for client in rows
                    }
            else:
                table[scenario] = {client.name: judge(client, scenario, fake) for client in rows}
            harness.progress(words)
    harness.progress("")
    shown = [(scenario, words, known) for scenario, words, known in SCENARIOS if scenario in table]
    names = [client.name for client in rows]
    others = [name for name in names if name != "cdpbridge"]
    for start in range(0, len(others), _BESIDE):
        beside = ["cdpbridge", *others[start : start + _BESIDE]]
        harness.print_table(
            "behaviour (! is a failure; * one of cdp-use's seven)",
            ["scenario", *beside],
            [
                [
                    f"{words}{' *' if known else ''}",
                    *(
                        ("" if fine else "! ") + said
                        for fine, said in (table[scenario][name] for name in beside)
                    ),
                ]
                for scenario, words, known in shown
            ],
        )
    passed = {name: sum(row[name][0] for row in table.values()) for name in names}
    print("\npassed: " + ", ".join(f"{name} {count} of {len(table)}" for name, count in passed.items()))
    report: dict[str, Any] = {
        "machine": about,
        "peers": {client.name: client.version for client in rows},
        "verdicts": {
            scenario: {
                name: {"fine": fine, "verdict": said} for name, (fine, said) in table[scenario].items()
            }
            for scenario in table
        },
    }
    harness.save("behaviour", report)
    return 0 if passed["cdpbridge"] == len(table) else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without Chromium")
    return asyncio.run(run(chromium_too=not parser.parse_args().quick))


if __name__ == "__main__":
    sys.exit(main())
