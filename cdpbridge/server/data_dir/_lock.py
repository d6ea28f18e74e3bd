"""One server per data folder, which is for its user alone."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cdpbridge._embedded._folder import (
    HOLDER_FILE,
    LOG_FILE,
    SOCKET_FILE,
    Kind,
    hold,
    holder_of,
    note_holder,
    take,
)
from cdpbridge.errors import ConfigurationError

__all__ = ["BESIDE", "FolderLock", "ServerRuns", "locked", "says_it_ends", "tightened"]

logger = logging.getLogger("cdpbridge.server")

# To be passed through is not to be read: a browser that runs as another user reaches its own folder so.
_FOLDER_BITS: Final = 0o066
_FILE_BITS: Final = 0o077
# What a server makes in its data folder.
_OURS: Final = frozenset(
    {
        "agents",
        "beside",
        "browsers",
        "files",
        HOLDER_FILE,
        f".{HOLDER_FILE}.new",
        "live-key",
        "live-key.new",
        "lock",
        "operator.json",
        "profiles",
        "server-id",
        LOG_FILE,
        f"{LOG_FILE}.1",
        SOCKET_FILE,
        "signing.key",
        "transfers",
        "worker",
    }
)
BESIDE: Final = "beside"
"""Folder of the servers of further programs, below the data folder that the first one uses."""
_DATABASE: Final = "cdpbridge.sqlite3"


class ServerRuns(ConfigurationError):
    """Another server uses the data folder."""


@dataclass(frozen=True, slots=True)
class FolderLock:
    """How a server holds its data folder.

    Attributes:
        kind: What it is, for programs that find the lock taken.
        descriptor: Holds the lock already, taken by the program that has started the server.
    """

    kind: Kind = Kind.SERVER
    descriptor: int | None = None


@contextmanager
def locked(data_dir: Path, lock: FolderLock | None = None) -> Iterator[None]:
    """Hold `data_dir` for this process; it is made if missing. The kernel lets go when the process dies.

    Raises:
        ServerRuns: Another server holds it.
        ConfigurationError: It cannot be written.
    """
    lock = lock or FolderLock()
    found = take(data_dir) if lock.descriptor is None else lock.descriptor
    if found is None:
        raise ServerRuns(_held(data_dir))
    try:
        hold(found)
        note_holder(data_dir, lock.kind)
        yield
    finally:
        os.close(found)


def says_it_ends(data_dir: Path, lock: FolderLock) -> None:
    """Tell programs that find the lock taken that it is worth waiting for: this server stops its browsers and lets go."""
    try:
        note_holder(data_dir, lock.kind, ending=True)
    except OSError as error:  # e.g. the folder was removed
        logger.debug("the note of the holder of %s: %s", data_dir, error)


def _held(data_dir: Path) -> str:
    holder = holder_of(data_dir)
    owner = f"data_dir {data_dir} is used by another server (process {holder.pid or 'unknown'})"
    if holder.ending:
        return f"{owner}, which is stopping its browsers; try again when it has ended"
    if holder.kind is Kind.SHARED:
        return (
            f"{owner}: the embedded server of programs with local(). It ends some seconds after the last of them, or by "
            f"`kill {holder.pid}`, which stops their browsers; else choose another `data_dir`"
        )
    return f"{owner}; choose another `data_dir`, or share one server: `cdpbridge serve`, and its address as CDPBRIDGE_PROVIDER"


def tightened(data_dir: Path) -> None:
    """Take from other users what earlier servers, or who made the folder, have let them read.

    `data_dir` itself is left as it is, and named in the log, when it holds anything that is not the server's.
    """
    foreign = False
    for entry in data_dir.iterdir():
        if entry.name not in _OURS and not entry.name.startswith((_DATABASE, "signing.key.")):
            foreign = True
        elif _tighten(entry):
            for folder, folders, files in os.walk(entry):
                for name in (*folders, *files):
                    _tighten(Path(folder, name))
    if foreign and stat.S_IMODE(data_dir.stat().st_mode) & _FOLDER_BITS:
        logger.warning(
            "data_dir %s can be read by other users, and holds files that are not the server's; move it, or chmod 700 it",
            data_dir,
        )
    else:
        _tighten(data_dir)


def _tighten(path: Path) -> bool:
    """Make one file or folder this user's alone; True for a folder that was not."""
    status = path.lstat()
    is_folder = stat.S_ISDIR(status.st_mode)
    wide = stat.S_IMODE(status.st_mode) & (_FOLDER_BITS if is_folder else _FILE_BITS)
    if not wide or not (is_folder or stat.S_ISREG(status.st_mode)):
        return False
    try:
        path.chmod(stat.S_IMODE(status.st_mode) & ~_FILE_BITS, follow_symlinks=False)
    except NotImplementedError:
        # Linux before 6.6 cannot; it is no link, and no browser runs that could make it one.
        path.chmod(stat.S_IMODE(status.st_mode) & ~_FILE_BITS)
    except OSError as error:
        logger.warning("%s can be read by other users: %s; correct its owner and mode", path, error.strerror)
        return False
    logger.info("%s could be read by other users; its mode is corrected", path)
    return is_folder
