"""`client.files`."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from cdpbridge.api import _async_io as io
from cdpbridge.api import calls
from cdpbridge.api._file_rules import check_size, plan_upload
from cdpbridge.api._task_models import PresignedUpload, TaskOutputFile
from cdpbridge.errors import ConfigurationError

from ._group import AsyncGroup
from ._transfers import download, upload

__all__ = ["AsyncFiles"]


class AsyncFiles(AsyncGroup):
    """`/files`: uploads for sessions and browsers, outputs of tasks."""

    async def upload(
        self,
        source: Path | str | bytes,
        *,
        session_id: UUID | str | None = None,
        browser_id: UUID | str | None = None,
        file_name: str | None = None,
        content_type: str | None = None,
    ) -> str:
        """Upload a file for an agent session or a browser, in one call.

        Args:
            source: A path, or the content itself as bytes.
            session_id: The agent session that gets it; this or `browser_id`.
            browser_id: The browser that gets it.
            file_name: Name under which it is found there. Default: the path's; bytes need one.
            content_type: One of `UPLOAD_CONTENT_TYPES`. Default: by the name.

        Returns:
            The name under which the agent finds it.

        Raises:
            ConfigurationError: Its name, type or size (1 byte to 10 MiB) is not what the API takes; nothing was sent.
        """
        path = None if isinstance(source, bytes) else Path(source)
        plan = plan_upload(path, file_name, content_type)
        if path is not None:
            check_size(plan.file_name, (await io.in_thread(path.stat)).st_size)
        content = source if isinstance(source, bytes) else await io.in_thread(Path(source).read_bytes)
        check_size(plan.file_name, len(content))
        if session_id is not None and browser_id is None:
            where = await self.create_session_upload(
                session_id, file_name=plan.file_name, content_type=plan.content_type, size_bytes=len(content)
            )
        elif browser_id is not None and session_id is None:
            where = await self.create_browser_upload(
                browser_id, file_name=plan.file_name, content_type=plan.content_type, size_bytes=len(content)
            )
        else:
            raise ConfigurationError("name who gets the file: session_id or browser_id, one of them")
        await upload(self._requests, where, plan, content)
        return where.file_name

    async def download(self, task_id: UUID | str, file_id: UUID | str, path: Path | str) -> Path:
        """Save a file that a task has written.

        The file appears under its name when it is complete; after a lost connection the rest is fetched.

        Args:
            task_id: The task.
            file_id: One of its `output_files`.
            path: The file, replaced if it is there; or a folder, then the file has its name from the task. What is
                missing is made; a name that ends with a slash is a folder's.

        Returns:
            Where it is.
        """

        async def address() -> tuple[str, str]:
            found = await self.get_output_file(task_id, file_id)
            return found.download_url, found.file_name

        return await download(self._requests, address, path)

    async def create_session_upload(
        self, session_id: UUID | str, *, file_name: str, content_type: str, size_bytes: int
    ) -> PresignedUpload:
        """Get a signed form to post a file for an agent session; `upload` does it all."""
        return await self._requests.send(
            calls.create_session_upload(
                session_id, file_name=file_name, content_type=content_type, size_bytes=size_bytes
            )
        )

    async def create_browser_upload(
        self, browser_id: UUID | str, *, file_name: str, content_type: str, size_bytes: int
    ) -> PresignedUpload:
        """Get a signed form to post a file for a browser; `upload` does it all."""
        return await self._requests.send(
            calls.create_browser_upload(
                browser_id, file_name=file_name, content_type=content_type, size_bytes=size_bytes
            )
        )

    async def get_output_file(self, task_id: UUID | str, file_id: UUID | str) -> TaskOutputFile:
        """Get the address of a task's file; `download` saves it."""
        return await self._requests.send(calls.get_output_file(task_id, file_id))
