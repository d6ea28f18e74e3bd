"""Build the image and try it, without Docker and without a registry: apt-get install buildah crun debootstrap, and run it as root

It builds Debian's base by debootstrap and the image by buildah, runs it by crun as compose.yaml would, and prints a table: the build,
its size, start to ready, what the self-test of isolation says with and without each option, the demo, attacks, and 50 kills with the
ledger settled. All its files are in one folder, which is removed at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

from _checks import CREDITS, KEY, Kills, demo, knows, rent_and_kill, settled
from _container import Container, Image, Options, running
from _image import build, missing_programs

from cdpbridge.cli._demo_site import serve_demo_site
from cdpbridge.errors import CDPBridgeError

_HERE: Final = Path(__file__).resolve().parent
_PROFILE: Final = _HERE / "seccomp.json"
# Where Debian's packages of buildah have Docker's default.
_DEFAULT_PROFILE: Final = Path("/usr/share/containers/seccomp.json")
_AS_COMPOSE: Final = Options(_PROFILE)
_OTHER_KEY: Final = "key-of-another-project"
_READY: Final = "cdpbridge: serving "
_REFUSED: Final = "browsers cannot be isolated here"
_UID: Final = 10001
# What a server needs that runs as root, so that each browser has a uid of its own.
_OF_ROOT: Final = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID")
_GRACE_SECONDS: Final = 60.0  # `stop_grace_period` of compose.yaml
_ORPHAN: Final = "sleep 1 & exit"


class Trial:
    """The image and where it is tried."""

    def __init__(self, image: Image, work: Path, site: str) -> None:
        self.image = image
        self.work = work
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}/api/v2"
        self._site = site
        self._names = (f"cdpbridge-{os.getpid()}-{number}" for number in count(1))

    def data(self, name: str, owner: int = _UID) -> Path:
        """Make a volume."""
        folder = self.work / name
        folder.mkdir(mode=0o700)
        os.chown(folder, owner, owner)
        return folder

    @contextmanager
    def run(
        self, data: Path, variables: Mapping[str, str] | None = None, options: Options = _AS_COMPOSE
    ) -> Iterator[Container]:
        """Run a server, with further variables."""
        chosen = replace(options, variables=self._variables() | dict(variables or {}))
        with running(self.image, chosen, data, self.work, next(self._names)) as container:
            yield container

    def _variables(self) -> dict[str, str]:
        return {
            "CDPBRIDGE_HOST": "127.0.0.1",
            "CDPBRIDGE_PORT": str(self.port),
            "CDPBRIDGE_API_KEYS": KEY,
            "CDPBRIDGE_CREDITS_USD": str(CREDITS),
            # As with a listener that others reach, but for the site of the demo.
            "CDPBRIDGE_PRIVATE_NETWORK": "deny",
            "CDPBRIDGE_PRIVATE_ALLOWED": f'["{self._site}"]',
        }

    def healthy(self) -> bool:
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        return False


def isolation_with_each_option(trial: Trial) -> Iterator[tuple[str, str]]:
    """Say what the self-test makes of each way to run the image."""
    with trial.run(trial.data("strict")) as container:
        seconds = container.wait_for(_READY)
        assert "isolation of browsers" not in container.text, container.text  # on, and nothing to warn of
        yield "first start to ready, self-test included", f"{seconds:.1f} s"
        yield "as compose.yaml runs it", "isolation on: all of it"
    with trial.run(trial.data("masked"), options=replace(_AS_COMPOSE, masked=True)) as container:
        container.wait_for(_READY)
        assert "no process namespace" in container.text, container.text
        assert "systempaths=unconfined" in container.text, container.text
        yield "without systempaths=unconfined", "isolation on, no process namespace: the log names the option"
    as_root = Options(_PROFILE, user=0, capabilities=_OF_ROOT, tmpfs=("/run", "/tmp", "/var/lib/cdpbridge"))
    with trial.run(trial.data("root", 0), options=as_root) as container:
        container.wait_for(_READY)
        yield "as root with six capabilities", "isolation on, each browser with a uid of its own"
    if _DEFAULT_PROFILE.exists():
        with trial.run(trial.data("default"), options=Options(_DEFAULT_PROFILE)) as container:
            status = container.wait()
            assert status != 0, container.text
            assert _REFUSED in container.text, container.text
            assert "--security-opt seccomp=seccomp.json" in container.text, container.text
            yield "with Docker's default seccomp profile", "does not start: the message names the option"


def one_server(trial: Trial, data: Path, site: str) -> Iterator[tuple[str, str]]:
    """Run the demo on one server, and look at what it leaves."""
    with trial.run(data) as container:
        container.wait_for(_READY)
        assert trial.healthy()
        container.execute(*trial.image.health_check)
        yield "HEALTHCHECK", "healthy"
        shown = asyncio.run(demo(trial.url, site, trial.work))
        yield "demo, both builds", ", ".join(shown)
        yield "orphans and zombies", _reaped(container)
        root = [name for name, _ in container.states()]
        yield "processes of an idle server", ", ".join(sorted(root))


def _reaped(container: Container) -> str:
    """Leave orphans of several kinds to process 1, and wait until they are collected."""
    for _ in range(3):
        container.execute("sh", "-c", _ORPHAN)
    deadline = time.monotonic() + 30
    while [name for name, state in container.states() if state == "Z" or name == "sleep"]:
        assert time.monotonic() < deadline, container.states()
        time.sleep(0.1)
    return "none is left"


def attacks(trial: Trial) -> Iterator[tuple[str, str]]:
    """Try what a customer who means harm would try, against a server with two projects."""
    keys = {"default": [KEY], "other": [_OTHER_KEY]}
    with trial.run(trial.data("attacked"), {"CDPBRIDGE_API_KEYS": json.dumps(keys)}) as container:
        container.wait_for(_READY)
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


def restored(trial: Trial, data: Path, site: str) -> Iterator[tuple[str, str]]:
    """Copy the volume of a stopped server as docs/docker.md says, and go on in another one."""
    copy = trial.data("restored")
    backup = trial.work / "backup.tar"
    with backup.open("wb") as output:
        subprocess.run(["tar", "--create", "--directory", data, "."], stdout=output, check=True)
    subprocess.run(["tar", "--extract", "--directory", copy, "--file", backup], check=True)
    with trial.run(copy) as container:
        container.wait_for(_READY)
        asyncio.run(knows(trial.url, site))
        yield (
            "backup, restored into another volume",
            f"{backup.stat().st_size / 1e6:.0f} MB; login and balance kept",
        )
    backup.unlink()


def kills(trial: Trial, data: Path, number: int) -> Iterator[tuple[str, str]]:
    """End the container in every manner while it works, and read the books after the last start."""
    found = Kills()
    for index in range(number):
        with trial.run(data) as container:
            container.wait_for(_READY)
            signal = "TERM" if index % 2 == 0 else "KILL"
            killed = asyncio.run(rent_and_kill(trial.url, found, index, partial(container.kill, signal)))
            status = container.wait()
            if index % 2 == 0:
                found.stop_seconds.append(time.monotonic() - killed)
                assert status == 0, (status, container.text)
    with trial.run(data) as container:
        seconds = container.wait_for(_READY)
        browsers, cost = asyncio.run(settled(trial.url, found))
        yield f"{number} kills, SIGTERM and SIGKILL in turns", f"settled: {browsers} browsers, {cost} USD"
        slowest = max(found.stop_seconds)
        assert slowest < _GRACE_SECONDS, found.stop_seconds
        yield "SIGTERM to the end", f"{statistics.median(found.stop_seconds):.1f} s, at most {slowest:.1f} s"
        yield "start to ready", f"{seconds:.1f} s"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def main() -> int:
    """Print the table; 1 when something is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument(
        "--work", type=Path, help="folder for all files, with 10 GB; default: a temporary one"
    )
    given = parser.parse_args()
    if missing := missing_programs():
        print(
            f"these programs are missing: {', '.join(missing)}; on Debian: apt-get install buildah crun debootstrap"
        )
        return 2
    if os.geteuid() != 0:
        print("debootstrap and crun need root here")
        return 2
    with (
        tempfile.TemporaryDirectory(prefix="cdpbridge-image-", dir=given.work) as folder,
        serve_demo_site() as site,
    ):
        work = Path(folder)
        work.chmod(0o711)
        return _tell(work, site, given.kills)


def _tell(work: Path, site: str, number: int) -> int:
    failed = 0

    def show(rows: Callable[[], Iterator[tuple[str, str]]]) -> None:
        nonlocal failed
        try:
            for name, value in rows():
                print(f"{name:<44} {value}", flush=True)
        except (AssertionError, RuntimeError, CDPBridgeError, TimeoutError) as error:
            failed += 1
            print(f"{'FAILED':<44} {error}", flush=True)

    with build(work) as built:
        print(f"{'base: debootstrap, commit':<44} {built.base_seconds:.0f} s, {built.base_mb} MB")
        print(f"{'image: buildah bud':<44} {built.seconds:.0f} s, {built.mb} MB unpacked, base included")
        print(
            f"{'compilers, setuid files in it':<44} {len(built.compilers)}, {len(built.privileged)}",
            flush=True,
        )
        failed += bool(built.compilers or built.privileged)
        trial = Trial(built.image, work, site.removeprefix("http://").rstrip("/"))
        show(lambda: isolation_with_each_option(trial))
        data = trial.data("data")
        show(lambda: one_server(trial, data, site))
        show(lambda: attacks(trial))
        show(lambda: restored(trial, data, site))
        show(lambda: kills(trial, data, number))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
