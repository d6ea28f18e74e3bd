"""An answer with a file that is in object storage."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ._kept import KeptFiles
from ._storage import StoredFile

__all__ = ["KeptFileResponse"]

# One range of bytes (RFC 9110 section 14.1.2). Others are answered with the whole file, as that section allows.
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class KeptFileResponse(Response):
    """The file, or the range of it that is asked for; or the storage's own address of it, where it has signed one.

    Args:
        kept: Where it is.
        file: Found there.
        media_type: Its type.
        headers: Of the answer.
        disposition: `inline` or `attachment`.
        filename: Under which it is saved; default: its own name.
    """

    def __init__(
        self,
        kept: KeptFiles,
        file: StoredFile,
        *,
        media_type: str,
        headers: Mapping[str, str],
        disposition: str = "attachment",
        filename: str | None = None,
    ) -> None:
        super().__init__(media_type=media_type)
        assert file.kept_as is not None  # it was found in the storage
        self._kept = kept
        self._name = file.kept_as
        self._size = file.size
        self._shown = {
            **headers,
            "Accept-Ranges": "bytes",
            "Content-Disposition": f"{disposition}; filename*=utf-8''{quote(filename or file.name, errors='replace')}",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._answer(scope)
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope) -> Response:
        address = await asyncio.to_thread(self._kept.address, self._name, scope["method"])
        if address is not None:
            return RedirectResponse(address, 307, headers={"Cache-Control": "private, no-store"})
        asked = dict(scope["headers"]).get(b"range", b"").decode("latin-1")
        part = _part(asked, self._size)
        if part is None:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{self._size}"})
        start, end = part
        headers = {**self._shown, "Content-Length": str(end - start)}
        status = 200
        if end - start < self._size:
            status, headers["Content-Range"] = 206, f"bytes {start}-{end - 1}/{self._size}"
        if scope["method"] == "HEAD":
            return Response(status_code=status, headers=headers, media_type=self.media_type)
        chunks = self._kept.chunks(self._name, start, end)
        return StreamingResponse(chunks, status, headers=headers, media_type=self.media_type)


def _part(asked: str, size: int) -> tuple[int, int] | None:
    """Return the first byte of the range that is asked for, and the one behind the last; None when the file has no such bytes."""
    match = _RANGE.fullmatch(asked)
    if match is None or match[1] == match[2] == "":
        return 0, size
    if not match[1]:
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < int(match[1]):
            return 0, size
    return (start, end) if start < end else None
