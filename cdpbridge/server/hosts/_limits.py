"""`Limits`: whether a browser uses more than it may, of memory, processes and disk."""

from __future__ import annotations

import asyncio
import logging
from uuid import UUID

from cdpbridge.server.files import disk_usage

from ._base import Limit
from ._options import BrowserOptions
from ._place import Place

__all__ = ["Limits"]

logger = logging.getLogger("cdpbridge.server")


class Limits:
    """The limits of one browser, looked at with each health check; those of its control group the kernel keeps in between."""

    def __init__(self, browser_id: UUID, place: Place, options: BrowserOptions) -> None:
        self._id = browser_id
        self._place = place
        self._options = options

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
        if (enforced := await asyncio.to_thread(self.enforced)) is not None:
            return enforced
        used = await asyncio.to_thread(limits.usage.of_group, group)
        if limits.max_memory_bytes is not None and used.memory > limits.max_memory_bytes:
            logger.warning(
                "browser %s uses %d MB of memory and is stopped: %d are allowed",
                self._id,
                used.memory // 1024**2,
                limits.max_memory_bytes // 1024**2,
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
        used = await asyncio.to_thread(disk_usage, folders, limit)
        if used > limit:
            logger.warning(
                "browser %s uses more than %d MB of disk and is stopped", self._id, limit // 1024**2
            )
        return used > limit
