"""The files of a browser below its address, for the tunnel: `/cdp/{token}/files`.

Paths are those that the browser itself uses. Who has the address controls the browser, which reads and writes these files
anyway; nothing but the browser's own folders is reached.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from fastapi import APIRouter, HTTPException, Request, Response
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from cdpbridge._concurrency import in_pool
from cdpbridge._disk import mounts_identity, open_below, parent_below

from ._registry import BrowserFiles

__all__ = ["FILE_CONTENT_PATH", "add_file_routes"]

FILE_CONTENT_PATH: Final = re.compile(r"/cdp/[^/]+/files/content")
"""Paths whose bodies are files of clients: the token is checked before any of it is read, and the browser's disk limit holds."""

_CHUNK_BYTES: Final = 1024 * 1024
_DRAFT: Final = ".part"
# A file that one client has fetched may be wanted by another, who hears of it at the same time.
_MOST_DELAY_SECONDS: Final = 600.0
# for the rest of a request that is refused
_LINGER_SECONDS: Final = 5.0


def add_file_routes(routes: APIRouter, find: Callable[[Request], Awaitable[BrowserFiles | None]]) -> None:
    """Add the routes; `find` gives the files of the request's browser, or refuses."""
    endpoints = _Files(find)
    routes.add_api_route("/files", endpoints.folders, methods=["GET"])
    routes.add_api_route("/files/content", endpoints.read, methods=["GET"])
    routes.add_api_route("/files/content", endpoints.write, methods=["PUT"])
    routes.add_api_route("/files/content", endpoints.remove, methods=["DELETE"])


@dataclass(frozen=True, slots=True)
class _Opened:
    file: BinaryIO
    size: int


class _FileResponse(StreamingResponse):
    """The bytes of an opened file, which it closes, also when the client has left before the first of them."""

    def __init__(self, opened: _Opened) -> None:
        headers = {"Content-Length": str(opened.size), "X-Content-Type-Options": "nosniff"}
        super().__init__(_chunks(opened), media_type="application/octet-stream", headers=headers)
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._opened.file:
            await super().__call__(scope, receive, send)


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
    def __init__(self, find: Callable[[Request], Awaitable[BrowserFiles | None]]) -> None:
        self._find = find

    async def folders(self, request: Request) -> dict[str, Any]:
        files = await self._files(request)
        return {
            "downloads": str(files.downloads),
            "uploads": str(files.uploads),
            "kept": None if files.kept is None else str(files.kept),
            "disk": files.disk,
            "mounts": mounts_identity(),
        }

    async def read(self, request: Request, path: str) -> Response:
        """Return the bytes of a finished file."""
        files = await self._files(request)
        folders = [each for each in (files.downloads, files.uploads, files.kept) if each is not None]
        place = _inside(path, folders)
        try:
            opened = _open(place)
        except OSError as error:
            raise HTTPException(404, f"the file cannot be read: {error.strerror}") from None
        return _FileResponse(
            opened,
        )

    async def write(self, request: Request, path: str, modified: float | None = None) -> Response:
        """Write a file into the folder of uploads, whole or not at all."""
        try:
            files = await self._files(request)
            place = _inside(path, [files.uploads])
            expected = request.headers.get("content-length", "")
            if not expected.isdecimal():
                raise HTTPException(411, "say how long the file is, in Content-Length")
            await _receive(request.stream(), place.path, int(expected), modified)
        except HTTPException as refused:
            return _Refusal({"detail": refused.detail}, refused.status_code)
        except OSError as error:
            return _Refusal({"detail": f"the file cannot be written: {error.strerror}"}, 507)
        return Response(status_code=204)

    async def remove(self, request: Request, path: str, delay: float = 0.0) -> Response:
        """Remove a file or folder after `delay` seconds; an absent one is no error."""
        files = await self._files(request)
        place = _inside(path, [files.downloads, files.uploads])
        if not 0 <= delay <= _MOST_DELAY_SECONDS:
            raise HTTPException(422, f"delay is 0 to {_MOST_DELAY_SECONDS:g} seconds")
        if delay:
            loop = asyncio.get_running_loop()
            loop.call_later(delay, lambda: loop.run_in_executor(None, _remove, place))
        else:
            await asyncio.to_thread(_remove, place)
        return Response(status_code=204)

    async def _files(self, request: Request) -> BrowserFiles:
        files = await self._find(request)
        if files is None:
            raise HTTPException(404, "the files of this browser cannot be reached")
        return files


@dataclass(frozen=True, slots=True)
class _Place:
    """A path below one of the browser's folders."""

    folder: Path
    parts: tuple[str, ...]

    @property
    def path(self) -> Path:
        return self.folder.joinpath(*self.parts)


def _inside(path: str, folders: list[Path]) -> _Place:
    """Return the place of `path` below one of `folders`.

    Raises:
        HTTPException: It is elsewhere.
    """
    place = Path(path)
    folder = next((each for each in folders if each in place.parents), None)
    if folder is None or "\0" in path or ".." in place.parts:
        raise HTTPException(403, "only the browser's own folders of downloads and uploads are reached")
    return _Place(folder, place.relative_to(folder).parts)


def _open(place: _Place) -> _Opened:
    file = open_below(place.folder, place.parts)
    return _Opened(file, os.fstat(file.fileno()).st_size)


async def _chunks(opened: _Opened) -> AsyncIterator[bytes]:
    left = opened.size
    while left > 0:
        chunk = await in_pool(opened.file.read, min(left, _CHUNK_BYTES))
        if not chunk:
            return  # it has been cut meanwhile; the client misses bytes, and says so
        left -= len(chunk)
        yield chunk


async def _receive(chunks: AsyncIterator[bytes], place: Path, size: int, modified: float | None) -> None:
    draft = place.with_name(f".{secrets.token_hex(8)}{_DRAFT}")
    sink = _create(draft)
    waiting = bytearray()
    received = 0
    try:
        async for chunk in chunks:
            waiting += chunk
            received += len(chunk)
            if received > size:
                raise HTTPException(400, "the file is longer than was said")
            if len(waiting) >= _CHUNK_BYTES:
                await in_pool(_write, sink, bytes(waiting))
                waiting.clear()
        await in_pool(_write, sink, bytes(waiting))
        if received != size:
            raise HTTPException(400, f"{received} bytes of the file have come, not {size}")
        sink.close()
        await in_pool(_keep, draft, place, modified)
    finally:
        sink.close()
        draft.unlink(missing_ok=True)


def _create(draft: Path) -> BinaryIO:
    """Create the file and its folders, readable for the group of the folder of uploads: the browser's, where it runs as another user."""
    missing = []
    folder = draft.parent
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    inherited = folder.stat().st_mode & stat.S_ISGID
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        each.chmod(0o750 | inherited)  # whatever the umask is
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.fchmod(descriptor, 0o640)
    return os.fdopen(descriptor, "wb", buffering=0)


def _write(sink: BinaryIO, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:  # without a buffer it may take less at a time
        view = view[sink.write(view) :]


def _keep(draft: Path, place: Path, modified: float | None) -> None:
    if modified is not None:
        os.utime(draft, (modified, modified))
    draft.replace(place)


def _remove(place: _Place) -> None:
    with (
        suppress(FileNotFoundError, NotADirectoryError),
        parent_below(place.folder, place.parts) as parent,
    ):
        name = place.parts[-1]
        if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            shutil.rmtree(name, ignore_errors=True, dir_fd=parent)
        else:
            os.unlink(name, dir_fd=parent)
