"""What earlier tests of isolation have found on this machine, for all servers of a user.

The result is kept in the user's cache folder, so that a server with a new data folder does not pay for the test. It is believed only
where no other user can have written it, and where everything that it depends on is as it was.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import platformdirs

from cdpbridge._version import __version__
from cdpbridge.chromium import Build
from cdpbridge.isolation import Means

__all__ = ["IsolationCache"]

logger = logging.getLogger("cdpbridge.server")

# Of what is tested and how; another one makes earlier results worthless.
_VERSION: Final = 2
# One for each pair of builds, kernel, version and so on; the oldest goes first.
_MOST_RESULTS: Final = 16
_MAX_BYTES: Final = 64 * 1024
# Where an administrator forbids or grants what isolation is made of.
_SWITCHES: Final = (
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
    "/proc/sys/kernel/unprivileged_userns_clone",
    "/proc/sys/user/max_mnt_namespaces",
    "/proc/sys/user/max_net_namespaces",
    "/proc/sys/user/max_pid_namespaces",
    "/proc/sys/user/max_user_namespaces",
    "/proc/self/attr/current",
    "/proc/self/uid_map",
    "/proc/cmdline",
)
_RIGHTS: Final = ("CapEff:", "CapBnd:", "NoNewPrivs:", "Seccomp:")


class IsolationCache:
    """The strongest means that have passed, by kernel, builds, rights of this process, and version of cdpbridge.

    Args:
        builds: That were, or are to be, tested.
        folder: Default: the user's cache folder.
    """

    def __init__(self, builds: Sequence[Build], folder: Path | None = None) -> None:
        # Relative for a user who has no home: then nothing is kept.
        self._folder = folder or Path(platformdirs.user_cache_dir("cdpbridge"))
        self._file = self._folder / "isolation.json"
        self._key = _key(builds)

    def read(self) -> Means | None:
        """Return what was found; None when nothing is known, or what is there cannot be trusted."""
        try:
            return _means(self._results()[self._key])
        except OSError as error:
            logger.warning("%s is not used: %s; isolation is tested again", self._file, error)
            return None
        except (KeyError, TypeError):  # of another version
            return None

    def _results(self) -> dict[str, Any]:
        """Return what the file holds, by key.

        Raises:
            OSError: Another user can have written it.
        """
        if not self._folder.is_absolute():
            return {}
        try:
            found = json.loads(_read_own(self._folder, self._file))
        except (FileNotFoundError, ValueError):  # none, or cut off
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, means: Means) -> None:
        """Keep a result. A folder that cannot be written costs the next start a test, and no more."""
        if not self._folder.is_absolute():
            return
        results: dict[str, Any] = {}
        with suppress(OSError):  # what another user can have written is not kept
            results = {key: value for key, value in self._results().items() if key != self._key}
        for key in list(results)[: 1 - _MOST_RESULTS]:
            del results[key]
        results[self._key] = asdict(means)
        draft = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._folder.stat().st_uid != os.geteuid():  # root with the home of another user
                return
            self._folder.chmod(0o700)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump(results, file)
            draft.replace(self._file)
        except OSError as error:
            logger.debug("the result of the test of isolation is not kept: %s", error)


def _read_own(folder: Path, file: Path) -> bytes:
    """Read a file that no other user can have put there or changed.

    Raises:
        OSError: It is absent, or another user can.
    """
    _check_own(folder.stat(), folder)
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as opened:
        status = os.fstat(descriptor)
        _check_own(status, file)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise OSError("it is no plain file with one name")
        return opened.read(_MAX_BYTES)


def _check_own(status: os.stat_result, path: Path) -> None:
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise OSError(
            f"{path} can be changed by other users (uid {status.st_uid}, mode {stat.S_IMODE(status.st_mode):04o})"
        )


def _means(value: Mapping[str, Any]) -> Means:
    """Read means.

    Raises:
        TypeError: They are none.
    """
    if not isinstance(value, dict) or {each.name for each in fields(Means)} != set(value):
        raise TypeError("these are no means")
    if not all(isinstance(each, bool) for each in value.values()):
        raise TypeError("means are there or not")
    return Means(**value)


def _key(builds: Sequence[Build]) -> str:
    """Return a digest of what a result depends on."""
    files = [(os.fspath(build.path), build.path.stat()) for build in builds]
    facts = {
        "version": [__version__, _VERSION],
        "kernel": f"{platform.release()} {platform.version()}",
        "uid": os.geteuid(),
        "rights": [line for line in _lines("/proc/self/status") if line.startswith(_RIGHTS)],
        "switches": {path: _lines(path) for path in _SWITCHES},
        # Container engines mask parts of it; then no other /proc may be mounted.
        "proc": sorted(
            {
                point
                for line in _lines("/proc/self/mountinfo")
                if (point := line.split()[4]).startswith("/proc")
            }
        ),
        "builds": [[path, status.st_size, status.st_mtime_ns] for path, status in files],
    }
    return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(errors="replace").splitlines()
    except OSError:  # kernels differ in what they have
        return []
