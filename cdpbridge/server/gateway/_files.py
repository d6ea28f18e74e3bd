"""The files of a browser below its address, for the tunnel: `/cdp/{token}/files`.

Paths are those that the browser itself uses. Who has the address controls the browser, which reads and writes these files
anyway; nothing but the browser's own folders is reached.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from fastapi import APIRouter, HTTPException, Request, Response
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from ._file_access import FileAccess, FileRefused, OpenedFile

__all__ = ["FILE_CONTENT_PATH", "add_file_routes"]

FILE_CONTENT_PATH: Final = re.compile(r"/cdp/[^/]+/files/content")
"""Paths whose bodies are files of clients: the token is checked before any of it is read, and the browser's disk limit holds."""

_CHUNK_BYTES: Final = 1024 * 1024
_DRAFT: Final = ".part"
# A file that one client has fetched may be wanted by another, who hears of it at the same time.
_MOST_DELAY_SECONDS: Final = 600.0
# for the rest of a request that is refused
_LINGER_SECONDS: Final = 5.0


def add_file_routes(routes: APIRouter, find: Callable[[Request], Awaitable[FileAccess | None]]) -> None:
    """Add the routes; `find` gives the files of the request's browser, or refuses."""
    endpoints = _Files(find)
    routes.add_api_route("/files", endpoints.folders, methods=["GET"])
    routes.add_api_route("/files/content", endpoints.read, methods=["GET"])
    routes.add_api_route("/files/content", endpoints.write, methods=["PUT"])
    routes.add_api_route("/files/content", endpoints.remove, methods=["DELETE"])


class _FileResponse(StreamingResponse):
    """The bytes of an opened file, which it closes, also when the client has left before the first of them."""

    def __init__(self, opened: OpenedFile) -> None:
        headers = {"Content-Length": str(opened.size), "X-Content-Type-Options": "nosniff"}
        super().__init__(opened.chunks(), media_type="application/octet-stream", headers=headers)
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._opened.close()


class _Refusal(JSONResponse):
    """An answer before the end of a request: what comes of that is read for a while, or the connection's reset would outrun the answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [*self.raw_headers, (b"connection", b"close")]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while (await receive()).get("more_body"):
                    pass
        await send({"type": "http.response.body", "body": b""})


class _Files:
    def __init__(self, find: Callable[[Request], Awaitable[FileAccess | None]]) -> None:
        self._find = find

    async def folders(self, request: Request) -> dict[str, Any]:
        return await (await self._files(request)).folders()

    async def read(self, request: Request, path: str) -> Response:
        """Return the bytes of a finished file."""
        files = await self._files(request)
        try:
            return _FileResponse(await files.read(path))
        except FileRefused as refused:
            raise HTTPException(refused.status, str(refused)) from None

    async def write(self, request: Request, path: str, modified: float | None = None) -> Response:
        """Write a file into the folder of uploads, whole or not at all."""
        try:
            files = await self._files(request)
            expected = request.headers.get("content-length", "")
            if not expected.isdecimal():
                raise HTTPException(411, "say how long the file is, in Content-Length")
            await files.write(path, int(expected), modified, request.stream())
        except HTTPException as refused:
            return _Refusal({"detail": refused.detail}, refused.status_code)
        except FileRefused as refused:
            return _Refusal({"detail": str(refused)}, refused.status)
        return Response(status_code=204)

    async def remove(self, request: Request, path: str, delay: float = 0.0) -> Response:
        """Remove a file or folder after `delay` seconds; an absent one is no error."""
        files = await self._files(request)
        if not 0 <= delay <= _MOST_DELAY_SECONDS:
            raise HTTPException(422, f"delay is 0 to {_MOST_DELAY_SECONDS:g} seconds")
        try:
            await files.remove(path, delay)
        except FileRefused as refused:
            raise HTTPException(refused.status, str(refused)) from None
        return Response(status_code=204)

    async def _files(self, request: Request) -> FileAccess:
        files = await self._find(request)
        if files is None:
            raise HTTPException(404, "the files of this browser cannot be reached")
        return files
