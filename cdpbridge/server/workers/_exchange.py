"""The server's end of transfers; see `_transfers`."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, Final
from uuid import UUID

from cdpbridge._concurrency import in_thread
from cdpbridge._file_names import safe_file_name
from cdpbridge._streams import write_to
from cdpbridge.errors import CDPBridgeError
from cdpbridge.server.files import FileStore
from cdpbridge.server.gateway import FileAccess, FileRefused, OpenedFile
from cdpbridge.server.hosts import BrowserSpec, SavedState
from cdpbridge.server.profiles import (
    NO_VERSION,
    ProfileRefused,
    ProfileStore,
    ProfileVersion,
    receive_version,
    send_version,
)

from ._dial import Dialler
from ._link import LinkLost, WorkerLink
from ._protocol import BadMessage, Refused, encoded, error_of, frame, loaded, read_frame
from ._transfers import (
    HasProfile,
    KeptFile,
    OfBrowser,
    RemoveFile,
    Transfer,
    copied,
    pieces,
    received,
)

__all__ = ["Exchange", "ProfileOf"]

logger = logging.getLogger("cdpbridge.server")

_STALLED_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class ProfileOf:
    """The profile of a browser.

    Attributes:
        sent: The version that it began with, as its worker knows it.
        base: The same, as the profile's row says.
    """

    id: UUID
    sent: ProfileVersion
    base: ProfileVersion


class Exchange:
    """Brings files to workers and back.

    Args:
        dialler: To workers.
        profiles: Of this server.
        files: Of this server.
        folder: For files on their way.
        max_bytes: Of one file of a worker.
    """

    def __init__(
        self, dialler: Dialler, profiles: ProfileStore, files: FileStore, folder: Path, *, max_bytes: int
    ) -> None:
        self._dialler = dialler
        self._profiles = profiles
        self._files = files
        self._folder = folder
        self._max_bytes = max_bytes

    # --- profiles --------------------------------------------------------------------------------------------------

    async def give_profile(self, link: WorkerLink, spec: BrowserSpec) -> BrowserSpec:
        """Bring an order's profile to a worker, and return the order as the worker understands it.

        Raises:
            ProfileNotRestored: From the store.
            OSError: It cannot be brought there.
        """
        version = spec.profile_version
        if spec.profile_id is None:
            return spec
        if version.archive is not None and await link.ask(
            "has_profile", HasProfile(spec.profile_id, version.archive)
        ):
            return spec
        with self._temporary() as file:
            send = partial(send_version, self._profiles, spec.profile_id, version, file)
            named = await self._profiles.run(send)
            if named is None or named.archive is None:
                return replace(spec, profile_version=NO_VERSION)
            size = file.tell()
            file.seek(0)
            transfer = Transfer("give_profile", spec.id, archive=named.archive, size=size)
            await self._give(link, transfer, file)
        return replace(spec, profile_version=named)

    async def take_profile(
        self,
        link: WorkerLink,
        browser_id: UUID,
        saved: SavedState,
        profile: ProfileOf,
    ) -> SavedState | None:
        """Bring back what a browser has saved; None, with a line in the log, when that fails and the former version stays.

        Args:
            link: To its worker.
            browser_id: Of the browser.
            saved: As the worker reports it.
            profile: What it began with.

        Raises:
            LinkLost: It has not come; it may be asked for again.
        """
        archive = saved.archive or ""
        try:
            with self._temporary() as file:
                try:
                    await self._take(link, Transfer("take_profile", browser_id), file)
                    file.flush()
                except (EOFError, OSError, BadMessage) as error:
                    raise LinkLost(f"the profile of browser {browser_id} has not come: {error}") from error
                receive = partial(
                    receive_version,
                    self._profiles,
                    profile.id,
                    Path(file.name),
                    archive=archive,
                    base=profile.base,
                    named_after=profile.sent,
                    writer=browser_id,
                    cookie_domains=saved.cookie_domains,
                )
                found = await self._profiles.run(receive, saving=True)
        except LinkLost:
            raise
        except ProfileRefused as error:
            logger.warning("%s", error)
            return None
        except (OSError, CDPBridgeError):
            logger.exception("profile %s could not be saved; its former version stays", profile.id)
            return None
        return SavedState(found.version, list(found.cookie_domains), found.archive)

    # --- downloads -------------------------------------------------------------------------------------------------

    async def take_files(self, link: WorkerLink, browser_id: UUID) -> None:
        """Bring what a browser has downloaded into the store of files, where it is not there yet.

        Raises:
            OSError: It cannot be brought, or not be written.
        """
        there = [loaded(KeptFile, each) for each in await link.ask("files", OfBrowser(browser_id))]
        if not there:
            return
        folder = await asyncio.to_thread(self._files.make, self._files.downloads(browser_id))
        here = {each.name: each for each in await asyncio.to_thread(self._files.listing, folder)}
        for each in there:
            known = here.get(each.name)
            if known is not None and (known.size, int(known.modified)) == (each.size, int(each.modified)):
                continue
            await self._take_file(link, browser_id, each, folder)

    async def _take_file(self, link: WorkerLink, browser_id: UUID, file: KeptFile, folder: Path) -> None:
        place = folder / safe_file_name(file.name)
        draft = folder / f".{secrets.token_hex(8)}.incoming"
        try:
            with draft.open("wb") as sink:
                await self._take(link, Transfer("take_file", browser_id, name=file.name), sink)
            await in_thread(_put, draft, place, file.modified)
        finally:
            draft.unlink(missing_ok=True)

    async def give_file(self, link: WorkerLink, browser_id: UUID, file: Path) -> None:
        """Bring an upload to a browser.

        Raises:
            OSError: It cannot be brought there.
        """
        with file.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            await self._give(link, Transfer("give_file", browser_id, name=file.name, size=size), source)

    # --- the tunnel's files ----------------------------------------------------------------------------------------

    def access(self, browser_id: UUID, link: Callable[[], WorkerLink | None]) -> FileAccess:
        """Return the files of a browser, for the gateway.

        Args:
            link: Returns the link to its worker; None when that does not answer any more.
        """
        return _RemoteFiles(self, browser_id, link)

    # --- connections -----------------------------------------------------------------------------------------------

    def _temporary(self) -> Any:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return tempfile.NamedTemporaryFile(dir=self._folder)  # the callers close it

    @asynccontextmanager
    async def connection(
        self, link: WorkerLink, transfer: Transfer
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, Any]]:
        """Open a connection for a transfer, with the worker's answer; OSError when it cannot be."""
        hello = link.hello(purpose="transfer")
        reader, writer = await self._dialler.streams(link.worker, hello)
        try:
            write_to(writer, frame(encoded(transfer)))
            yield reader, writer, await _answer(reader)
        except EOFError as error:
            raise OSError(f"worker {link.worker.address} has closed the connection") from error
        except TimeoutError as error:
            raise OSError(f"worker {link.worker.address} sends nothing") from error
        finally:
            writer.transport.abort()

    async def _give(self, link: WorkerLink, transfer: Transfer, source: IO[bytes]) -> None:
        async with self.connection(link, transfer) as (reader, writer, _):
            async for piece in pieces(source, transfer.size):
                write_to(writer, piece)
                async with asyncio.timeout(_STALLED_SECONDS):
                    await writer.drain()
            await _answer(reader)

    async def _take(self, link: WorkerLink, transfer: Transfer, sink: IO[bytes]) -> None:
        async with self.connection(link, transfer) as (reader, _, answer):
            size = answer.get("size") if isinstance(answer, dict) else None
            if not isinstance(size, int) or not 0 <= size <= self._max_bytes:
                raise OSError(f"worker {link.worker.address} offers a file of {size} bytes")
            await copied(reader, sink, size)


class _RemoteFiles:
    """`FileAccess` for a browser on a worker."""

    def __init__(self, exchange: Exchange, browser_id: UUID, link: Callable[[], WorkerLink | None]) -> None:
        self._exchange = exchange
        self._id = browser_id
        self._link = link

    async def folders(self) -> dict[str, Any]:
        """See `FileAccess.folders`."""
        with self._reached() as link:
            found: dict[str, Any] = await link.ask("file_folders", OfBrowser(self._id))
            return found

    async def read(self, path: str) -> OpenedFile:
        """See `FileAccess.read`."""
        with self._reached() as link:
            async with AsyncExitStack() as ends:
                transfer = Transfer("read_file", self._id, name=path)
                reader, _, answer = await ends.enter_async_context(self._exchange.connection(link, transfer))
                return _RemoteFile(int(answer["size"]), reader, ends.pop_all())

    async def write(self, path: str, size: int, modified: float | None, chunks: AsyncIterator[bytes]) -> None:
        """See `FileAccess.write`."""
        transfer = Transfer("write_file", self._id, name=path, size=size, modified=modified)
        with self._reached() as link:
            async with self._exchange.connection(link, transfer) as (reader, writer, _):
                sent = 0
                async for chunk in chunks:
                    sent += len(chunk)
                    if sent > size:
                        raise FileRefused(400, "the file is longer than was said")
                    write_to(writer, chunk)
                    async with asyncio.timeout(_STALLED_SECONDS):
                        await writer.drain()
                if sent != size:
                    raise FileRefused(400, f"{sent} bytes of the file have come, not {size}")
                await _answer(reader)

    async def remove(self, path: str, delay: float) -> None:
        """See `FileAccess.remove`."""
        with self._reached() as link:
            await link.ask("remove_file", RemoveFile(self._id, path, delay))

    @contextmanager
    def _reached(self) -> Iterator[WorkerLink]:
        link = self._link()
        try:
            if link is None:
                raise OSError("the worker of this browser does not answer any more")
            yield link
        except (OSError, BadMessage) as error:
            logger.warning("a file of browser %s is not reached: %s", self._id, error)
            raise FileRefused(502, "the machine of this browser does not answer") from None


class _RemoteFile:
    def __init__(self, size: int, reader: asyncio.StreamReader, ends: AsyncExitStack) -> None:
        self.size = size
        self._reader, self._ends = reader, ends

    async def chunks(self) -> AsyncIterator[bytes]:
        with suppress(EOFError, OSError):  # the client misses bytes, and says so
            async for piece in received(self._reader, self.size):
                yield piece

    async def close(self) -> None:
        await self._ends.aclose()


async def _answer(reader: asyncio.StreamReader) -> Any:
    """Return the answer in the next frame, or raise what it refuses with."""
    async with asyncio.timeout(_STALLED_SECONDS):
        message = await read_frame(reader)
    if "refused" in message:
        raise error_of(loaded(Refused, message["refused"]))
    return message.get("ok")


def _put(draft: Path, place: Path, modified: float) -> None:
    os.utime(draft, (modified, modified))
    draft.replace(place)
