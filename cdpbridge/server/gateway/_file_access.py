"""What the tunnel may do with the files of a browser: on this machine, or on another one."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import stat
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from cdpbridge._concurrency import in_pool
from cdpbridge._disk import mounts_identity, open_below, parent_below

from ._registry import BrowserFiles

__all__ = ["FileAccess", "FileRefused", "LocalFiles", "OpenedFile"]

_CHUNK_BYTES: Final = 1024 * 1024
_DRAFT: Final = ".part"


class FileRefused(Exception):
    """A file is not reached.

    Attributes:
        status: As in HTTP: 403 for one elsewhere, 404 for one that cannot be read, 400 for one that has not come as it was
            announced, 507 for one that cannot be written, 502 when the browser's machine does not answer.
    """

    def __init__(self, status: int, text: str) -> None:
        # Both, so that it can be pickled.
        super().__init__(status, text)
        self.status = status
        self._text = text

    def __str__(self) -> str:
        return self._text


class OpenedFile(Protocol):
    """A file that is being read.

    Attributes:
        size: Bytes.
    """

    size: int

    def chunks(self) -> AsyncIterator[bytes]:
        """Give its bytes, once."""

    async def close(self) -> None:
        """Close it."""


class FileAccess(Protocol):
    """The files of one browser, by the paths that it knows. Each method raises `FileRefused`."""

    async def folders(self) -> dict[str, Any]:
        """Return the folders, and what tells whether they are on the caller's own disk."""

    async def read(self, path: str) -> OpenedFile:
        """Open a finished file."""

    async def write(self, path: str, size: int, modified: float | None, chunks: AsyncIterator[bytes]) -> None:
        """Write a file into the folder of uploads, whole or not at all.

        Args:
            path: Below that folder.
            size: Bytes of it.
            modified: Unix seconds, if they are to be kept.
            chunks: Its bytes.
        """

    async def remove(self, path: str, delay: float) -> None:
        """Remove a file or a folder after so many seconds; an absent one is no error."""


class LocalFiles:
    """`FileAccess` for a browser of this machine."""

    def __init__(self, files: BrowserFiles) -> None:
        self.paths = files

    async def folders(self) -> dict[str, Any]:
        """See `FileAccess.folders`."""
        files = self.paths
        return {
            "downloads": str(files.downloads),
            "uploads": str(files.uploads),
            "kept": None if files.kept is None else str(files.kept),
            "disk": files.disk,
            "mounts": mounts_identity(),
        }

    async def read(self, path: str) -> OpenedFile:
        """See `FileAccess.read`."""
        files = self.paths
        place = _inside(
            path, [each for each in (files.downloads, files.uploads, files.kept) if each is not None]
        )
        try:
            return _Opened(open_below(place.folder, place.parts))
        except OSError as error:
            raise FileRefused(404, f"the file cannot be read: {error.strerror}") from None

    async def write(self, path: str, size: int, modified: float | None, chunks: AsyncIterator[bytes]) -> None:
        """See `FileAccess.write`."""
        place = _inside(path, [self.paths.uploads])
        try:
            await _receive(chunks, place.path, size, modified)
        except OSError as error:
            raise FileRefused(507, f"the file cannot be written: {error.strerror}") from None

    async def remove(self, path: str, delay: float) -> None:
        """See `FileAccess.remove`."""
        place = _inside(path, [self.paths.downloads, self.paths.uploads])
        if delay:
            loop = asyncio.get_running_loop()
            loop.call_later(delay, lambda: loop.run_in_executor(None, _remove, place))
        else:
            await asyncio.to_thread(_remove, place)


class _Opened:
    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = os.fstat(file.fileno()).st_size

    async def chunks(self) -> AsyncIterator[bytes]:
        left = self.size
        while left > 0:
            chunk = await in_pool(self.file.read, min(left, _CHUNK_BYTES))
            if not chunk:
                return  # it has been cut meanwhile; the client misses bytes, and says so
            left -= len(chunk)
            yield chunk

    async def close(self) -> None:
        self.file.close()


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
        FileRefused: It is elsewhere.
    """
    place = Path(path)
    folder = next((each for each in folders if each in place.parents), None)
    if folder is None or "\0" in path or ".." in place.parts:
        raise FileRefused(403, "only the browser's own folders of downloads and uploads are reached")
    return _Place(folder, place.relative_to(folder).parts)


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
                raise FileRefused(400, "the file is longer than was said")
            if len(waiting) >= _CHUNK_BYTES:
                await in_pool(_write, sink, bytes(waiting))
                waiting.clear()
        await in_pool(_write, sink, bytes(waiting))
        if received != size:
            raise FileRefused(400, f"{received} bytes of the file have come, not {size}")
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
