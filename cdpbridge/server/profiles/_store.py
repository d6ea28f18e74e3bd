"""Profiles on the disk: one folder each, with its versions; the newest whole one counts.

    <root>/<profile id>/v00000007/user-data/   the browser's folder, without caches
                                  cookies.json what was exported beside it, if anything
                        new-XXXXXXXX/          a version being written, or left by a kill
                        old-XXXXXXXX/          a version being removed, or left by a kill

A version gets its name by one rename, when all of it is on the disk, so what bears the name is whole.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shutil
import sqlite3
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

from cdpbridge.errors import CDPBridgeError

from ._copy import Budget, TooBig, copy_plain_files, sync, sync_tree
from ._untrusted import Hostile, open_plain, read_table

__all__ = ["COOKIE_DATABASES", "ProfileRefused", "ProfileStore", "ProfileTooBig", "SavedProfile"]

T = TypeVar("T")

logger = logging.getLogger("cdpbridge.server")

_MAX_BYTES: Final = 2 * 1024**3
_MAX_FILES: Final = 200_000
_MAX_DEPTH: Final = 64  # Chromium's own have some 12, its extensions a few more
_MAX_SECONDS: Final = 60.0
# Threads for saving, and as many for everything else: a profile that takes its full time delays no start of another.
_THREADS: Final = 4
_VERSION: Final = re.compile(r"v(\d{8,})")
_NEW, _OLD = "new-", "old-"
_USER_DATA, _COOKIES = "user-data", "cookies.json"
# Newer and older builds (chrome/browser/net/profile_network_context_service.cc), and the headless shell.
COOKIE_DATABASES: Final = ("Default/Network/Cookies", "Default/Cookies")


class ProfileRefused(CDPBridgeError):
    """A profile is not saved because of what its browser has left; the former version stays."""


class ProfileTooBig(ProfileRefused):
    """A profile has more bytes, files or folders than the store takes, or takes too long to copy."""


@dataclass(frozen=True, slots=True)
class SavedProfile:
    """A version of a profile.

    Attributes:
        version: From 1, one more with each save.
        cookie_domains: Hosts that its cookies belong to, sorted, without leading dots.
    """

    version: int
    cookie_domains: Sequence[str]


class ProfileStore:
    """Profiles below a folder that one server uses. Every method blocks, and may be called from any thread; `run` does not.

    Args:
        root: Made when missing.
        max_bytes: More than this is not saved.
        max_files: As above; folders count.
        max_seconds: What takes longer to copy is not saved.
    """

    def __init__(
        self,
        root: Path,
        *,
        max_bytes: int = _MAX_BYTES,
        max_files: int = _MAX_FILES,
        max_seconds: float = _MAX_SECONDS,
    ) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._max_seconds = max_seconds
        self._savers = ThreadPoolExecutor(_THREADS, thread_name_prefix="profiles-save")
        self._others = ThreadPoolExecutor(_THREADS, thread_name_prefix="profiles")
        # They end with the server, and so do the browsers that hold them.
        self._leases: dict[UUID, str] = {}
        self._guard = threading.Lock()
        self._locks: defaultdict[UUID, threading.Lock] = defaultdict(threading.Lock)
        self._writing: set[Path] = set()
        for removed in root.glob(f"{_OLD}*"):  # a kill during `delete`
            shutil.rmtree(removed, ignore_errors=True)

    async def run(self, work: Callable[..., T], *arguments: Any, saving: bool = False) -> T:
        """Run blocking work on profiles in the store's own few threads, so that it never holds up other work on files.

        Args:
            work: A method of the store, or what belongs to it.
            arguments: For `work`.
            saving: It reads what a browser has left, and may take long.
        """
        threads = self._savers if saving else self._others
        return await asyncio.get_running_loop().run_in_executor(threads, work, *arguments)

    def close(self) -> None:
        """End the threads of `run`, each after the work it is at."""
        for threads in (self._savers, self._others):
            threads.shutdown(wait=False)

    # --- who may save -----------------------------------------------------------------------------------------------

    def try_lease(self, profile_id: UUID, owner: str) -> bool:
        """Return True if `owner` is the one who may save this profile, until `release`."""
        with self._guard:
            return self._leases.setdefault(profile_id, owner) == owner

    def release(self, profile_id: UUID, owner: str) -> None:
        """Let others save it. Nothing happens when `owner` does not hold it."""
        with self._guard:
            if self._leases.get(profile_id) == owner:
                del self._leases[profile_id]

    # --- load -------------------------------------------------------------------------------------------------------

    def restore(self, profile_id: UUID, user_data_dir: Path) -> None:
        """Put the newest version into the folder `user_data_dir`, which is made; nothing when there is none."""
        user_data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock(profile_id):
            if (version := self._newest(profile_id)) is not None:
                shutil.copytree(version / _USER_DATA, user_data_dir, symlinks=True, dirs_exist_ok=True)

    def load_cookies(self, profile_id: UUID) -> list[dict[str, Any]] | None:
        """Return the cookies saved with the newest version; None when there were none, or when they cannot be read."""
        with self._lock(profile_id):
            version = self._newest(profile_id)
            if version is None:
                return None
            try:
                found = json.loads((version / _COOKIES).read_bytes())
            except FileNotFoundError:
                return None
            except (OSError, ValueError) as error:
                # Not the error's text: a JSON error quotes nothing today, but this file is all secrets.
                logger.warning(
                    "the cookies of profile %s cannot be read: %s", profile_id, type(error).__name__
                )
                return None
        return list(found)

    # --- save -------------------------------------------------------------------------------------------------------

    def save(
        self, profile_id: UUID, user_data_dir: Path, cookies: list[dict[str, Any]] | None
    ) -> SavedProfile:
        """Save a new version, all of it or nothing. The browser must have ended.

        Args:
            cookies: As `export_cookies` gives them; None when the folder's own database is all there is.

        Raises:
            ProfileTooBig: It is over a limit. The former version stays.
            ProfileRefused: Its cookies are not what a browser writes. The former version stays.
            OSError: From the disk. The former version stays.
        """
        home = self._home(profile_id)
        budget = Budget(self._max_bytes, self._max_files, _MAX_DEPTH, time.monotonic() + self._max_seconds)
        with self._lock(profile_id):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            home.mkdir(mode=0o700, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=_NEW, dir=home))
            self._writing.add(draft)
        try:
            _check_cookie_files(user_data_dir)
            self._write(draft, user_data_dir, cookies, budget)
            domains = {str(cookie.get("domain", "")) for cookie in cookies or ()}
            domains |= _domains_in(draft / _USER_DATA)
            with self._lock(profile_id):
                version = max(_versions(home), default=0) + 1
                draft.rename(home / f"v{version:08}")
                sync(home)
                sync(self._root)
                self._writing.discard(draft)
                self._tidy(home)
        except TooBig as error:
            raise ProfileTooBig(
                f"profile {profile_id} has {error} (at most {self._max_bytes} bytes, {self._max_files} files, "
                f"{self._max_seconds:g} s) and is not saved; clear site data in it, or use a new profile"
            ) from error
        except Hostile as error:
            raise ProfileRefused(f"profile {profile_id} is not saved: {error}") from error
        finally:
            self._writing.discard(draft)
            shutil.rmtree(draft, ignore_errors=True)  # not there when all went well
        return SavedProfile(version, sorted({domain.lstrip(".") for domain in domains} - {""}))

    @staticmethod
    def _write(
        draft: Path, user_data_dir: Path, cookies: Iterable[Mapping[str, Any]] | None, budget: Budget
    ) -> None:
        copy_plain_files(user_data_dir, draft / _USER_DATA, budget)
        if cookies is not None:
            file = draft / _COOKIES
            file.touch(mode=0o600)
            file.write_text(json.dumps(cookies))
        sync_tree(draft, budget)

    def delete(self, profile_id: UUID) -> None:
        """Remove all of it. A save that runs meanwhile fails, or comes later, and its caller must delete the profile again."""
        home = self._home(profile_id)
        with self._lock(profile_id):
            removed = self._root / f"{_OLD}{profile_id}"
            shutil.rmtree(removed, ignore_errors=True)
            with suppress(FileNotFoundError):
                # First, so that a kill half-way through leaves no half profile.
                home.rename(removed)
            shutil.rmtree(removed, ignore_errors=True)

    def _tidy(self, home: Path) -> None:
        """Remove former versions, and what a kill has left."""
        newest = max(_versions(home))
        for entry in home.iterdir():
            match = _VERSION.fullmatch(entry.name)
            if entry in self._writing or (match and int(match[1]) == newest):
                continue
            if match:
                # A version that cannot be renamed is removed next time.
                with suppress(OSError):
                    entry = entry.rename(home / f"{_OLD}{os.urandom(4).hex()}")  # noqa: PLW2901  # its new name
            shutil.rmtree(entry, ignore_errors=True)

    # --- where ------------------------------------------------------------------------------------------------------

    def _home(self, profile_id: UUID) -> Path:
        return self._root / str(profile_id)

    def _newest(self, profile_id: UUID) -> Path | None:
        home = self._home(profile_id)
        version = max(_versions(home), default=None)
        return None if version is None else home / f"v{version:08}"

    def _lock(self, profile_id: UUID) -> threading.Lock:
        with self._guard:
            return self._locks[profile_id]


def _versions(home: Path) -> list[int]:
    try:
        names = [entry.name for entry in home.iterdir()]
    except FileNotFoundError:
        return []
    return [int(match[1]) for name in names if (match := _VERSION.fullmatch(name))]


def _check_cookie_files(user_data: Path) -> None:
    """Raise `Hostile` for a cookie database that is a link, a device, or below a link: a copy would do without it."""
    for name in COOKIE_DATABASES:
        with suppress(FileNotFoundError):
            os.close(open_plain(user_data / name, user_data))


def _domains_in(user_data: Path) -> set[str]:
    """Hosts in the browser's own cookie database; raises `Hostile`."""
    for name in COOKIE_DATABASES:
        try:
            rows = read_table(user_data / name, user_data, "cookies", "SELECT DISTINCT host_key FROM cookies")
        except sqlite3.Error as error:
            logger.warning("the domains of %s cannot be read: %s", Path(name).name, error)
        else:
            if rows is not None:
                return {str(row[0]) for row in rows}
    return set()
