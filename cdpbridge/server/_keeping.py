"""`Keeping`: moves the files of ended browsers and tasks to object storage."""

from __future__ import annotations

import asyncio
from uuid import UUID

from cdpbridge._lifecycle import State
from cdpbridge.server.files import FileStore
from cdpbridge.server.store import RecordingState, Store

__all__ = ["Keeping"]


class Keeping:
    """The files of browsers and tasks that have ended, also of those of a server that was killed.

    Until a file is moved, it is read where it is; a file that cannot be moved stays and is tried again.
    """

    def __init__(self, store: Store, files: FileStore) -> None:
        self._store = store
        self._files = files

    async def once(self) -> None:
        """Move what has ended by now.

        Raises:
            ObjectStorageError: From the storage.
            OSError: From the disk.
            SQLAlchemyError: From the database.
        """
        for browser_id in await asyncio.to_thread(self._files.owners, "browsers"):
            if await self._browser_ended(browser_id):
                size, video = await asyncio.to_thread(self._files.keep, "browsers", browser_id)
                await self._store.files_kept(browser_id, size, video=video)
        for task_id in await asyncio.to_thread(self._files.owners, "tasks"):
            if await self._store.task_ended(task_id):
                await asyncio.to_thread(self._files.keep, "tasks", task_id)

    async def _browser_ended(self, browser_id: UUID) -> bool:
        browser = await self._store.rental(browser_id)
        if browser is None or browser.state != State.STOPPED or browser.recording == RecordingState.RUNNING:
            return False
        if browser.agent_session_id is None:
            return True
        # Agents read what was uploaded.
        tasks = await self._store.tasks_of_session(browser.agent_session_id)
        return not any(task.working for task in tasks)
