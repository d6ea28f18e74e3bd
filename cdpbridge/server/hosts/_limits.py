"""`Limits`: whether a browser uses more than it may, of memory, processes and disk."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final
from uuid import UUID

from cdpbridge.server.files import disk_usage

from ._base import Limit
from ._options import BrowserOptions
from ._place import Place

__all__ = ["Limits"]

logger = logging.getLogger("cdpbridge.server")


_MIB: Final = 1024**2
# A look at the disk goes through every file of the browser, of a hundred browsers every 5 s.
_LOOK_EVERY: Final = 6


class Limits:
    """The limits of one browser, looked at with each health check; those of its control group the kernel keeps in between.

    Its disk is looked at with every sixth check, and sooner when the file system has lost so much since the last look that the
    browser may have come near its limit.

    Args:
        browser_id: For the log.
        place: Of the browser.
        options: Its limits.
        free: Returns the free bytes of the file system that a folder is on.
    """

    def __init__(
        self,
        browser_id: UUID,
        place: Place,
        options: BrowserOptions,
        *,
        free: Callable[[Path], int] | None = None,
    ) -> None:
        self._id = browser_id
        self._place = place
        self._options = options
        self._free = free or _free
        self._until_look = 0
        self._least_free = 0

    def enforced(self) -> Limit | None:
        """Return the limit at which the kernel has ended or refused something; None for none. Blocks for a moment."""
        passed = None if self._place.cgroup is None else self._place.cgroup.passed()
        if passed is not None:
            logger.warning("browser %s has met its limit of %s", self._id, passed)
        return passed

    async def passed(self, group: int) -> Limit | None:
        """Return the limit that a browser is above; None for none.

        Args:
            group: Of its processes.
        """
        limits = self._options
        if self._place.cgroup is not None and (found := await asyncio.to_thread(self.enforced)) is not None:
            return found
        used = limits.usage.known(group)
        if used is None:
            used = await asyncio.to_thread(limits.usage.of_group, group)
        if limits.max_memory_bytes is not None and used.memory > limits.max_memory_bytes:
            logger.warning(
                "browser %s uses %d MB of memory and is stopped: %d are allowed",
                self._id,
                used.memory // _MIB,
                limits.max_memory_bytes // _MIB,
            )
            return "memory"
        if limits.max_processes is not None and used.processes > limits.max_processes:
            logger.warning(
                "browser %s has %d processes and is stopped: %d are allowed",
                self._id,
                used.processes,
                limits.max_processes,
            )
            return "processes"
        return "disk" if await self._over_disk_limit() else None

    async def _over_disk_limit(self) -> bool:
        limit = self._options.max_disk_bytes
        if limit is None:
            return False
        # Uploads and recording, too.
        downloads = () if self._place.kept is None else (self._place.kept.parent,)
        folders = (self._place.folder, self._place.scratch, *downloads)
        free = min(self._free(folder) for folder in folders)
        self._until_look -= 1
        if self._until_look > 0 and free >= self._least_free:
            return False
        used = await asyncio.to_thread(disk_usage, folders, limit)
        self._until_look = _LOOK_EVERY
        self._least_free = free - max(0, limit - used) // 2
        if used > limit:
            logger.warning("browser %s uses more than %d MB of disk and is stopped", self._id, limit // _MIB)
        return used > limit


def _free(folder: Path) -> int:
    try:
        found = os.statvfs(folder)
    except OSError:  # it is not there any more
        return 0
    return found.f_bavail * found.f_frsize
