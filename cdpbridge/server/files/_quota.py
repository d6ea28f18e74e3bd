"""The disk quota of a project's files."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
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
        browsers: Ids of a project's browsers.
        kept: Bytes of their files in object storage.
        megabytes: MiB that a project may keep; 0 for no limit.
    """

    def __init__(
        self,
        files: FileStore,
        browsers: Callable[[UUID], Awaitable[Sequence[UUID]]],
        kept: Callable[[UUID], Awaitable[int]],
        megabytes: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._files = files
        self._browsers = browsers
        self._kept = kept
        self._megabytes = megabytes
        self._clock = clock
        self._found: dict[UUID, tuple[float, int]] = {}

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
        at, used = self._found.get(project_id, (0.0, -1))
        if used < 0 or self._clock() - at > _VALID_SECONDS:
            browsers = await self._browsers(project_id)
            folders = [folder for each in browsers for folder in self._files.browser_folders(each)]
            used = await asyncio.to_thread(disk_usage, folders, limit) + await self._kept(project_id)
            self._found[project_id] = self._clock(), used
        return used

    def forget(self, project_id: UUID) -> None:
        """Look again next time: something was removed."""
        self._found.pop(project_id, None)
