"""The files of a project: what was uploaded for its browsers, what they have downloaded, and what its tasks have written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote
from uuid import UUID

from starlette.responses import Response

from cdpbridge.api._task_models import MAX_UPLOAD_BYTES, UPLOAD_CONTENT_TYPES
from cdpbridge.server.files import FileStore, StoredFile, file_response
from cdpbridge.server.store import Browser, Store, Task, TaskFile

__all__ = ["BrowserFolder", "ProjectFiles"]

BrowserFolder = Literal["uploads", "downloads"]

_NEWEST: Final = 100  # browsers, and tasks, whose files are looked for
_MOST: Final = 500


class ProjectFiles:
    """Lists and finds files; a project has those of its own browsers and tasks and no others.

    Args:
        take: Brings what a browser that runs has downloaded to `files`.
    """

    def __init__(self, store: Store, files: FileStore, *, take: Callable[[UUID], Awaitable[None]]) -> None:
        self._store = store
        self._files = files
        self._take = take

    async def listing(self, project_id: UUID) -> dict[str, Any]:
        """Files of the newest browsers and tasks, the last changed first, and what may be uploaded.

        `path` is below the console's own address.
        """
        browsers, _ = await self._store.browsers(project_id, active=None, offset=0, limit=_NEWEST)
        await asyncio.gather(*(self._take(browser.id) for browser in browsers if not browser.over))
        tasks, _ = await self._store.tasks(project_id, offset=0, limit=_NEWEST)
        written = await self._store.files_of_tasks([task.id for task in tasks])
        found = await asyncio.to_thread(self._look, browsers, {task.id: task for task in tasks}, written)
        found.sort(key=lambda file: (file["modifiedAt"], file["path"]), reverse=True)
        return {
            "files": found[:_MOST],
            "total": len(found),
            "uploadTypes": UPLOAD_CONTENT_TYPES,
            "uploadBytes": MAX_UPLOAD_BYTES,
        }

    def _look(
        self, browsers: Sequence[Browser], tasks: dict[UUID, Task], written: Sequence[TaskFile]
    ) -> list[dict[str, Any]]:
        found = []
        for browser in browsers:
            for kind in ("uploads", "downloads"):
                for file in self._files.listing(self._folder(browser.id, kind)):
                    path = f"console/files/browsers/{browser.id}/{kind}/{quote(file.name, safe='')}"
                    session = browser.agent_session_id
                    whose = {"browserId": str(browser.id), "sessionId": str(session) if session else None}
                    found.append(_view(kind[:-1], file.name, path, file.size, file.modified, **whose))
        for each in written:
            stored = self._files.find(each.path)
            if stored is not None:
                path = f"console/files/tasks/{each.task_id}/{each.id}"
                whose = {"taskId": str(each.task_id), "sessionId": str(tasks[each.task_id].session_id)}
                found.append(_view("output", each.file_name, path, stored.size, stored.modified, **whose))
        return found

    async def of_browser(
        self, project_id: UUID, browser_id: UUID, folder: BrowserFolder, name: str
    ) -> StoredFile | None:
        """Return a finished file of one of the project's browsers, None when there is none."""
        if await self._store.browser(project_id, browser_id) is None:
            return None
        listed = await asyncio.to_thread(self._files.listing, self._folder(browser_id, folder))
        return next((file for file in listed if file.name == name), None)

    async def of_task(self, project_id: UUID, task_id: UUID, file_id: UUID) -> tuple[StoredFile, str] | None:
        """Return an output file of one of the project's tasks, and the name it was given; None when there is none."""
        if await self._store.task(project_id, task_id) is None:
            return None
        found = await self._store.task_file(task_id, file_id)
        stored = await asyncio.to_thread(self._files.find, found.path) if found is not None else None
        return None if found is None or stored is None else (stored, found.file_name)

    def attachment(self, file: StoredFile, name: str, *, headers: Mapping[str, str]) -> Response:
        """Return the answer with a file, to be saved under `name`."""
        return file_response(
            self._files, file, media_type="application/octet-stream", headers=headers, filename=name
        )

    def _folder(self, browser_id: UUID, folder: BrowserFolder) -> Path:
        return self._files.uploads(browser_id) if folder == "uploads" else self._files.downloads(browser_id)


def _view(kind: str, name: str, path: str, size: int, modified: float, **whose: str | None) -> dict[str, Any]:
    at = datetime.fromtimestamp(modified, UTC).isoformat(timespec="microseconds")
    return {"kind": kind, "name": name, "path": path, "size": size, "modifiedAt": at, **whose}
