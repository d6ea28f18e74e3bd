"""Disk usage of browsers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

__all__ = ["disk_usage"]

# Of `st_blocks`, whatever the file system's own are (stat(2)).
_BLOCK_BYTES: Final = 512
# An empty file has a name and an inode: millions of them fill a disk, too.
_NAME_BYTES: Final = 1024


def disk_usage(folders: Iterable[Path], limit: int) -> int:
    """Bytes that everything below `folders` takes on the disk; counted no further once it is more than `limit`.

    Sparse files count what they really take, links are not followed, and what vanishes meanwhile counts nothing.
    """
    used = 0
    waiting = [os.fspath(folder) for folder in folders]
    while waiting:
        try:
            entries = os.scandir(waiting.pop())
        except OSError:
            continue
        with entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                except OSError:
                    continue
                used += max(status.st_blocks * _BLOCK_BYTES, _NAME_BYTES)
                if used > limit:
                    return used
    return used
