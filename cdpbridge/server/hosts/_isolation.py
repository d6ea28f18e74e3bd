"""`Isolator`: whether and how the browsers of this server are isolated, as a test has shown it."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cdpbridge.chromium import Build, Isolation, Launcher, UidPool
from cdpbridge.errors import BrowserStartFailed, ConfigurationError
from cdpbridge.isolation import Means
from cdpbridge.server.settings import Settings

from ._builds import Builds
from ._isolation_cache import IsolationCache
from ._isolation_test import breach
from ._readable import hidden_folders, home_files

__all__ = ["Isolator", "Prepared", "prepare_isolation"]

logger = logging.getLogger("cdpbridge.server")

# The strongest first.
_CANDIDATES: Final = (
    Means(processes=True, landlock=True),
    Means(processes=True, landlock=False),
    Means(processes=False, landlock=True),
    Means(processes=False, landlock=False),
)
_ONLY_LINUX: Final = "isolation is made of Linux namespaces, and this is another system"
_MASKED: Final = "no process namespace, as /proc is masked here (Docker: --security-opt systempaths=unconfined; Kubernetes: procMount: Unmasked)"


class Isolator:
    """Places for the browsers of a server, until `close`.

    Args:
        hidden: Folders that no browser sees, whatever it is given that they lie in.
        home: What every browser finds in its home folder: see `Isolation`.

    Attributes:
        launcher: Starts programs in places.
        means: What the test has shown that the kernel offers.
    """

    def __init__(
        self,
        launcher: Launcher,
        means: Means,
        *,
        hidden: Collection[Path] = (),
        home: Mapping[Path, str] | None = None,
    ) -> None:
        self.launcher = launcher
        self._hidden = tuple(hidden)
        self._home = dict(home or {})
        self.means = means

    def __str__(self) -> str:
        missing = [] if self.means.processes else [_MASKED]
        missing += [] if self.means.landlock else ["no Landlock in this kernel"]
        return "on" if not missing else f"on, with {' and '.join(missing)}"

    def place(self, writable: Sequence[Path], readable: Sequence[Path]) -> Isolation:
        """Return the place of one browser: what it may change and read, besides its profile."""
        return Isolation(self.launcher, self.means, writable, readable, hidden=self._hidden, home=self._home)

    async def close(self) -> None:
        """End what starts browsers. Those that run live on."""
        await self.launcher.close()


@dataclass(frozen=True, slots=True)
class Prepared:
    """How the browsers of a server are isolated.

    Attributes:
        isolator: None if they are not.
        words: What the test has shown, for a reader.
        sharing_refusal: Why several projects may not use this server; empty when they may.
    """

    isolator: Isolator | None
    words: str
    sharing_refusal: str = ""

    def check(self, projects: int) -> None:
        """Check that so many projects with keys may use this server.

        Raises:
            ConfigurationError: They are several, and their browsers cannot be kept from each other.
        """
        if projects > 1 and self.sharing_refusal:
            raise ConfigurationError(f"{projects} projects have keys, and {self.sharing_refusal}")


async def prepare_isolation(settings: Settings, builds: Builds, uids: UidPool | None) -> Prepared:
    """Return how browsers are isolated here, tested on each build before a browser is sold.

    Raises:
        ConfigurationError: It is not possible, and `isolation = "require"`.
    """
    if settings.isolation == "none":
        return Prepared(None, "off: the setting isolation is none")
    launcher = Launcher()
    try:
        found = await _tested(launcher, builds, uids)
    except BaseException:
        await launcher.close()
        raise
    if isinstance(found, Means):
        with suppress(OSError):  # the first browser tries again, and says what is wrong
            await launcher.prepare()
        isolator = Isolator(
            launcher,
            found,
            hidden=hidden_folders(settings),
            home=home_files() if settings.user_fonts_and_certificates else None,
        )
        level = logging.INFO if found == _CANDIDATES[0] else logging.WARNING
        logger.log(level, "isolation of browsers: %s", isolator)
        return Prepared(isolator, str(isolator))
    await launcher.close()
    if settings.isolation == "require":
        raise ConfigurationError(f'isolation = "require", and browsers cannot be isolated here: {found}')
    refusal = (
        f"browsers cannot be kept from each other here: {found}. Run one server for each project, each as a user of its own; or "
        'grant what is missing; or write isolation = "none", and who drives a browser of one project may reach those of the others'
    )
    logger.warning(
        "browsers are not isolated here: %s. Who drives one reads what its user may read and reaches this machine's network",
        found,
    )
    return Prepared(None, f"off: {found}", refusal)


async def _test(isolation: Isolation, builds: Sequence[Build], uids: UidPool | None) -> None:
    """Let one browser of each build try to get out, all at once.

    Raises:
        BrowserStartFailed: One does not start, or gets through to something.
    """
    found = await asyncio.gather(*(breach(isolation, each, uids) for each in builds), return_exceptions=True)
    for build, through in zip(builds, found, strict=True):
        if isinstance(through, BaseException):
            raise through
        if through is not None:
            raise BrowserStartFailed(f"the test of the {build.kind} build has failed: {through}")


async def _tested(launcher: Launcher, builds: Builds, uids: UidPool | None) -> Means | str:
    """Return the strongest means that pass with every build, or in one line why there are none."""
    if sys.platform != "linux":
        return _ONLY_LINUX
    used = list(dict.fromkeys((builds.usual, builds.for_profile)))
    cache = IsolationCache(used)
    if (known := cache.read()) is not None:
        return known
    problems: list[str] = []
    for means in _CANDIDATES:
        try:
            await _test(Isolation(launcher, means), used, uids)
        except (BrowserStartFailed, OSError) as error:
            problems.append(" ".join(str(error).split()))
            logger.debug("isolation by %s: %s", means, error)
        else:
            cache.write(means)
            return means
    return "; ".join(dict.fromkeys(problems))
