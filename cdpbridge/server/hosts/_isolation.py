"""`Isolator`: whether and how the browsers of this server are isolated, as a test has shown it."""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from cdpbridge.chromium import Build, Isolation, Launcher, UidPool
from cdpbridge.errors import BrowserStartFailed, ConfigurationError
from cdpbridge.isolation import Means
from cdpbridge.server.settings import Settings

from ._builds import Builds
from ._isolation_test import breach

__all__ = ["Isolator", "prepare_isolation"]

logger = logging.getLogger("cdpbridge.server")

# The strongest first.
_CANDIDATES: Final = (
    Means(processes=True, landlock=True),
    Means(processes=True, landlock=False),
    Means(processes=False, landlock=True),
    Means(processes=False, landlock=False),
)
_ONLY_LINUX: Final = "isolation is made of Linux namespaces, and this is another system"
_CACHE: Final = "isolation.json"
# Of what is tested and how; another one makes earlier results worthless.
_VERSION: Final = 1


class Isolator:
    """Places for the browsers of a server, until `close`."""

    def __init__(self, launcher: Launcher, means: Means) -> None:
        self._launcher = launcher
        self.means = means

    def __str__(self) -> str:
        missing = [] if self.means.processes else ["no process namespace: /proc is masked here"]
        missing += [] if self.means.landlock else ["no Landlock in this kernel"]
        return "on" if not missing else f"on, with {' and '.join(missing)}"

    def place(self, writable: Sequence[Path], readable: Sequence[Path]) -> Isolation:
        """Return the place of one browser: what it may change and read, besides its profile."""
        return Isolation(self._launcher, self.means, writable, readable)

    async def close(self) -> None:
        """End what starts browsers. Those that run live on."""
        await self._launcher.close()


async def prepare_isolation(
    settings: Settings, builds: Builds, uids: UidPool | None, *, projects: int, cache: Path
) -> tuple[Isolator | None, str]:
    """Return how browsers are isolated here, tested on each build before a browser is sold, and the same in words.

    Args:
        projects: How many have keys: those of several are kept from each other, or the server does not start.
        cache: Folder of what earlier tests have found, for this kernel and these builds.

    Raises:
        ConfigurationError: It is not possible, and required: by `isolation = "require"`, or by `"auto"` with several projects.
    """
    if settings.isolation == "none":
        return None, "off: the setting isolation is none"
    launcher = Launcher()
    try:
        found = await _tested(launcher, builds, uids, cache / _CACHE)
    except BaseException:
        await launcher.close()
        raise
    if isinstance(found, Means):
        isolator = Isolator(launcher, found)
        logger.info("isolation of browsers: %s", isolator)
        return isolator, str(isolator)
    await launcher.close()
    if settings.isolation == "require":
        raise ConfigurationError(f'isolation = "require", and browsers cannot be isolated here: {found}')
    if projects > 1:
        raise ConfigurationError(
            f"{projects} projects have keys, and browsers cannot be kept from each other here: {found}. Run one server for each "
            'project, each as a user of its own; or grant what is missing; or write isolation = "none", and who drives a browser '
            "of one project may reach those of the others"
        )
    logger.warning(
        "browsers are not isolated here: %s. Who drives one reads what its user may read and reaches this machine's network",
        found,
    )
    return None, f"off: {found}"


async def _tested(launcher: Launcher, builds: Builds, uids: UidPool | None, cache: Path) -> Means | str:
    """Return the strongest means that pass with every build, or why there are none."""
    if sys.platform != "linux":
        return _ONLY_LINUX
    used = list(dict.fromkeys((builds.usual, builds.for_profile)))
    key = _key(used)
    if (known := _read(cache, key)) is not None:
        return known
    problems: list[str] = []
    for means in _CANDIDATES:
        try:
            for build in used:
                if (through := await breach(Isolation(launcher, means), build, uids)) is not None:
                    raise BrowserStartFailed(f"the test of the {build.kind} build has failed: {through}")
        except BrowserStartFailed as error:
            problems.append(str(error))
            logger.debug("isolation by %s: %s", means, error)
        else:
            _write(cache, key, means)
            return means
    return problems[0]


def _key(builds: Sequence[Build]) -> dict[str, Any]:
    """Return what a result depends on."""
    files = [(os.fspath(build.path), build.path.stat()) for build in builds]
    return {
        "version": _VERSION,
        "kernel": f"{platform.release()} {platform.version()}",
        "uid": os.geteuid(),
        "builds": [[path, status.st_size, status.st_mtime_ns] for path, status in files],
    }


def _read(cache: Path, key: dict[str, Any]) -> Means | None:
    try:
        value = json.loads(cache.read_bytes())
        return Means(**value["means"]) if value["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):  # none, or of another version
        return None


def _write(cache: Path, key: dict[str, Any], means: Means) -> None:
    draft = cache.with_name(f".{cache.name}.{os.getpid()}")
    try:
        draft.write_text(json.dumps({"key": key, "means": asdict(means)}))
        draft.replace(cache)
    except OSError as error:
        logger.debug("the result of the test of isolation is not kept: %s", error)
