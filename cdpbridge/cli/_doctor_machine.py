"""Checks of `cdpbridge doctor` on this machine: what browsers here, and clients, need."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from ._config import ending

if TYPE_CHECKING:
    from cdpbridge.chromium import Build
    from cdpbridge.isolation import Step

__all__ = ["Check", "Status", "isolation_checks", "machine_checks"]

Status = Literal["ok", "warn", "fail"]

_PORT: Final = 8700  # of `cdpbridge serve`, unless set
_GIB: Final = 1024**3
_FREE_MEMORY: Final = _GIB // 2  # for two or three pages
_FREE_DISK: Final = _GIB
_VERSION_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Check:
    """What one check has found.

    Attributes:
        name: Of what.
        status: `"warn"` where it only may matter.
        text: What is there.
        remedy: What to do; empty when it is well.
    """

    name: str
    status: Status
    text: str
    remedy: str = ""


def machine_checks(*, local: bool) -> list[Check]:
    """Check this machine; change nothing.

    Args:
        local: Whether browsers would run here. If not, what only they need is a warning.
    """
    missing: Status = "fail" if local else "warn"
    return [
        _software(),
        _packages(missing),
        *_chromium(missing),
        *_isolation(),
        *_limits(),
        _data_dir(missing),
        _memory(),
        _ports(missing),
        _key(),
        _variables(),
        _journal(),
    ]


def _software() -> Check:
    from cdpbridge._version import __version__

    text = f"cdpbridge {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return Check("version", "ok", text)


def _packages(missing: Status) -> Check:
    from cdpbridge._embedded import check_installed
    from cdpbridge.errors import ConfigurationError

    try:
        check_installed()
    except ConfigurationError as error:
        text, _, remedy = str(error).rpartition(": ")
        return Check("packages", missing, text, remedy)
    return Check("packages", "ok", "those of the extra `local` are installed")


def _chromium(missing: Status) -> list[Check]:
    from cdpbridge.chromium import find
    from cdpbridge.errors import BrowserNotFound, ConfigurationError

    named = os.environ.get("CDPBRIDGE_BROWSER_PATH")
    try:
        build = find(path=Path(named)) if named else find()
    except (BrowserNotFound, ConfigurationError) as error:
        text, install, remedy = str(error).partition("install it")
        return [Check("chromium", missing, text.removesuffix(": "), install + remedy)]
    found = [_version(build, missing)]
    if build.kind == "shell" and not named and not os.environ.get("CDPBRIDGE_CHROMIUM"):
        try:
            found.append(_version(find("full"), missing))
        except BrowserNotFound:
            found.append(
                Check(
                    "chromium",
                    "ok",
                    "only the headless shell is there; its profiles keep no passwords and no extensions",
                )
            )
    return found


def _version(build: Build, missing: Status) -> Check:
    try:
        done = subprocess.run(  # noqa: S603  # the binary that is about to be used
            [build.path, "--version"], capture_output=True, text=True, timeout=_VERSION_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("chromium", missing, f"{build.path} cannot be run: {error}", "install it again")
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
        return Check(
            "chromium", missing, f"{build.path} --version: {last}", "install it again, with its libraries"
        )
    return Check("chromium", "ok", f"{done.stdout.strip()} ({build.kind}), {build.path}")


_STEPS: Final = {
    "namespaces": "user namespaces may be made",
    "mounts": "a file system of its own can be made for each browser",
    "processes": "each browser can have a /proc of its own",
    "network": "each browser can have a network of its own",
    "pages": "pages of one browser can talk by WebRTC there",
}


def _isolation() -> list[Check]:
    """Find out what the kernel offers, one by one; the test at a server's start shows whether a browser stays inside."""
    if sys.platform != "linux":
        return [
            Check(
                "isolation",
                "warn",
                "browsers are not isolated: this is not Linux",
                "one project for each server, then",
            )
        ]
    from cdpbridge.chromium import uses_browser_uids
    from cdpbridge.chromium._uid_ranges import default_uids
    from cdpbridge.isolation import probe_command, read_steps

    command = probe_command(default_uids()[0] if uses_browser_uids() else None)
    try:
        done = subprocess.run(  # noqa: S603  # our own
            command, capture_output=True, text=True, timeout=_VERSION_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        words = str(getattr(error, "stderr", "") or error).strip().splitlines()
        return [Check("isolation", "warn", f"what the kernel offers could not be found out: {words[-1]}")]
    return isolation_checks(read_steps(done.stdout))


def _limits() -> list[Check]:
    """Find out whether the kernel can keep browsers to their limits."""
    if sys.platform != "linux":
        return []
    from cdpbridge.server.hosts import CgroupPool, find_cgroups

    found = find_cgroups()
    if isinstance(found, CgroupPool):
        return [Check("limits", "ok", f"the kernel keeps each browser to its {found}")]
    return [
        Check(
            "limits",
            "warn",
            f"limits of memory and processes are looked at with each health check only: {found}",
            "a control group of the server's own: Delegate=yes in its systemd unit, or a writable /sys/fs/cgroup in its container",
        )
    ]


def isolation_checks(steps: Sequence[Step]) -> list[Check]:
    """Return a check for each step of the probe: what the kernel offers, and what grants what it refuses. Pure."""
    from cdpbridge.isolation import remedy

    found = {each.name: each for each in steps}
    checks = []
    for name, works in _STEPS.items():
        step = found.get(name)
        if step is None:
            checks.append(
                Check("isolation", "warn", f"not so that {works}: that needs what is missing above")
            )
        elif step.error:
            checks.append(
                Check(
                    "isolation",
                    "warn",
                    f"not so that {works}: {step.detail}",
                    remedy(name, step.error, step.detail),
                )
            )
        else:
            checks.append(Check("isolation", "ok", works))
    version = int(found["landlock"].detail) if "landlock" in found else 0
    checks.append(
        Check("isolation", "ok", f"Landlock, version {version}")
        if version
        else Check(
            "isolation",
            "warn",
            "no Landlock: what a browser may execute is limited by its mounts only, and agents are not confined",
            "Linux 5.13 or later, with landlock among the modules in /sys/kernel/security/lsm",
        )
    )
    return checks


def _data_dir(missing: Status) -> Check:
    import platformdirs

    folder = Path(os.environ.get("CDPBRIDGE_DATA_DIR") or platformdirs.user_data_dir("cdpbridge"))
    there = folder
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Check(
            "data_dir", missing, f"{folder} cannot be written", "correct its owner, or set CDPBRIDGE_DATA_DIR"
        )
    free = shutil.disk_usage(there).free
    text = f"{folder}, {free / _GIB:.1f} GiB free"
    if free < _FREE_DISK:
        return Check(
            "data_dir",
            "warn",
            text,
            f"make space: {_FREE_DISK / _GIB:.0f} GiB at least, or set CDPBRIDGE_DATA_DIR",
        )
    return Check("data_dir", "ok", text)


def _memory() -> Check:
    try:
        from cdpbridge.server.limits import read_machine

        free = read_machine(Path("/")).memory_available
    except (ImportError, OSError, KeyError, AttributeError):  # another system than Linux
        return Check("memory", "ok", "how much is free cannot be read on this system")
    text = f"{free / _GIB:.1f} GiB free"
    if free < _FREE_MEMORY:
        return Check(
            "memory",
            "warn",
            text,
            "end other programs; a browser takes 100 to 300 MiB, and as much for each heavy page",
        )
    return Check("memory", "ok", text)


def _ports(missing: Status) -> Check:
    with socket.socket() as any_port:
        try:
            any_port.bind(("127.0.0.1", 0))
        except OSError as error:
            return Check(
                "ports",
                missing,
                f"127.0.0.1 cannot be listened on: {error.strerror}",
                "allow it in the firewall or the container",
            )
    with socket.socket() as usual:
        usual.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            usual.bind(("127.0.0.1", _PORT))
        except OSError:
            return Check(
                "ports",
                "ok",
                f"127.0.0.1 can be listened on; port {_PORT} is taken, perhaps by a `cdpbridge serve`",
            )
    return Check(
        "ports", "ok", f"127.0.0.1 can be listened on, and port {_PORT} of `cdpbridge serve` is free"
    )


def _key() -> Check:
    from cdpbridge.api._place import KEY_VARIABLE, checked_key
    from cdpbridge.errors import ConfigurationError

    key = os.environ.get(KEY_VARIABLE)
    if not key:
        return Check("key", "ok", f"{KEY_VARIABLE} is not set; browsers of this machine need none")
    try:
        checked_key(key)
    except ConfigurationError as error:
        return Check("key", "fail", f"{KEY_VARIABLE}: {error}", "copy it again")
    return Check("key", "ok", f"{KEY_VARIABLE} is set, {ending(key)}")


def _variables() -> Check:
    from cdpbridge._environment import PREFIX, check_variables
    from cdpbridge.errors import ConfigurationError

    try:
        check_variables(os.environ)
    except ConfigurationError as error:
        return Check("variables", "fail", str(error), "rename or unset it")
    names = sorted(name for name in os.environ if name.startswith(PREFIX))
    return Check("variables", "ok", ", ".join(names) or f"no {PREFIX}... is set")


def _journal() -> Check:
    from cdpbridge.rental import Journal
    from cdpbridge.rental.journal._owner import Fate

    journal = Journal()
    if journal.path is None:
        return Check(
            "journal",
            "warn",
            "CDPBRIDGE_JOURNAL is off: what a killed program leaves is not found",
            "unset it",
        )
    left = [each for each in journal.open_entries() if each.given_up or each.owner.fate is Fate.DEAD]
    if left:
        count = f"{len(left)} browser{'' if len(left) == 1 else 's'}"
        return Check("journal", "warn", f"killed programs may have left {count} rented", "cdpbridge reap")
    return Check("journal", "ok", f"{journal.path}, nothing is left rented")
