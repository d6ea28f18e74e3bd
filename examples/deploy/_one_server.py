"""One server in a container: the demo, what it leaves, attacks, a restored backup, kills, a stop with many profiles to save."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Final

from _checks import KEY, Kills, demo, knows, open_with_profiles, rent_and_kill, saved, settled
from _container import Container
from _trial import READY, Rows, Trial

__all__ = ["attacks", "kills", "one_server", "restored", "stop_with_profiles"]

_OTHER_KEY: Final = "key-of-another-project"
_GRACE_SECONDS: Final = 60.0  # `stop_grace_period` of compose.yaml
_ORPHAN: Final = "sleep 1 & exit"
# In the image's own files; a volume and folders in memory are elsewhere.
_WRITE: Final = 'for f in /etc/passwd /opt/cdpbridge/written /usr/bin/written; do (: >> "$f") 2>/dev/null && echo "$f"; done; true'


def one_server(trial: Trial, data: Path, site: str) -> Rows:
    """Run the demo on one server, and look at what it leaves.

    Raises:
        AssertionError: Something is not as it must be.
    """
    with trial.run(data) as container:
        container.wait_for(READY)
        assert trial.healthy()
        container.execute(*trial.image.health_check)
        yield "HEALTHCHECK", "healthy"
        written = container.execute("sh", "-c", _WRITE).split()
        assert not written, written
        yield "root file system", "read-only"
        shown = asyncio.run(demo(trial.url, site, trial.work))
        yield "demo, both builds", ", ".join(shown)
        yield "orphans and zombies", _reaped(container)
        states = container.states()
        root = [name for name, _, uid in states if uid == 0]
        assert not root, root
        names = ", ".join(sorted({name for name, _, _ in states}))
        yield "processes of an idle server", f"{names}; none of root"


def _reaped(container: Container) -> str:
    """Leave orphans to process 1, and wait until they are collected."""
    for _ in range(3):
        container.execute("sh", "-c", _ORPHAN)
    deadline = time.monotonic() + 30
    while [name for name, state, _ in container.states() if state == "Z" or name == "sleep"]:
        assert time.monotonic() < deadline, container.states()
        time.sleep(0.1)
    return "none is left"


def attacks(trial: Trial) -> Rows:
    """Try what a customer who means harm would try, against a server with two projects.

    Raises:
        AssertionError: One got through, or few were tried.
        RuntimeError: They could not be tried.
    """
    keys = {"default": [KEY], "other": [_OTHER_KEY]}
    with trial.run(trial.data("attacked"), {"CDPBRIDGE_API_KEYS": json.dumps(keys)}) as container:
        container.wait_for(READY)
        # Of /data itself a browser sees the way to its own folder, and nothing else in it.
        paths = [
            part
            for name in ("cdpbridge.sqlite3", "signing.key", "profiles")
            for part in ("--path", f"/data/{name}")
        ]
        command = [sys.executable, "-m", "cdpbridge", "doctor", "--attack", trial.url, *paths, "--json"]
        environment = os.environ | {"BROWSER_USE_API_KEY": KEY, "BROWSER_USE_SECOND_API_KEY": _OTHER_KEY}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if not done.stdout:
            raise RuntimeError(done.stderr)
        findings = json.loads(done.stdout)["findings"]
        through = [each for each in findings if each["outcome"] == "through"]
        assert not through, through
        count = Counter(each["outcome"] for each in findings)
        assert count["held"] > 50, count
        yield (
            "attacks (cdpbridge doctor --attack)",
            ", ".join(f"{number} {word}" for word, number in count.items()),
        )


def restored(trial: Trial, data: Path, site: str) -> Rows:
    """Copy the volume of a stopped server as docs/docker.md says, and go on in another one.

    Raises:
        AssertionError: Something is not in the copy.
    """
    copy = trial.data("restored")
    backup = trial.work / "backup.tar"
    with backup.open("wb") as output:
        subprocess.run(["tar", "--create", "--directory", data, "."], stdout=output, check=True)
    subprocess.run(["tar", "--extract", "--directory", copy, "--file", backup], check=True)
    with trial.run(copy) as container:
        container.wait_for(READY)
        asyncio.run(knows(trial.url, site))
        yield (
            "backup, restored into another volume",
            f"{backup.stat().st_size / 1e6:.0f} MB; login and balance kept",
        )
    backup.unlink()


def stop_with_profiles(trial: Trial, number: int) -> Rows:
    """Stop a server while so many browsers have a profile to be saved.

    Raises:
        AssertionError: Docker would have killed it, or a profile was not saved.
    """
    data = trial.data("stopped")
    more = {"CDPBRIDGE_MAX_BROWSERS": str(number), "CDPBRIDGE_QUEUE_TIMEOUT_SECONDS": "300"}
    with trial.run(data, more) as container:
        container.wait_for(READY)
        profiles = asyncio.run(open_with_profiles(trial.url, number))
        began = time.monotonic()
        container.kill("TERM")
        status = container.wait()
        seconds = time.monotonic() - began
        assert status == 0, (status, container.text)
    with trial.run(data, more) as container:
        container.wait_for(READY)
        asyncio.run(saved(trial.url, profiles))
    assert seconds < _GRACE_SECONDS, seconds
    yield f"SIGTERM with {number} profiles to save", f"{seconds:.1f} s; all are saved, all is settled"


def kills(trial: Trial, data: Path, number: int) -> Rows:
    """End the container in every manner while it works, and read the books after the last start.

    Raises:
        AssertionError: Something is not settled, or a stop took too long.
    """
    found = Kills()
    for index in range(number):
        with trial.run(data) as container:
            container.wait_for(READY)
            signal = "TERM" if index % 2 == 0 else "KILL"
            killed = asyncio.run(rent_and_kill(trial.url, found, index, partial(container.kill, signal)))
            status = container.wait()
            if index % 2 == 0:
                found.stop_seconds.append(time.monotonic() - killed)
                assert status == 0, (status, container.text)
    with trial.run(data) as container:
        seconds = container.wait_for(READY)
        browsers, cost = asyncio.run(settled(trial.url, found))
        yield f"{number} kills, SIGTERM and SIGKILL in turns", f"settled: {browsers} browsers, {cost} USD"
        slowest = max(found.stop_seconds)
        assert slowest < _GRACE_SECONDS, found.stop_seconds
        yield "SIGTERM to the end", f"{statistics.median(found.stop_seconds):.1f} s, at most {slowest:.1f} s"
        yield "start to ready", f"{seconds:.1f} s"
