"""An answer with a file of the store, also of a folder that a running browser can write."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from ._kept_response import KeptFileResponse
from ._storage import FileStore, StoredFile

__all__ = ["StoredFileResponse", "file_response"]


def file_response(
    files: FileStore,
    found: StoredFile,
    *,
    media_type: str,
    headers: Mapping[str, str],
    disposition: str = "attachment",
    filename: str | None = None,
) -> Response:
    """Return the answer with a file of the store, wherever it is, or with the range of it that is asked for.

    Args:
        files: Where it was found.
        found: The file.
        media_type: Its type.
        headers: Of the answer.
        disposition: `inline` or `attachment`.
        filename: Under which it is saved; default: its own name.
    """
    if found.file is None:
        assert files.kept is not None  # it was found there
        return KeptFileResponse(
            files.kept,
            found,
            media_type=media_type,
            headers=headers,
            disposition=disposition,
            filename=filename,
        )
    return StoredFileResponse(
        found.file,
        media_type=media_type,
        filename=filename or found.name,
        content_disposition_type=disposition,
        headers=headers,
    )


class StoredFileResponse(FileResponse):
    """Starlette's, but what is sent is the plain file that was opened: no link that took its place is followed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            descriptor = await asyncio.to_thread(_open_plain, Path(self.path))
        except OSError:
            await PlainTextResponse("the file has been removed", 404)(scope, receive, send)
            return
        try:
            if sys.platform == "linux":
                self.path = f"/proc/self/fd/{descriptor}"
            self.stat_result = None
            await super().__call__(scope, receive, send)
        finally:
            os.close(descriptor)


def _open_plain(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    status, owner = os.fstat(descriptor), path.parent.stat().st_uid
    foreign = owner != os.geteuid() and (status.st_uid != owner or status.st_nlink != 1)
    if foreign or not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError("no plain file of its folder's owner")
    return descriptor
