"""What `copy_plain_files` copies, moved instead: a rename for each file, into folders of our own.

A file that is moved in the wrong way is lost to another one, so that no path is followed that a browser could have changed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ._copy import Budget, TooBig, kept_entries

__all__ = ["NotPlain", "move_plain_files"]

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class NotPlain(Exception):
    """A file has several names, or is none any more. Does not leave this package."""


def move_plain_files(source: Path, target: Path, budget: Budget) -> int:
    """Move the files below `source` that make the profile into the empty folder `target`, on the same file system.

    They belong to this process's user then, and no other user may read them. What fails has moved a part of them.

    Returns:
        The bytes of the files.

    Raises:
        NotPlain: A file has several names: it could be written by another one.
        TooBig: It is more than the budget allows.
        OSError: From the disk; `target` is on another file system.
    """
    with _opened(os.fspath(source), None) as folder, _opened(os.fspath(target), None) as copy:
        return _move(folder, copy, 1, budget)


def _move(folder: int, copy: int, depth: int, budget: Budget) -> int:
    if depth > budget.depth:
        raise TooBig(f"more than {budget.depth} folders inside each other")
    size = 0
    # A list: names vanish while it is worked through.
    for entry in list(kept_entries(folder, depth, budget)):
        name = entry.name
        if entry.is_dir(follow_symlinks=False):
            os.mkdir(name, 0o700, dir_fd=copy)  # below a descriptor
            with _opened(name, folder) as inner, _opened(name, copy) as inner_copy:
                size += _move(inner, inner_copy, depth + 1, budget)
        elif entry.is_file(follow_symlinks=False):
            os.rename(name, name, src_dir_fd=folder, dst_dir_fd=copy)  # as above
            size += _make_ours(name, copy)
    return size


def _make_ours(name: str, folder: int) -> int:
    """Check what was moved, where no browser can change it any more, give it our user and mode 0600, and return its bytes."""
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise NotPlain(f"{name} has several names, or is no file")
    owner = os.geteuid(), os.getegid()
    if (status.st_uid, status.st_gid) != owner:
        os.chown(name, *owner, dir_fd=folder, follow_symlinks=False)
    if stat.S_IMODE(status.st_mode) != 0o600:
        os.chmod(name, 0o600, dir_fd=folder)  # as above; it is a file
    return status.st_size


@contextmanager
def _opened(name: str, folder: int | None) -> Iterator[int]:
    descriptor = os.open(name, _FOLDER, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
