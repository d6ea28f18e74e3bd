"""`Keeping`: moves the files of ended browsers and tasks to object storage."""

from __future__ import annotations

import asyncio
from uuid import UUID

from cdpbridge._lifecycle import State
from cdpbridge.server.files import FileStore
from cdpbridge.server.objects import ObjectStorageError
from cdpbridge.server.store import RecordingState, Store

__all__ = ["Keeping"]


class Keeping:
    """The files of browsers and tasks that have ended, also of those of a server that was killed.

    Until a file is moved, it is read where it is; a file that cannot be moved stays and is tried again.
    """

    def __init__(self, store: Store, files: FileStore) -> None:
        self._store = store
        self._files = files
        # Those whose last try failed.
        self._failed: set[UUID] = set()

    async def once(self) -> None:
        """Move what has ended by now.

        Raises:
            ObjectStorageError: From the storage.
            OSError: From the disk.
            SQLAlchemyError: From the database.
        """
        owners = [
            (kind, owner)
            for kind in ("browsers", "tasks")
            for owner in await asyncio.to_thread(self._files.owners, kind)
        ]
        self._failed &= {owner for _, owner in owners}
        # One that fails comes last the next time, so that it holds up no other for good.
        for kind, owner in sorted(owners, key=lambda each: each[1] in self._failed):
            try:
                await self._keep(kind, owner)
            except (ObjectStorageError, OSError):
                self._failed.add(owner)
                raise
            self._failed.discard(owner)

    async def _keep(self, kind: str, owner: UUID) -> None:
        if kind == "tasks":
            if await self._store.task_ended(owner):
                await asyncio.to_thread(self._files.keep, kind, owner)
        elif await self._browser_ended(owner):
            size, video = await asyncio.to_thread(self._files.keep, kind, owner)
            await self._store.files_kept(owner, size, video=video)

    async def _browser_ended(self, browser_id: UUID) -> bool:
        browser = await self._store.rental(browser_id)
        if browser is None or browser.state != State.STOPPED or browser.recording == RecordingState.RUNNING:
            return False
        if browser.agent_session_id is None:
            return True
        # Agents read what was uploaded.
        tasks = await self._store.tasks_of_session(browser.agent_session_id)
        return not any(task.working for task in tasks)
