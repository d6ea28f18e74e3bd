"""`ReadyCopies`: copies of profiles that wait for their next rentals, each of which takes one by a rename.

    <folder>/<profile id>.<stamp of the version>.<bytes>.<boot>/   a whole copy
             new-XXXXXXXX/                                          one being made, or left by a kill
             old-XXXXXXXX/                                          one being removed, or left by a kill

A copy is made of the files of the browser that has just saved the version: they would be removed, so that it costs no bytes to be
read or written. They are not synced. What a killed server has left is whole by its name; after a restart of the machine it may
not be, so that the name has the number of the kernel's boot.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from ._copy import Budget, TooBig
from ._move import NotPlain, move_plain_files

__all__ = ["ReadyCopies"]

logger = logging.getLogger("cdpbridge.server")

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_NAME: Final = re.compile(r"([0-9a-f-]{36})\.([0-9a-z-]+\.[0-9a-f]+)\.(\d+)\.([0-9a-f]{32})")
_NEW, _OLD = "new-", "old-"
# Of the bytes that are free on the disk: what is kept must not be what others lack.
_SHARE_OF_FREE: Final = 10


@dataclass(frozen=True, slots=True)
class _Copy:
    """A whole copy.

    Attributes:
        stamp: Of the version that it is a copy of.
        size: Bytes.
    """

    place: Path
    stamp: str
    size: int


class ReadyCopies:
    """At most one copy of each profile; the least recently made ones are removed first. May be used by any thread.

    Args:
        folder: Made when missing; no other server uses it. It must be on the file system of the browsers' folders, else there is no copy.
        max_bytes: Of all together; 0 for none. They never have more than a tenth of what the disk has free.
        stamp: Returns what no other version has, given a profile and the name of the version's folder, with which it begins up to a dot;
            None when there is no such version.
    """

    def __init__(self, folder: Path, max_bytes: int, stamp: Callable[[UUID, str], str | None]) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._boot = _boot()
        self._guard = threading.Lock()
        self._copies: OrderedDict[UUID, _Copy] = OrderedDict()
        self._stale = self._look(stamp)

    def sweep(self) -> None:
        """Remove what earlier servers have left and what is of no use now."""
        stale, self._stale = self._stale, []
        for place in stale:
            _remove(place)

    @property
    def stale(self) -> bool:
        """True if there is something to sweep."""
        return bool(self._stale)

    def make(self, source: Path, budget: Budget) -> tuple[Path, int] | None:
        """Move the files of a browser that has ended into a new copy, for `add` or `dismiss`.

        Args:
            source: The browser's profile, of which the version was saved. What is left there is to be removed.
            budget: As for the version.

        Returns:
            Where it is and its bytes; None, with a line in the log, when it cannot be made.
        """
        if not self._max_bytes:
            return None
        draft = None
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=_NEW, dir=self._folder))
            size = move_plain_files(source, draft, budget)
        except (OSError, TooBig, NotPlain) as error:
            logger.info("no copy of a profile is kept ready for its next browser: %s", error)
            if draft is not None:
                self.dismiss(draft)
            return None
        return draft, size

    def add(self, profile_id: UUID, stamp: str, draft: Path, size: int) -> None:
        """Let a copy wait; it replaces that of a former version. The caller keeps others away from the profile.

        Args:
            profile_id: Whose.
            stamp: Of the version.
            draft: As `make` returns it.
            size: As above.
        """
        place = self._folder / f"{profile_id}.{stamp}.{size}.{self._boot}"
        self.drop(profile_id)
        if size > (limit := self._limit()):
            logger.debug("no copy of profile %s is kept ready: %d bytes, at most %d", profile_id, size, limit)
            self.dismiss(draft)
            return
        try:
            # Last: what bears such a name is whole.
            draft.rename(place)
        except OSError as error:
            logger.info("no copy of profile %s is kept ready: %s", profile_id, error)
            self.dismiss(draft)
            return
        with self._guard:
            self._copies[profile_id] = _Copy(place, stamp, size)
        self._trim()

    @staticmethod
    def dismiss(draft: Path) -> None:
        """Remove a copy that does not become one."""
        shutil.rmtree(draft, ignore_errors=True)

    def take(self, profile_id: UUID, stamp: str | None, target: Path) -> bool:
        """Put the copy of a version in the place of the empty folder `target`; False when there is none. The caller as for `add`."""
        with self._guard:
            copy = self._copies.get(profile_id)
            if copy is None or copy.stamp != stamp:
                return False
            del self._copies[profile_id]
        try:
            copy.place.rename(target)
        except OSError as error:
            logger.warning("the ready copy of profile %s cannot be used: %s", profile_id, error)
            _remove(copy.place)
            return False
        return True

    def drop(self, profile_id: UUID) -> None:
        """Remove the copy of a profile, if there is one. The caller as for `add`."""
        with self._guard:
            copy = self._copies.pop(profile_id, None)
        if copy is not None:
            _remove(copy.place)

    def clear(self) -> bool:
        """Remove all copies, so that the disk has their bytes; True if there were some."""
        with self._guard:
            copies = list(self._copies.values())
            self._copies.clear()
        for copy in copies:
            _remove(copy.place)
        return bool(copies)

    def _limit(self) -> int:
        try:
            return min(self._max_bytes, shutil.disk_usage(self._folder).free // _SHARE_OF_FREE)
        except OSError:
            return 0

    def _trim(self) -> None:
        limit, surplus = self._limit(), []
        with self._guard:
            total = sum(copy.size for copy in self._copies.values())
            while total > limit:
                _, copy = self._copies.popitem(last=False)
                total -= copy.size
                surplus.append(copy)
        for copy in surplus:
            _remove(copy.place)

    def _look(self, stamp: Callable[[UUID, str], str | None]) -> list[Path]:
        """Find the copies of an earlier server, and return what is none."""
        stale = []
        found: list[tuple[float, UUID, _Copy]] = []
        try:
            entries = list(self._folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        for place in entries:
            match = _NAME.fullmatch(place.name)
            if match is None or match[4] != self._boot or not self._max_bytes:
                stale.append(place)
                continue
            profile_id = UUID(match[1])
            if stamp(profile_id, match[2].partition(".")[0]) == match[2]:
                found.append((place.stat().st_mtime, profile_id, _Copy(place, match[2], int(match[3]))))
            else:
                stale.append(place)
        for _, profile_id, copy in sorted(found, key=lambda each: each[0]):
            if (other := self._copies.pop(profile_id, None)) is not None:
                stale.append(other.place)
            self._copies[profile_id] = copy
        return stale


def _remove(place: Path) -> None:
    removed = place.with_name(f"{_OLD}{os.urandom(4).hex()}")
    try:
        # First, so that a kill half-way through leaves no half copy under that name.
        place.rename(removed)
    except OSError as error:
        logger.warning("the ready copy %s cannot be removed: %s", place.name, error)
        return
    shutil.rmtree(removed, ignore_errors=True)


def _boot() -> str:
    """Return the number of the kernel's boot; one that no other process has where the kernel has none."""
    try:
        boot = _BOOT_ID.read_text().strip().replace("-", "")
    except OSError:
        boot = ""
    return boot if re.fullmatch(r"[0-9a-f]{32}", boot) else os.urandom(16).hex()
