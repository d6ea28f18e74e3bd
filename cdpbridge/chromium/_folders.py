"""The end of a browser's folders."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
from pathlib import Path
from typing import Final

__all__ = ["remove_tree"]

logger = logging.getLogger("cdpbridge.chromium")

_ATTEMPTS: Final = 20
_PAUSE_SECONDS: Final = 0.05


async def remove_tree(folder: Path) -> None:
    """Remove a folder in which a browser's last processes may still be writing for a moment; what stays is logged."""
    error: OSError | None = None
    for _ in range(_ATTEMPTS):
        if (error := await asyncio.to_thread(_try_to_remove, folder)) is None:
            return
        await asyncio.sleep(_PAUSE_SECONDS)
    logger.warning("folder %s cannot be removed: %s", folder, error)


def _try_to_remove(folder: Path) -> OSError | None:
    """What hindered it. A file that somebody else has removed meanwhile counts only while there are others."""
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
