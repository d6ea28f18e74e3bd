"""The disk quota of a project's files."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection
from typing import Final
from uuid import UUID

from ._disk import disk_usage
from ._storage import FileStore

__all__ = ["FileQuota"]

# Looking at thousands of folders takes a while, and what an answer allows is bounded by the limits of each browser.
_VALID_SECONDS: Final = 10.0


class FileQuota:
    """The quota of the files kept of a project's browsers, running or not: uploads, downloads, recordings.

    Args:
        owned: Takes a project and ids of browsers, and returns those that are the project's.
        kept: Bytes of their files in object storage.
        megabytes: MiB that a project may keep; 0 for no limit.
    """

    def __init__(
        self,
        files: FileStore,
        owned: Callable[[UUID, Collection[UUID]], Awaitable[Collection[UUID]]],
        kept: Callable[[UUID], Awaitable[int]],
        megabytes: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files = files
        self._owned = owned
        self._kept = kept
        self._megabytes = megabytes
        self._clock = clock
        self._found: dict[UUID, tuple[float, int]] = {}
        self._looks: defaultdict[UUID, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def refusal(self, project_id: UUID, more: int = 0) -> str | None:
        """Return why a project may keep no `more` bytes, as a text for the client; None when it may."""
        limit = self._megabytes * 1024**2
        if not limit or await self._used(project_id, limit) + more <= limit:
            return None
        return (
            f"the project keeps {self._megabytes} MiB of files, which is the setting `max_files_mb_per_project`; "
            "remove those of stopped browsers with DELETE /browsers/{id}/files, or delete sessions"
        )

    async def _used(self, project_id: UUID, limit: int) -> int:
        # Orders that come at once share one look.
        async with self._looks[project_id]:
            at, used = self._found.get(project_id, (0.0, -1))
            if used < 0 or self._clock() - at > _VALID_SECONDS:
                used = await self._look(project_id, limit)
                self._found[project_id] = self._clock(), used
            return used

    async def _look(self, project_id: UUID, limit: int) -> int:
        # From what is on the disk: of the browsers that a project ever had, few have files.
        having = await asyncio.to_thread(self._files.browsers)
        browsers = await self._owned(project_id, having)
        folders = [folder for each in browsers for folder in self._files.browser_folders(each)]
        return await asyncio.to_thread(disk_usage, folders, limit) + await self._kept(project_id)

    def forget(self, project_id: UUID) -> None:
        """Look again next time: something was removed."""
        self._found.pop(project_id, None)
