"""Which disk a process sees, and files below a folder that another user can write.

A disk is named by a text that two processes can compare and that tells nothing else.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import stat
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

__all__ = ["disk_identity", "mounts_identity", "open_below", "parent_below"]

_STATUS: Final = re.compile(r"^(?:Uid|CapEff):\s*(.+)$", re.MULTILINE)


def disk_identity(process: int | None = None) -> str | None:
    """Return a text that is the same for two processes that see the same files with the same rights.

    On Linux it stands for the machine's boot, the mount and user namespaces, the root folder, the uid and the capabilities;
    elsewhere for the machine and this process's user.

    Args:
        process: Its pid; None for this process.

    Returns:
        64 hexadecimal digits; None when it cannot be found out, e.g. because the process belongs to another user.
    """
    if platform.system() != "Linux":
        user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
        return _digest(platform.node(), str(uuid.getnode()), str(user))
    folder = Path("/proc") / ("self" if process is None else str(process))
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        places = [str((folder / name).readlink()) for name in ("ns/mnt", "ns/user", "root")]
        rights = _STATUS.findall((folder / "status").read_text("ascii", "replace"))
    except OSError:
        return None
    return _digest(boot, *places, *rights)


def mounts_identity() -> str | None:
    """Return a text that is the same for processes whose paths lead to the same files; None if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return _digest(boot, *(str(Path("/proc/self", name).readlink()) for name in ("ns/mnt", "root")))
    except OSError:
        return None


@contextmanager
def parent_below(folder: Path, parts: Sequence[str]) -> Iterator[int]:
    """Open the folder that `folder/parts` is in. Other users may write below `folder`, so no link is followed there.

    Raises:
        OSError: There is none.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def open_below(folder: Path, parts: Sequence[str]) -> BinaryIO:
    """Open the regular file `folder/parts`, for reading without a buffer; see `parent_below`.

    Raises:
        OSError: There is none, or it cannot be read.
    """
    with parent_below(folder, parts) as parent:
        descriptor = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
        owner = os.fstat(parent).st_uid
    status = os.fstat(descriptor)
    # In a folder of another user, a second name of a file that only we may read is no file of that user.
    foreign = owner != os.geteuid() and (status.st_uid != owner or status.st_nlink != 1)
    if foreign or not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "this is no regular file")
    return os.fdopen(descriptor, "rb", buffering=0)


def _digest(*facts: str) -> str:
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()
