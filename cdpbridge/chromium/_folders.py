"""A browser's folders: where temporary ones go, what a former browser left in a profile, and their end."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from cdpbridge.errors import BrowserStartFailed

from ._ownership import closed_to

__all__ = [
    "SCRATCH_PATH_BYTES",
    "lock_profile",
    "remove_stale_locks",
    "remove_tree",
    "remove_trees",
    "scratch_parent",
    "shm_is_small",
    "temporary_path",
]

logger = logging.getLogger("cdpbridge.chromium")

SCRATCH_PATH_BYTES: Final = 107 - len("/org.chromium.Chromium.XXXXXX/SingletonSocket")
"""Longest path of a scratch folder. Chromium puts a socket below its TMPDIR, and ends at once with "Socket path too
long" when that does not fit into sockaddr_un (107 bytes on Linux)."""

# Pages share pictures and bitmaps there; containers often have 64 MB.
_SHM_BYTES: Final = 512 * 1024 * 1024
_SINGLETONS: Final = ("SingletonLock", "SingletonSocket", "SingletonCookie")
_ATTEMPTS: Final = 20
_PAUSE_SECONDS: Final = 0.05


async def remove_tree(folder: Path, *, prepare: Callable[[Path], Path] = Path) -> None:
    """Remove a folder in which a browser's last processes may still be writing for a moment; what stays is logged.

    Args:
        prepare: Called first, in the thread that removes it; returns where the folder is then.
    """

    def first() -> tuple[Path, OSError | None]:
        place = prepare(folder)
        return place, _try_to_remove(place)

    place, error = await asyncio.to_thread(first)
    for _ in range(_ATTEMPTS - 1):
        if error is None:
            return
        await asyncio.sleep(_PAUSE_SECONDS)
        error = await asyncio.to_thread(_try_to_remove, place)
    if error is not None:
        logger.warning("folder %s cannot be removed: %s", place, error)


async def remove_trees(folders: Iterable[Path]) -> None:
    """Remove folders, one after the other; see `remove_tree`."""
    for folder in folders:
        await remove_tree(folder)


def _try_to_remove(folder: Path) -> OSError | None:
    """Remove a folder and return what hindered it. A file that was removed meanwhile counts only while there are others."""
    try:
        try:
            shutil.rmtree(folder)
        except (RecursionError, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.EMFILE:
                raise
            _remove_deep(folder)
    except OSError as error:
        return error if folder.exists() else None
    return None


def _remove_deep(folder: Path) -> None:
    """Remove a folder of which `shutil.rmtree` cannot reach the ground: it calls itself for each level, with an open descriptor."""
    found, waiting = [], [os.fspath(folder)]
    while waiting:
        found.append(each := waiting.pop())
        with os.scandir(each) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    os.unlink(entry.path)  # noqa: PTH108  # as a text: there may be millions
    for each in reversed(found):
        os.rmdir(each)  # noqa: PTH106  # as above


def lock_profile(user_data_dir: Path) -> int:
    """Lock a profile for one browser, and return the descriptor that holds the lock.

    Chromium's own lock names a process, and isolated browsers count theirs from 1: so theirs says nothing outside.

    Raises:
        BrowserStartFailed: Another browser has it.
    """
    import fcntl  # noqa: PLC0415  # Windows has none, and starts no browser

    descriptor = os.open(user_data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise BrowserStartFailed(
            f"{user_data_dir} is in use by another browser; stop that one, or choose another folder"
        ) from None
    except OSError as error:  # file systems that know no locks
        logger.debug("%s cannot be locked: %s", user_data_dir, error)
    return descriptor


def remove_stale_locks(user_data_dir: Path) -> None:
    """Remove locks of another host, e.g. a former container. Chromium itself takes over a dead process's lock of this host only."""
    lock = user_data_dir / _SINGLETONS[0]
    if not lock.is_symlink():
        return
    host, _, pid = str(lock.readlink()).rpartition("-")
    if host == socket.gethostname() and pid.isdecimal() and _runs(int(pid)):
        return  # in use, perhaps: Chromium itself knows
    for name in _SINGLETONS:
        (user_data_dir / name).unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def scratch_parent(name: str, *, for_others: bool) -> Path:
    """Return the folder of temporary files, or another one where the path of a folder `name` is short and open enough.

    Args:
        for_others: Other users must be able to reach it.
    """
    places = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108  # folders of our own are made there
    for place in places:
        path = place / name
        if len(os.fsencode(path)) <= SCRATCH_PATH_BYTES and (not for_others or closed_to(path, None) is None):
            return place
    return Path("/tmp")  # noqa: S108  # as above; the start says what is wrong with it


def temporary_path(prefix: str, *, for_others: bool) -> Path:
    """Return a path in `scratch_parent` that no file has: 48 random bits, as long as those of `tempfile`."""
    name = f"{prefix}{secrets.token_urlsafe(6)}"
    return scratch_parent(name, for_others=for_others) / name


def shm_is_small() -> bool:
    """Return True if the folder of shared memory has too little for a browser, or is not there."""
    try:
        shm = os.statvfs("/dev/shm")  # noqa: S108  # looked at, not written to
    except OSError:
        return True
    return shm.f_bavail * shm.f_frsize < _SHM_BYTES
