"""Folders that a browser with its own uid shares with the server while it runs, and how the server takes their files over.

    <root>/browsers/<place id>/files/downloads/       the browser's, mode 0700
                                     uploads/         ours, and readable for the browser's group
    <root>/tasks/<place id>/<task id>/downloads/      the browser's
                                      output/         ours, and readable for the browser's group

A place has the id of its browser, or an id of its own when the browser was started before it was ordered.

The store itself lies where no browser can go. A client that drives a browser may run code as its uid, so nothing in the folders
that it can write is trusted: links are not followed, and a file is looked at again when it is out of its reach.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import UUID

from cdpbridge.chromium import give, lend

__all__ = ["SharedFolders"]

logger = logging.getLogger("cdpbridge.server")

_KINDS: Final = ("downloads", "uploads")
_TASK_KINDS: Final = ("downloads", "output")


class SharedFolders:
    """The folders below `root` that running browsers and the server share. Every method blocks."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def places(self) -> list[UUID]:
        """Return the places of browsers that run."""
        found = []
        with suppress(FileNotFoundError, NotADirectoryError):  # the start of a browser will say so
            for name in os.listdir(self._root / "browsers"):  # noqa: PTH208  # names
                with suppress(ValueError):  # it is being removed
                    found.append(UUID(name))
        return found

    def of_browser(self, place_id: UUID | str, kind: str) -> Path:
        """Return its downloads or uploads while it runs."""
        return self._root / "browsers" / str(place_id) / "files" / kind

    def of_tasks(self, place_id: UUID | str) -> Path:
        """Return the folder of the tasks that agents do in a browser, each with one of its own."""
        return self._root / "tasks" / str(place_id)

    def open_for(self, place_id: UUID | str, uid: int) -> None:
        """Make a browser's folders, in its place, which exists."""
        for folder in (self._root / "tasks", self.of_tasks(place_id)):
            _make_passage(folder)
        downloads, uploads = (self.of_browser(place_id, kind) for kind in _KINDS)
        _make_passage(downloads.parent)
        _make_own(downloads, uid)
        _make_readable(uploads, uid)

    def discard(self, place_id: UUID | str) -> None:
        """Remove what lies outside of a place that no browser was given."""
        with suppress(OSError):  # not there
            self.of_tasks(place_id).rmdir()

    def open_for_task(self, place_id: UUID | str, task_id: UUID) -> Path | None:
        """Make the folder that a task's agent shares with its browser; None when there is no such browser any more."""
        try:
            uid = self.of_browser(place_id, "downloads").stat().st_uid
        except FileNotFoundError:
            return None
        folder = self.of_tasks(place_id) / str(task_id)
        for each in (folder.parent.parent, folder.parent, folder):
            _make_passage(each)
        _make_own(folder / "downloads", uid)
        _make_readable(folder / "output", uid)
        return folder

    def take_in(self, place_id: UUID | str, target: Path) -> None:
        """Move a browser's files to `target` once its processes have ended; its agents' files become ours."""
        for kind in (*_KINDS, "uploaded"):  # the marks of `_upload`, too
            _move_files(self.of_browser(place_id, kind), target / kind)
        tasks = self.of_tasks(place_id)
        if tasks.is_dir():
            give(tasks, os.geteuid(), os.getegid())
            with suppress(OSError):  # an agent has not been collected yet
                tasks.rmdir()

    def take_in_task(self, folder: Path, target: Path, *, downloads: bool = True) -> None:
        """Move what an agent has written to `target`, unless the task was deleted; its browser may still run."""
        if downloads and target.is_dir():
            _move_files(folder / "downloads", target / "downloads")
        if (folder / "output").is_dir() and target.is_dir():
            shutil.copytree(
                folder / "output", target / "output", symlinks=True, dirs_exist_ok=True, ignore=_special_files
            )
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # other tasks of that browser
            folder.parent.rmdir()

    def tasks_left(self) -> list[Path]:
        """Folders of tasks that a killed server has left."""
        return sorted((self._root / "tasks").glob("*/*"))


def _special_files(folder: str, names: list[str]) -> set[str]:
    """Return the names of what is neither a file nor a folder nor a link: reading a pipe of an agent's would never end."""
    found = set()
    for name in names:
        mode = Path(folder, name).lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
            found.add(name)
    return found


def _make_passage(folder: Path) -> None:
    folder.mkdir(mode=0o711, exist_ok=True)
    folder.chmod(0o711)  # whatever the umask is


def _make_own(folder: Path, uid: int) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    if uid != os.geteuid():  # else it is ours, and our group has another number as a rule
        os.chown(folder, uid, uid)


def _make_readable(folder: Path, uid: int) -> None:
    if uid == os.geteuid():
        folder.mkdir(mode=0o700, exist_ok=True)
    else:
        lend(folder, uid)


def _move_files(source: Path, target: Path) -> None:
    """Move the finished plain files directly in `source`; what else is there stays."""
    if not source.is_dir():
        return
    owner = source.stat().st_uid
    for name in sorted(os.listdir(source)):  # noqa: PTH208  # names
        if name.startswith(".") or name.endswith(".crdownload"):
            continue
        for folder in (target.parent, target):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            _move_file(source / name, target / name, owner)
        except OSError as error:
            logger.warning("%s of a browser is not kept: %s", target.name, error)


def _move_file(source: Path, target: Path, owner: int) -> None:
    """Move one file if it is a plain one of `owner` under a single name.

    Raises:
        OSError: It is not, or it cannot be moved.
    """
    incoming = target.with_name(f".incoming-{os.urandom(8).hex()}")
    try:
        try:
            source.rename(incoming)  # a link moves as a link
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy(source, incoming, owner)
            source.unlink()
        else:
            _check_plain(incoming.lstat(), owner)  # out of the browser's reach now
        os.chown(incoming, os.geteuid(), os.getegid(), follow_symlinks=False)
        incoming.chmod(0o600)
        incoming.rename(target)
    finally:
        if incoming.is_dir() and not incoming.is_symlink():
            shutil.rmtree(incoming)
        else:
            incoming.unlink(missing_ok=True)


def _copy(source: Path, target: Path, owner: int) -> None:
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as reader:
        status = os.fstat(descriptor)
        _check_plain(status, owner)
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as writer:
            shutil.copyfileobj(reader, writer)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _check_plain(status: os.stat_result, owner: int) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_uid != owner:
        raise OSError("it is a link, a folder, a device, or of another user")
