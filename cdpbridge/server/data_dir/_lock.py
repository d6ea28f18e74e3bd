"""One server per data folder, which is for its user alone."""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cdpbridge.errors import ConfigurationError

__all__ = ["BESIDE", "ServerRuns", "locked", "tightened"]

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
        "live-key",
        "live-key.new",
        "lock",
        "operator.json",
        "profiles",
        "server-id",
        "signing.key",
    }
)
BESIDE: Final = "beside"
"""Folder of the servers of further programs, below the data folder that the first one uses."""
_DATABASE: Final = "cdpbridge.sqlite3"


class ServerRuns(ConfigurationError):
    """Another server uses the data folder."""


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Hold `data_dir` for this process; it is made if missing. The kernel lets go when the process dies.

    Raises:
        ServerRuns: Another server holds it.
        ConfigurationError: It cannot be written.
    """
    path = data_dir / "lock"
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"data_dir {data_dir} cannot be used: {error.strerror}; choose another `data_dir`"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            raise ServerRuns(
                f"data_dir {data_dir} is used by another server (process {owner}); in one program, rent from one client "
                "(`async with local() as client`), else choose another `data_dir`, or share one server: `cdpbridge serve`, and its address as "
                "CDPBRIDGE_PROVIDER"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


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
