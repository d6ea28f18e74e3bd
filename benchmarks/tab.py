"""Claim: a session of 20 steps on a form takes `Tab` about a quarter of the CPU of Playwright.

The same steps, navigation, texts, choices, clicks, keys, waits, over `cdpbridge.Tab`, Playwright for Python and puppeteer-core
against one Chromium: `python benchmarks/tab.py [--quick] [--build shell|full]`. Every client is a fresh process, which connects,
does the session once, and then several times; rounds are interleaved. Prints a table, writes results/tab.json.

    CPU     of the client, user and system, with the processes it started: Playwright's driver
    wall    from the first step to the last; it has the page's own 50 ms of delay in it
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from importlib.metadata import version

import _harness as harness
from _site import site

from cdpbridge import sync

PAGE = b"""<!doctype html><meta charset=utf-8><title>Order</title><link rel=icon href=data:,>
<form onsubmit="event.preventDefault(); setTimeout(() => done.hidden = false, 50)">
<input id=name><input id=mail type=email><input id=street><input id=town><input id=code><input id=phone type=tel>
<select id=country><option value=de>Germany</option><option value=fr>France</option></select>
<select id=ship><option value=slow>Slow</option><option value=fast>Fast</option></select>
<input id=gift type=checkbox><input id=terms type=checkbox><textarea id=note></textarea>
<input id=code1><button id=more type=button onclick="extra.hidden = false">More</button>
<div id=extra hidden><input id=company></div><button id=send>Send</button></form><p id=done hidden>Thank you</p>"""

STEPS: list[list[str]] = [
    ["goto", "{url}"],
    ["fill", "#name", "Ada Lovelace"],
    ["fill", "#mail", "ada@example.com"],
    ["fill", "#street", "St James's Square 12"],
    ["fill", "#town", "London"],
    ["fill", "#code", "SW1Y 4JH"],
    ["fill", "#phone", "+44 20 1234"],
    ["select", "#country", "fr"],
    ["select", "#ship", "fast"],
    ["click", "#gift"],
    ["click", "#terms"],
    ["fill", "#note", "Please ring twice."],
    ["click", "#more"],
    ["wait", "#company"],
    ["fill", "#company", "Analytical Engines"],
    ["press", "#company", "Tab"],
    ["fill", "#code1", "WELCOME"],
    ["click", "#send"],
    ["wait", "#done"],
    ["read", "document.querySelector('#done').textContent"],
]


def measure(client: str, address: str, steps: str, sessions: int) -> dict[str, float]:
    command = [sys.executable, harness.HERE / "_tab_session.py", client, address, steps, str(sessions)]
    where = harness.HERE
    if client == "puppeteer":
        command = ["node", harness.HERE / "_tab_session.mjs", address, steps, str(sessions)]
        where = harness.CACHE / "node"
    done = subprocess.run(command, cwd=where, stdout=subprocess.PIPE, text=True, timeout=300, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two rounds of five sessions")
    parser.add_argument("--build", choices=["shell", "full"], default="shell")
    options = parser.parse_args()
    rounds, sessions = (2, 5) if options.quick else (7, 20)
    names = {"ours": "cdpbridge.Tab", "playwright": f"Playwright {version('playwright')}"}
    folder, missing = harness.node_peers()
    if missing:
        print("puppeteer-core:", missing, file=sys.stderr)
    else:
        names["puppeteer"] = f"puppeteer-core {harness.node_version(folder, 'puppeteer-core')}"
    figures: dict[str, dict[str, harness.Series]] = {
        name: {"cpu": harness.Series(), "wall": harness.Series()} for name in names
    }
    with (
        tempfile.TemporaryDirectory() as data_dir,
        sync.local(data_dir=data_dir, browser_build=options.build) as client,
        site(PAGE) as url,
    ):
        browser = client.browsers.create()
        steps = json.dumps([[each.format(url=url) for each in step] for step in STEPS])
        for number in range(rounds):
            harness.progress(f"round {number + 1} of {rounds}")
            for name, series in figures.items():
                found = measure(name, browser.cdp_url or "", steps, sessions)
                for key, value in found.items():
                    series[key].values.append(1000 * value)
        client.browsers.stop(browser.id)
    ours = figures["ours"]
    rows = [
        [
            names[name],
            series["cpu"].text(3),
            harness.number(harness.ratio(series["cpu"], ours["cpu"]), 2),
            series["wall"].text(3),
        ]
        for name, series in figures.items()
    ]
    title = f"20 steps on a form, Chromium {options.build}, ms a session, median of {rounds} rounds"
    harness.print_table(title, ["client", "CPU", "times ours", "wall"], rows)
    harness.save(
        f"tab-{options.build}",
        {
            "machine": harness.machine(),
            "rounds": rounds,
            "sessions": sessions,
            "ms": {
                names[name]: {key: series.values for key, series in kinds.items()}
                for name, kinds in figures.items()
            },
        },
    )


if __name__ == "__main__":
    main()
