"""`FileStore`: one folder for uploads, downloads, screenshots, logs and output files."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final
from uuid import UUID

from cdpbridge._file_names import NAME_BYTES, safe_file_name
from cdpbridge.chromium import give

from ._kept import KeptFiles
from ._shared import SharedFolders

__all__ = ["MARKS", "VIDEO", "FileStore", "StoredFile", "distinct_names"]

VIDEO: Final = "recording.webm"
"""Name of the video in the folder of a recording."""
MARKS: Final = "uploaded"
"""Name of the folder, beside those of uploads, that says which addresses were used."""

_MAX_SAME_NAMES: Final = 1000
_MOVED: Final = ".moved-"
_DRAFT: Final = ".crdownload"  # Chromium's, while it downloads


def distinct_names(names: Iterable[str]) -> list[str]:
    """Return these names, safe, with a number where one comes again: `note.txt`, `note (2).txt`."""
    found: list[str] = []
    for name in names:
        free = (tried for tried in _variants(safe_file_name(name)) if tried not in found)
        found.append(next(free, safe_file_name(name)))
    return found


def _variants(name: str) -> Iterator[str]:
    """Return a safe name, then the same with numbers."""
    yield name
    stem, dot, suffix = name.rpartition(".")
    stem, ending = (stem, dot + suffix) if dot else (name, "")
    for number in range(2, _MAX_SAME_NAMES):
        more = f" ({number}){ending}"
        yield stem.encode()[: NAME_BYTES - len(more.encode())].decode(errors="ignore") + more


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the store.

    Attributes:
        path: In the store.
        file: On this machine; None when it is in object storage.
        size: Bytes.
        modified: Unix seconds.
        kept_as: The name of its object; None when it is on this machine.
    """

    name: str
    path: str
    file: Path | None
    size: int
    modified: float
    kept_as: str | None = None


class FileStore:
    """Folders of browsers and tasks below `root`. Paths handed out are relative to it, with slashes.

    Args:
        shared: Folders of running browsers that have uids of their own and cannot go into `root`; what is in them has the
            same paths as afterwards in `root`.
        kept: Object storage, to which `keep` moves what ended browsers and tasks have left. A file has one path, wherever it is.
    """

    def __init__(
        self, root: Path, shared: SharedFolders | None = None, kept: KeptFiles | None = None
    ) -> None:
        self._root = root.resolve()
        self._shared = shared
        self.kept = kept
        # Being moved to the storage, and whether they were removed meanwhile.
        self._moving: dict[str, bool] = {}
        # Browser -> its place, where that has another name.
        self._places: dict[str, str] = {}
        self._promised: dict[Path, float] = {}
        self._promising = threading.Lock()

    def browsers(self) -> set[UUID]:
        """Return the browsers that may have files on this machine."""
        running = () if self._shared is None else self._shared.places()
        return {*self.owners("browsers"), *running, *map(UUID, list(self._places))}

    def browser_folders(self, browser_id: UUID) -> list[Path]:
        """Return everything of a browser, kept and, while it runs, beside it."""
        kept = self._root / "browsers" / str(browser_id)
        running = kept
        if self._shared is not None:
            running = self._shared.of_browser(self._place_of(browser_id), "downloads").parent
        return list(dict.fromkeys((kept, running)))

    def uploads(self, browser_id: UUID) -> Path:
        """Files that were uploaded for a browser, and for the agents that drive it."""
        return self._of_browser(str(browser_id), "uploads")

    def downloads(self, browser_id: UUID) -> Path:
        """Files that a browser has downloaded."""
        return self._of_browser(str(browser_id), "downloads")

    def _of_browser(self, browser_id: str, kind: str) -> Path:
        if self._shared is not None:
            folder = self._shared.of_browser(self._place_of(browser_id), kind)
            if folder.is_dir():
                return folder
        return self._root / "browsers" / browser_id / kind

    def _place_of(self, browser_id: UUID | str) -> str:
        return self._places.get(str(browser_id), str(browser_id))

    def assign(self, place_id: UUID, browser_id: UUID) -> Path:
        """Let the folders that `open_browser` made for a place be those of a browser from now on; where its downloads go."""
        if self._shared is not None and self._shared.of_browser(place_id, "downloads").is_dir():
            self._places[str(browser_id)] = str(place_id)
        elif (folder := self._root / "browsers" / str(place_id)).is_dir():
            folder.rename(self._root / "browsers" / str(browser_id))
        return self.downloads(browser_id)

    def discard(self, place_id: UUID | str) -> None:
        """Remove the folders of a place that no browser was given."""
        if self._shared is not None:
            self._shared.discard(place_id)
        with suppress(FileNotFoundError):
            shutil.rmtree(self._root / "browsers" / str(place_id))

    def open_browser(self, browser_id: UUID, uid: int | None) -> Path:
        """Make the folders of a browser that starts, under `uid` if not our own; where its downloads go."""
        if self._shared is not None and uid is not None:
            self._shared.open_for(browser_id, uid)
            return self.downloads(browser_id)
        return self.make(self.downloads(browser_id))

    def shown_to(self, browser_id: UUID) -> tuple[list[Path], list[Path]]:
        """Return what an isolated browser sees of its files, made by `open_browser`: to write, and to read."""
        if self._shared is None:
            return [self.downloads(browser_id)], [self.make(self.uploads(browser_id))]
        tasks = self._shared.of_tasks(self._place_of(browser_id))
        return [self.downloads(browser_id), tasks], [self.uploads(browser_id)]

    def close_browser(self, browser_id: UUID | str) -> None:
        """Take in what a browser has left, once its processes have ended; leave nothing for one that has no files."""
        folder = self._root / "browsers" / str(browser_id)
        place = self._places.pop(str(browser_id), str(browser_id))
        if self._shared is not None:
            self._shared.take_in(place, folder)
        for each in (folder / "downloads", folder):
            with suppress(OSError):  # not empty, or not there
                each.rmdir()

    def open_task(self, task_id: UUID, browser_id: UUID) -> tuple[Path, Path]:
        """Make a task's folder, and the one for what its agent shares with the browser, often the same."""
        folder = self.make(self.task_folder(task_id))
        shared = None
        if self._shared is not None:
            shared = self._shared.open_for_task(self._place_of(browser_id), task_id)
        return folder, shared or folder

    def close_task(self, task_id: UUID, shared: Path) -> None:
        """Take in what an agent has left in the folder that it shared with the browser."""
        if self._shared is not None and shared != self.task_folder(task_id):
            self._shared.take_in_task(shared, self.task_folder(task_id))

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
        """Finished files of a folder by name; links, hidden files and drafts are none.

        Raises:
            ObjectStorageError: It may be in object storage, and that does not answer.
        """
        if self.kept is not None and not self._owner(folder).exists():
            path = self.relative(folder)
            return _newest(file for place, file in self.kept.listing(path) if place == path)
        found = []
        for file in folder.iterdir() if folder.is_dir() else ():
            status = _finished(file)
            if status is not None:
                path = self.relative(file)
                found.append(StoredFile(file.name, path, file, status.st_size, status.st_mtime))
        return sorted(found, key=lambda each: each.name)

    def path_of(self, file: Path, folder: Path) -> str | None:
        """Return where `file` is in the store; None unless it is a regular file really inside `folder`, links followed."""
        try:
            found = file.resolve(strict=True)
        except (OSError, RuntimeError):
            return None
        if not found.is_file() or not found.is_relative_to(folder.resolve()):
            return None
        return self.relative(found)

    def browser_of(self, path: str) -> UUID | None:
        """Return the browser whose folder a path of this store leads into; None for other paths."""
        parts = PurePosixPath(path).parts
        try:
            return UUID(parts[1]) if len(parts) > 2 and parts[0] == "browsers" else None
        except ValueError:
            return None

    def relative(self, file: Path) -> str:
        """Return the path in the store of a file or folder below its root, or of a running browser's file; it need not be there."""
        if file.is_relative_to(self._root):
            return file.relative_to(self._root).as_posix()
        kind, place = file.parts[-2], file.parts[-4]
        browser_id = next((each for each, its in list(self._places.items()) if its == place), place)
        return f"browsers/{browser_id}/{kind}/{file.name}"

    def _located(self, path: str) -> Path:
        match PurePosixPath(path).parts:
            case ("browsers", browser_id, "uploads" | "downloads" as kind, name):
                return self._of_browser(browser_id, kind) / name
        return self._root / path

    def place(self, path: str) -> Path | None:
        """Return where a new file at `path` goes; None when its folder has been removed."""
        found = self._located(path)
        return found if found.parent.is_dir() else None

    def file(self, path: str) -> Path | None:
        """Return the regular file at a path of this store; None when there is none, or when it leads out of the store."""
        if "\0" in path or ".." in PurePosixPath(path).parts:
            return None
        found = self._located(path)
        folder = self._root if found.is_relative_to(self._root) else found.parent
        return found if self.path_of(found, folder) == path else None

    def find(self, path: str) -> StoredFile | None:
        """Return the file at a path of this store, wherever it is; None when there is none.

        Raises:
            ObjectStorageError: It may be in object storage, and that does not answer.
        """
        file = self.file(path)
        if file is not None:
            try:
                status = file.stat()
            except FileNotFoundError:  # it was moved to the storage
                pass
            else:
                return StoredFile(file.name, path, file, status.st_size, status.st_mtime)
        parts = PurePosixPath(path).parts
        if self.kept is None or "\0" in path or ".." in parts or len(parts) < 3:
            return None
        return self.kept.find(path)

    def _owner(self, folder: Path) -> Path:
        """Return the folder of the browser or task that a folder belongs to."""
        if not folder.is_relative_to(self._root):
            return folder  # of a running browser
        return self._root.joinpath(*folder.relative_to(self._root).parts[:2])

    def owners(self, kind: str) -> list[UUID]:
        """Return the browsers, or the tasks, that have files on this machine, apart from shared folders.

        Args:
            kind: `browsers` or `tasks`.
        """
        folder = self._root / kind
        return (
            [UUID(name) for name in sorted(os.listdir(folder)) if _is_id(name)]  # noqa: PTH208  # names
            if folder.is_dir()
            else []
        )

    def keep(self, kind: str, owner: UUID) -> tuple[int, bool]:
        """Move the finished files of a browser or a task that has ended to object storage, and remove the rest of its folder.

        May be repeated after it has failed half-way.

        Returns:
            The bytes that the storage has of it, and whether there is a video of it.

        Raises:
            ObjectStorageError: From the storage. What was not moved is still here.
            OSError: From the disk; as above.
        """
        assert self.kept is not None  # it is asked only with object storage
        folder = self._root / kind / str(owner)
        path = self.relative(folder)
        self._moving[path] = False
        try:
            self._put_all(folder)
        finally:
            if self._moving.pop(path):
                self.kept.remove(path)
        found = [file for _, file in self.kept.listing(path)]
        moved = folder.with_name(f"{_MOVED}{owner}")
        with suppress(FileNotFoundError):  # it was removed meanwhile
            # First: until then the folder has all files, and after that none.
            folder.rename(moved)
        shutil.rmtree(moved, ignore_errors=True)
        return sum(file.size for file in found), any(
            file.path == f"{path}/recording/{VIDEO}" for file in found
        )

    def _put_all(self, folder: Path) -> None:
        assert self.kept is not None  # see `keep`
        for place, folders, names in os.walk(folder):
            folders[:] = [
                name for name in folders if Path(place, name) != folder / MARKS and not name.startswith(".")
            ]
            for name in names:
                file = Path(place, name)
                if _finished(file) is not None:
                    self.kept.put(file.relative_to(self._root).as_posix(), file)

    def tidy(self) -> None:
        """Remove what a killed server has left: scratch folders of its agents, and halves of uploads. Before anything runs."""
        for folder in self._root.glob("tasks/*/.agent-*"):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in self._root.glob("tasks/*/screenshots"):
            if folder.lstat().st_uid != os.geteuid():  # an agent's with a uid of its own
                give(folder, os.geteuid(), os.getegid())
        for folder in self._root.glob(f"*/{_MOVED}*"):
            shutil.rmtree(folder, ignore_errors=True)
        for draft in self._root.glob("browsers/*/uploads/.*.upload"):
            draft.unlink(missing_ok=True)
        if self._shared is not None:
            for folder in self._shared.tasks_left():
                # Not the downloads, which still have secrets in them.
                self._shared.take_in_task(folder, self._root / "tasks" / folder.name, downloads=False)

    def remove(self, *, browser_id: UUID | None = None, task_id: UUID | None = None) -> None:
        """Remove everything of a browser, of a task.

        Raises:
            ObjectStorageError: From the storage.
        """
        folders = []
        if browser_id is not None:
            folders.append(self._root / "browsers" / str(browser_id))
        if task_id is not None:
            folders.append(self.task_folder(task_id))
        for folder in folders:
            if folder.exists():
                shutil.rmtree(folder)
            if self.kept is not None:
                path = self.relative(folder)
                if path in self._moving:
                    self._moving[path] = True
                self.kept.remove(path)


def _is_id(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False


def _newest(files: Iterable[StoredFile]) -> list[StoredFile]:
    """Return one file of each name, the last changed, by name."""
    by_name: dict[str, StoredFile] = {}
    for file in sorted(files, key=lambda each: each.modified):
        by_name[file.name] = file
    return sorted(by_name.values(), key=lambda each: each.name)


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
