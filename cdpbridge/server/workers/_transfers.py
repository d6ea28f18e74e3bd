"""Files between a server and a worker: archives of profiles, and what browsers download and are given.

Each has a connection of its own: a frame that says what is wanted, the answer's frame with the size, and the bytes; what is
written has one more frame at the end, when all of it is there.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal
from uuid import UUID

from cdpbridge._concurrency import in_pool, to_the_end
from cdpbridge._file_names import safe_file_name
from cdpbridge._streams import write_to
from cdpbridge.server.files import FileStore
from cdpbridge.server.gateway import FileAccess, FileRefused
from cdpbridge.server.hosts import StopReport
from cdpbridge.server.profiles import ProfileStore, is_archive

from ._browsers import WorkerBrowsers
from ._protocol import BadMessage, encoded, frame, loaded, read_frame, refusal_of

__all__ = [
    "CHUNK_BYTES",
    "HasProfile",
    "KeptFile",
    "OfBrowser",
    "Transfer",
    "WorkerTransfers",
    "copied",
    "pieces",
]

logger = logging.getLogger("cdpbridge.worker")

CHUNK_BYTES: Final = 1024**2
# A connection that moves nothing for so long is closed.
_STALLED_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class HasProfile:
    """`has_profile`: answered by whether the worker has this version from an earlier browser."""

    profile: UUID
    archive: str


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file in the answer to `files`, which a browser has downloaded."""

    name: str
    size: int
    modified: float


@dataclass(frozen=True, slots=True)
class Transfer:
    """What is to be read or written.

    Attributes:
        do: `give_profile`: a version for a browser that will start; `take_profile`: the version in a kept report;
            `take_file`: something downloaded; `give_file`: an upload; `read_file` and `write_file`: as the tunnel asks.
        archive: Of `give_profile`.
        name: Of a file; for the tunnel, its path as the browser knows it.
        modified: When it was, Unix seconds, if that is to be kept.
        size: Of what is written, bytes.
    """

    do: Literal["give_profile", "take_profile", "take_file", "give_file", "read_file", "write_file"]
    browser: UUID
    archive: str = ""
    name: str = ""
    size: int = 0
    modified: float | None = None


@dataclass(frozen=True, slots=True)
class RemoveFile:
    """`remove_file`, as the tunnel asks."""

    browser: UUID
    path: str
    delay: float


class _Broken(Exception):
    """A file was not sent to its end."""


class WorkerTransfers:
    """The worker's end.

    Args:
        profiles: Their archives are in `folder`.
        folder: Archives on their way, with the names of objects; see `Archives`.
        files: Of its browsers.
        max_bytes: Of one transfer.
    """

    def __init__(self, profiles: ProfileStore, folder: Path, files: FileStore, *, max_bytes: int) -> None:
        self._profiles = profiles
        self._folder = folder
        self._files = files
        self._max_bytes = max_bytes

    async def answered(self, do: str, given: object, browsers: WorkerBrowsers) -> Any:
        """Return the answer to a request about files, as JSON values."""
        match do:
            case "file_folders":
                return await _access(browsers, loaded(OfBrowser, given).browser).folders()
            case "remove_file":
                removed = loaded(RemoveFile, given)
                await _access(browsers, removed.browser).remove(removed.path, removed.delay)
                return True
            case "has_profile":
                asked = loaded(HasProfile, given)
                return await self._profiles.run(self._profiles.has, asked.profile, asked.archive)
            case "files":
                browser_id = loaded(OfBrowser, given).browser
                found = await asyncio.to_thread(self._files.listing, self._files.downloads(browser_id))
                return [encoded(KeptFile(each.name, each.size, each.modified)) for each in found]
        raise BadMessage(f"this worker does not know the request {do!r}")

    async def forget(self, browser_id: UUID, report: StopReport) -> None:
        """Remove what is kept of a browser whose report was taken."""
        await asyncio.to_thread(self._files.remove, browser_id=browser_id)
        if report.saved is not None and report.saved.archive is not None:
            await self.used(report.saved.archive)

    async def used(self, archive: str) -> None:
        """Remove an archive: a browser has started with it, or a server has taken it."""
        await asyncio.to_thread((self._folder / archive).unlink, missing_ok=True)

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, browsers: WorkerBrowsers
    ) -> None:
        """Do what the first frame of a connection asks."""
        transfer = loaded(Transfer, await read_frame(reader))
        try:
            if transfer.do == "read_file":
                opened = await _access(browsers, transfer.browser).read(transfer.name)
                try:
                    await self._send(writer, opened.chunks(), opened.size)
                finally:
                    await opened.close()
                return
            if transfer.do in {"take_profile", "take_file"}:
                source, size = await to_the_end(asyncio.to_thread(self._source(transfer, browsers)))
                with closing(source):
                    await self._send(writer, pieces(source, size), size)
                return
            await self._receive(reader, writer, transfer, browsers)
        except _Broken:
            return  # in the midst of the bytes; the connection is aborted
        except (OSError, BadMessage, FileRefused, ValueError) as error:
            refused = refusal_of(error) or refusal_of(OSError(type(error).__name__))
            assert refused is not None  # an OSError is foreseen
            write_to(writer, frame({"refused": encoded(refused)}))
        else:
            write_to(writer, frame({"ok": True}))
        await writer.drain()
        # The other end reads the frame, and closes.
        with suppress(TimeoutError):
            async with asyncio.timeout(_STALLED_SECONDS):
                while await reader.read(CHUNK_BYTES):
                    pass

    # --- to the server ---------------------------------------------------------------------------------------------

    def _source(self, transfer: Transfer, browsers: WorkerBrowsers) -> Callable[[], tuple[IO[bytes], int]]:
        if transfer.do == "take_file":
            path = f"browsers/{transfer.browser}/downloads/{transfer.name}"

            def open_file() -> tuple[IO[bytes], int]:
                place = self._files.file(path)
                if place is None:
                    raise FileNotFoundError(f"{transfer.name} is no download of this browser")
                return place.open("rb"), place.stat().st_size

            return open_file
        report = browsers.report(transfer.browser)
        archive = None if report is None or report.saved is None else report.saved.archive
        if archive is None:
            raise FileNotFoundError("this browser has saved no profile")

        def open_archive() -> tuple[IO[bytes], int]:
            place = self._folder / archive
            return place.open("rb"), place.stat().st_size

        return open_archive

    @staticmethod
    async def _send(writer: asyncio.StreamWriter, chunks: AsyncIterator[bytes], size: int) -> None:
        write_to(writer, frame({"ok": {"size": size}}))
        left = size
        try:
            async for piece in chunks:
                left -= len(piece)
                write_to(writer, piece)
                async with asyncio.timeout(_STALLED_SECONDS):
                    await writer.drain()
            if left:
                raise OSError("the file has become shorter while it was sent")
            writer.close()
            async with asyncio.timeout(_STALLED_SECONDS):
                await writer.wait_closed()
        except (OSError, TimeoutError) as error:
            logger.info("a file was not sent to its end: %r", error)
            raise _Broken from error

    # --- from the server -------------------------------------------------------------------------------------------

    async def _receive(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        transfer: Transfer,
        browsers: WorkerBrowsers,
    ) -> None:
        if not 0 <= transfer.size <= self._max_bytes:
            raise OSError(
                f"a file of {transfer.size} bytes is longer than the {self._max_bytes} that are allowed"
            )
        write_to(writer, frame({"ok": True}))
        if transfer.do == "write_file":
            access = _access(browsers, transfer.browser)
            coming = received(reader, transfer.size)
            await access.write(transfer.name, transfer.size, transfer.modified, coming)
            return
        if transfer.do == "give_profile":
            if not is_archive(transfer.archive):
                raise BadMessage("this is no name of a profile's archive")
            place = self._folder / transfer.archive
            await asyncio.to_thread(place.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
        else:
            folder = await asyncio.to_thread(self._files.make, self._files.uploads(transfer.browser))
            place = folder / safe_file_name(transfer.name)
        draft = place.with_name(f".{secrets.token_hex(8)}.upload")
        try:
            with draft.open("wb") as sink:
                await copied(reader, sink, transfer.size)
            draft.chmod(0o640)  # a browser of another user reads its uploads by its group
            draft.replace(place)
        finally:
            draft.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class OfBrowser:
    """A request about the files of a browser."""

    browser: UUID


def _access(browsers: WorkerBrowsers, browser_id: UUID) -> FileAccess:
    """Return the files of a browser.

    Raises:
        FileRefused: It has ended.
    """
    entry = browsers.entry(browser_id)
    if entry is None or entry.files is None:
        raise FileRefused(404, "the files of this browser cannot be reached")
    return entry.files


async def pieces(source: IO[bytes], size: int) -> AsyncIterator[bytes]:
    """Give the bytes of a file in pieces.

    Raises:
        OSError: From the disk, or the file has become shorter.
    """
    left = size
    while left:
        piece = await in_pool(source.read, min(left, CHUNK_BYTES))
        if not piece:
            raise OSError("the file has become shorter while it was sent")
        left -= len(piece)
        yield piece


async def received(reader: asyncio.StreamReader, size: int) -> AsyncIterator[bytes]:
    """Give the next `size` bytes of a connection in pieces.

    Raises:
        EOFError: There are fewer.
        OSError: From the connection.
    """
    left = size
    while left:
        async with asyncio.timeout(_STALLED_SECONDS):
            piece = await reader.read(min(left, CHUNK_BYTES))
        if not piece:
            raise EOFError("the connection ended in the midst of a file")
        left -= len(piece)
        yield piece


async def copied(reader: asyncio.StreamReader, sink: IO[bytes], size: int) -> None:
    """Write the next `size` bytes of a connection into a file. Errors as of `received`, and of the disk."""
    async for piece in received(reader, size):
        await in_pool(sink.write, piece)
