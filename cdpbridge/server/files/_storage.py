"""`FileStore`: one folder for uploads, downloads, screenshots, logs and output files."""

from __future__ import annotations

import os
import shutil
import stat
import threading
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final
from uuid import UUID

__all__ = ["FileStore", "StoredFile", "distinct_names", "safe_name"]

# Common to ext4, APFS and NTFS.
_NAME_BYTES: Final = 255
_MAX_SAME_NAMES: Final = 1000
_DRAFT: Final = ".crdownload"  # Chromium's, while it downloads
_FORBIDDEN: Final = frozenset('/\\:*?"<>|')


def safe_name(name: str) -> str:
    """`name` as one harmless path component on every system; never empty, never hidden, at most 255 bytes."""
    name = unicodedata.normalize("NFC", name.encode(errors="replace").decode())
    name = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(
        "_" if letter in _FORBIDDEN or unicodedata.category(letter).startswith("C") else letter
        for letter in name
    )
    kept = kept.strip(". ") or "file"
    stem, dot, suffix = kept.rpartition(".")
    if not dot or len(suffix.encode()) > 20:
        stem, dot, suffix = kept, "", ""
    room = _NAME_BYTES - len((dot + suffix).encode())
    return stem.encode()[:room].decode(errors="ignore") + dot + suffix


def distinct_names(names: Iterable[str]) -> list[str]:
    """These names, safe, with a number where one comes again: `note.txt`, `note (2).txt`."""
    found: list[str] = []
    for name in names:
        free = (tried for tried in _variants(safe_name(name)) if tried not in found)
        found.append(next(free, safe_name(name)))
    return found


def _variants(name: str) -> Iterator[str]:
    """A safe name, then the same with numbers."""
    yield name
    stem, dot, suffix = name.rpartition(".")
    stem, ending = (stem, dot + suffix) if dot else (name, "")
    for number in range(2, _MAX_SAME_NAMES):
        more = f" ({number}){ending}"
        yield stem.encode()[: _NAME_BYTES - len(more.encode())].decode(errors="ignore") + more


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the store.

    Attributes:
        path: In the store.
        file: On this machine.
        size: Bytes.
        modified: Unix seconds.
    """

    name: str
    path: str
    file: Path
    size: int
    modified: float


class FileStore:
    """Folders of browsers and tasks below `root`. Paths handed out are relative to it, with slashes."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._promised: dict[Path, float] = {}
        self._promising = threading.Lock()

    def browser_folder(self, browser_id: UUID) -> Path:
        """Everything of a browser."""
        return self._root / "browsers" / str(browser_id)

    def uploads(self, browser_id: UUID) -> Path:
        """Files that were uploaded for a browser, and for the agents that drive it."""
        return self._root / "browsers" / str(browser_id) / "uploads"

    def downloads(self, browser_id: UUID) -> Path:
        """Files that a browser has downloaded."""
        return self._root / "browsers" / str(browser_id) / "downloads"

    def recording(self, browser_id: UUID) -> Path:
        """Video and stills of a browser."""
        return self._root / "browsers" / str(browser_id) / "recording"

    def task_folder(self, task_id: UUID) -> Path:
        """Screenshots, log and output files of a task."""
        return self._root / "tasks" / str(task_id)

    def make(self, folder: Path) -> Path:
        """`folder`, made if it is not there, for this user alone."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def reserve(self, folder: Path, name: str, *, now: float, age: float) -> str:
        """`name`, or the first of `name (2)`, `name (3)` ... that is neither there nor promised to another upload.

        Args:
            now: Unix seconds.
            age: Seconds after which a promise that was not kept is forgotten.
        """
        with self._promising:
            self._promised = {path: until for path, until in self._promised.items() if until > now}
            for tried in _variants(name):
                path = folder / tried
                if path not in self._promised and not path.exists():
                    self._promised[path] = now + age
                    return tried
        raise FileExistsError(f"there are too many files called {name!r}")

    def listing(self, folder: Path) -> list[StoredFile]:
        """Finished files of a folder by name; links, hidden files and drafts are none."""
        found = []
        for file in folder.iterdir() if folder.is_dir() else ():
            status = _finished(file)
            if status is not None:
                path = file.relative_to(self._root).as_posix()
                found.append(StoredFile(file.name, path, file, status.st_size, status.st_mtime))
        return sorted(found, key=lambda each: each.name)

    def path_of(self, file: Path, folder: Path) -> str | None:
        """Where `file` is in the store; None unless it is a regular file really inside `folder`, links followed."""
        try:
            found = file.resolve(strict=True)
        except (OSError, RuntimeError):
            return None
        if not found.is_file() or not found.is_relative_to(folder.resolve()):
            return None
        return found.relative_to(self._root).as_posix()

    def browser_of(self, path: str) -> UUID | None:
        """The browser whose folder a path of this store leads into; None for other paths."""
        parts = PurePosixPath(path).parts
        try:
            return UUID(parts[1]) if len(parts) > 2 and parts[0] == "browsers" else None
        except ValueError:
            return None

    def relative(self, file: Path) -> str:
        """The path in the store of a file below its root, which need not be there."""
        return file.relative_to(self._root).as_posix()

    def place(self, path: str) -> Path | None:
        """Where a new file at `path` goes; None when its folder has been removed."""
        found = self._root / path
        return found if found.parent.is_dir() else None

    def file(self, path: str) -> Path | None:
        """The regular file at a path of this store; None when there is none, or when it leads out of the store."""
        if "\0" in path or ".." in PurePosixPath(path).parts:
            return None
        found = self._root / path
        inside = self.path_of(found, self._root) == path
        return found if inside else None

    def tidy(self) -> None:
        """Remove what a killed server has left: scratch folders of its agents, and halves of uploads. Before anything runs."""
        for folder in self._root.glob("tasks/*/.agent-*"):
            shutil.rmtree(folder, ignore_errors=True)
        for draft in self._root.glob("browsers/*/uploads/.*.upload"):
            draft.unlink(missing_ok=True)

    def remove(self, *, browser_id: UUID | None = None, task_id: UUID | None = None) -> None:
        """Remove everything of a browser, of a task."""
        folders = []
        if browser_id is not None:
            folders.append(self._root / "browsers" / str(browser_id))
        if task_id is not None:
            folders.append(self.task_folder(task_id))
        for folder in folders:
            if folder.exists():
                shutil.rmtree(folder)


def _finished(path: Path) -> os.stat_result | None:
    if path.name.startswith(".") or path.suffix == _DRAFT:
        return None
    try:
        status = path.lstat()
        if not status.st_size:
            # Chromium takes the name with an empty file for a moment, and renames its draft to it then (seen in 156).
            if path.with_name(path.name + _DRAFT).exists():
                return None
            status = path.lstat()  # it may have been renamed between the two looks
    except FileNotFoundError:  # removed meanwhile
        return None
    return status if stat.S_ISREG(status.st_mode) else None
