"""`Cache`: versions of profiles that are kept in object storage, as they are on this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Final
from uuid import UUID

from ._archives import folder_name

__all__ = ["CACHED", "Cache"]

CACHED: Final = "cached-"
# A file in the version's folder, beside what is in its archive.
_SIZE: Final = "size"


class Cache:
    """Folders named for archives, below one folder for each profile; the least recently used go first.

    Args:
        root: As the profile store's.
        max_bytes: Of all together; the one that was used last stays.
        lock: Keeps others away from one profile; not waited for.
    """

    def __init__(
        self, root: Path, max_bytes: int, lock: Callable[[UUID], AbstractContextManager[bool]]
    ) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._lock = lock

    def place(self, profile_id: UUID, archive: str) -> Path:
        """Return where a version is, if it is there."""
        return self._root / str(profile_id) / f"{CACHED}{folder_name(archive)}"

    def find(self, profile_id: UUID, archive: str) -> Path | None:
        """Return a version that is there, and note that it was used."""
        place = self.place(profile_id, archive)
        try:
            os.utime(place)
        except FileNotFoundError:
            return None
        return place

    def add(self, profile_id: UUID, archive: str, draft: Path, size: int) -> Path:
        """Move a whole version to its place. The caller holds the profile's lock."""
        place = self.place(profile_id, archive)
        (draft / _SIZE).touch(mode=0o600)
        (draft / _SIZE).write_text(str(size))
        draft.rename(place)
        os.utime(place)
        return place

    def trim(self) -> None:
        """Remove versions until the rest is within the limit."""
        found = sorted(self._root.glob(f"*/{CACHED}*"), key=_used_at, reverse=True)
        total = 0
        for place in found:
            total += _size(place)
            if total > self._max_bytes and place is not found[0]:
                self._remove(place)

    def _remove(self, place: Path) -> None:
        with self._lock(UUID(place.parent.name)) as free:
            if not free:
                return
            removed = place.with_name(f"old-{os.urandom(4).hex()}")
            # First, so that a kill half-way through leaves no half version.
            with suppress(OSError):
                place.rename(removed)
            shutil.rmtree(removed, ignore_errors=True)
            with suppress(OSError):  # other versions
                place.parent.rmdir()


def _used_at(place: Path) -> float:
    try:
        return place.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(place: Path) -> int:
    try:
        return int((place / _SIZE).read_text())
    except (OSError, ValueError):
        return 0
