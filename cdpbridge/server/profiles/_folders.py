"""`Folders`: where the versions of profiles are on the disk, and who is at work on which."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from uuid import UUID

from ._cache import CACHED

__all__ = ["OLD", "Folders", "version_name"]

_VERSION: Final = re.compile(r"v(\d{8,})")
_NEW: Final = "new-"
OLD: Final = "old-"
"""Begins the name of a folder that is being removed."""


class Folders:
    """One folder for each profile, with its versions; see `_store`.

    Args:
        root: Made when missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._guard = threading.Lock()
        self._locks: defaultdict[UUID, threading.Lock] = defaultdict(threading.Lock)
        self._writing: set[Path] = set()

    def home(self, profile_id: UUID) -> Path:
        """Return the folder of a profile, if it is there."""
        return self.root / str(profile_id)

    def newest_number(self, profile_id: UUID) -> int:
        """Return the number of the newest version that is kept without object storage; 0 when there is none."""
        try:
            names = [entry.name for entry in self.home(profile_id).iterdir()]
        except FileNotFoundError:
            return 0
        return max((int(match[1]) for name in names if (match := _VERSION.fullmatch(name))), default=0)

    def newest(self, profile_id: UUID) -> Path | None:
        """Return the folder of the newest version that is kept without object storage; None when there is none."""
        number = self.newest_number(profile_id)
        return self.home(profile_id) / version_name(number) if number else None

    def lock(self, profile_id: UUID) -> threading.Lock:
        """Return what keeps others away from a profile."""
        with self._guard:
            return self._locks[profile_id]

    @contextmanager
    def try_lock(self, profile_id: UUID) -> Iterator[bool]:
        """Keep others away from a profile; False when another one does so now."""
        lock = self.lock(profile_id)
        taken = lock.acquire(blocking=False)
        try:
            yield taken
        finally:
            if taken:
                lock.release()

    def draft(self, profile_id: UUID) -> Path:
        """Make the folder of a version being written. The caller holds the lock, and dismisses it."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        home = self.home(profile_id)
        home.mkdir(mode=0o700, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=_NEW, dir=home))
        self._writing.add(draft)
        return draft

    def dismiss(self, draft: Path) -> None:
        """Remove a draft, unless it was renamed when all went well."""
        self._writing.discard(draft)
        shutil.rmtree(draft, ignore_errors=True)

    def tidy(self, profile_id: UUID, kept: Collection[str]) -> None:
        """Remove former versions, and what a kill has left. The caller holds the lock.

        Args:
            profile_id: Whose.
            kept: Names of folders that stay, beside drafts.
        """
        home = self.home(profile_id)
        for entry in home.iterdir():
            if entry in self._writing or entry.name in kept:
                continue
            if _VERSION.fullmatch(entry.name) or entry.name.startswith(CACHED):
                # A version that cannot be renamed is removed next time.
                with suppress(OSError):
                    entry = entry.rename(home / f"{OLD}{os.urandom(4).hex()}")  # noqa: PLW2901  # its new name
            shutil.rmtree(entry, ignore_errors=True)


def version_name(number: int) -> str:
    """Return the name of the folder of a version that is kept without object storage."""
    return f"v{number:08}"
