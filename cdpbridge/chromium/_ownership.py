"""Files that a browser with a uid of its own may use: given to it, taken back, and looked at before it starts."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import Final

from cdpbridge.errors import ConfigurationError

__all__ = ["check_executable_by", "closed_to", "give", "lend", "make_reachable_folder"]

logger = logging.getLogger("cdpbridge.chromium")

_SEARCH: Final = 0o1
_READ: Final = 0o4


def give(folder: Path, owner: int, group: int | None = None) -> None:
    """Make `owner` the owner of a folder and of all in it; links are given, never followed. The folder gets mode 0700.

    No process that can write there may run. A file with several names keeps its owner: one of them may lie elsewhere.
    """
    group = owner if group is None else group
    for _, folders, files, directory in os.fwalk(folder, follow_symlinks=False):
        for name in (*folders, *files):
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if (status.st_uid, status.st_gid) == (owner, group):
                continue
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                logger.warning("%s has a file with several names, which keeps its owner", folder)
                continue
            os.chown(name, owner, group, dir_fd=directory, follow_symlinks=False)
    # Last, so that an interrupted walk leaves a folder that its new owner cannot enter.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(descriptor, owner, group)
        os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


def closed_to(path: Path, uid: int | None) -> Path | None:
    """Return the first folder above `path` that `uid`, in no other group, may not pass through; None when the way is open.

    By the mode bits; `path` itself need not exist.

    Args:
        uid: None for a user that owns nothing.
    """
    for folder in reversed(path.absolute().parents):
        try:
            status = folder.stat()
        except FileNotFoundError:
            return None  # made later, by us
        if not _allowed(status, uid, _SEARCH):
            return folder
    return None


def lend(folder: Path, group: int) -> None:
    """Make a folder of ours, and let `group` read what is put into it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    os.chown(folder, -1, group)
    folder.chmod(0o2750)  # what is made in it belongs to the group, too


def check_executable_by(binary: Path, uid: int | None) -> None:
    """Before a browser is started as `uid`; None for a user that owns nothing.

    Raises:
        ConfigurationError: `uid` cannot reach or execute the binary.
    """
    for path in dict.fromkeys((binary, binary.resolve())):
        if (folder := closed_to(path, uid)) is not None:
            problem = f"its folder {folder} is closed to other users (mode {stat.S_IMODE(folder.stat().st_mode):04o})"
        elif not _allowed(path.stat(), uid, _READ | _SEARCH):
            problem = (
                f"other users may not read and execute it (mode {stat.S_IMODE(path.stat().st_mode):04o})"
            )
        else:
            continue
        raise ConfigurationError(
            f"Chromium at {path} cannot be run: browsers of a root process run under uids of their own, and {problem}. "
            "Install Chromium for all users (Debian: apt-get install chromium chromium-headless-shell; Playwright: "
            "PLAYWRIGHT_BROWSERS_PATH=/opt/playwright playwright install chromium), or name another binary with "
            "CDPBRIDGE_CHROMIUM or browser_path"
        )


def make_reachable_folder(folder: Path) -> None:
    """Make a folder of root that all users may pass through and none may list; missing parents too.

    Raises:
        OSError: It cannot be made.
        ConfigurationError: Other users cannot reach it, or could replace what is in it.
    """
    for each in (*reversed(folder.parents), folder):
        try:
            each.mkdir(mode=0o711)
        except FileExistsError:
            continue
        each.chmod(0o711)  # whatever the umask is
    if (closed := closed_to(folder / "browser", None)) is not None:
        raise ConfigurationError(
            f"{folder} cannot hold the folders of browsers, which run under uids of their own: {closed} is closed to other users "
            f"(mode {stat.S_IMODE(closed.stat().st_mode):04o}); choose another runtime_dir, or open that folder with chmod o+x"
        )
    status = folder.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise ConfigurationError(
            f"{folder} belongs to uid {status.st_uid} with mode {stat.S_IMODE(status.st_mode):04o}: other users could replace "
            f"the folders of browsers in it; choose a folder of root with mode 0711"
        )


def _allowed(status: os.stat_result, uid: int | None, wanted: int) -> bool:
    """Decide as the kernel does: the first class that fits counts, others are not looked at."""
    if status.st_uid == uid:
        bits = status.st_mode >> 6
    elif status.st_gid == uid:
        bits = status.st_mode >> 3
    else:
        bits = status.st_mode
    return bits & wanted == wanted
