"""Build the image and try it, without Docker and without a registry, as root on Debian

It needs the packages buildah, crun, debootstrap and postgresql, and moto as an object storage: pip install 'moto[s3]' flask flask-cors. It builds
Debian's base by debootstrap and the image by buildah, runs it by crun as compose.yaml would, and prints a table: the build, its size,
start to ready, what the self-test of isolation says with and without each option, the demo, attacks, kills with the ledger settled, a
stop with many profiles to save, and two servers and two workers as in compose.cluster.yaml. Its processes and mounts are its own, its
files are in one folder: nothing of them is left, also after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from _apart import run_apart
from _database import PostgreSQL
from _image import build, missing_programs
from _one_server import attacks, kills, one_server, restored, stop_with_profiles
from _several_servers import several_servers
from _trial import Rows, Trial
from _ways import ways_to_run

from cdpbridge.cli._demo_site import serve_demo_site
from cdpbridge.errors import CDPBridgeError

_WIDTH: Final = 46


def main() -> int:
    """Print the table; 1 when something is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--profiles", type=int, default=50, help="to be saved at one SIGTERM")
    parser.add_argument(
        "--work", type=Path, help="where the folder of all files is made, of 10 GB; default: /tmp"
    )
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if missing := [*missing_programs(), *_missing_for_several_servers()]:
        print(f"these are missing: {', '.join(missing)}", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("debootstrap and crun need root here", file=sys.stderr)
        return 2
    if given.folder is None:
        return run_apart([sys.executable, *sys.argv], given.work)
    with serve_demo_site() as site, build(given.folder) as built:
        table = _Table()
        table.row("base: debootstrap, commit", f"{built.base_seconds:.0f} s, {built.base_mb} MB")
        table.row("image: buildah bud", f"{built.seconds:.0f} s, {built.mb} MB unpacked, base included")
        table.row("compilers, setuid files in it", f"{len(built.compilers)}, {len(built.privileged)}")
        table.failed += bool(built.compilers or built.privileged)
        trial = Trial(built.image, given.folder, site.removeprefix("http://").rstrip("/"))
        data = trial.data("data")
        table.show(lambda: ways_to_run(trial))
        table.show(lambda: one_server(trial, data, site))
        table.show(lambda: attacks(trial))
        table.show(lambda: restored(trial, data, site))
        table.show(lambda: kills(trial, data, given.kills))
        table.show(lambda: stop_with_profiles(trial, given.profiles))
        table.show(lambda: several_servers(trial, site))
    return 1 if table.failed else 0


def _missing_for_several_servers() -> list[str]:
    missing = [] if PostgreSQL.is_installed() else ["postgresql"]
    if any(find_spec(each) is None for each in ("moto", "flask", "flask_cors")):
        missing.append("moto (pip install 'moto[s3]' flask flask-cors)")
    return missing


class _Table:
    failed = 0

    def row(self, name: str, value: str) -> None:
        print(f"{name:<{_WIDTH}} {value}", flush=True)

    def show(self, rows: Callable[[], Rows]) -> None:
        """Print what a part finds, and go on with the next one where it fails."""
        try:
            for name, value in rows():
                self.row(name, value)
        except (AssertionError, RuntimeError, CDPBridgeError, TimeoutError) as error:
            self.failed += 1
            self.row("FAILED", str(error))


if __name__ == "__main__":
    sys.exit(main())
