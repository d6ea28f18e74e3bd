"""Files that a browser downloads, brought to this machine over CDP alone, wherever the browser runs.

The browser saves the file on its own disk, a file input of a blank page takes it from there, and the `File` in it is read as a
stream. That needs no `file://` page, no HTTP endpoint, and works for `blob:` and `data:` downloads too.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from cdpbridge._durations import waiting_time
from cdpbridge._file_names import safe_file_name
from cdpbridge.cdp import CDPSession, Connection, read_stream
from cdpbridge.cdp._switches import downloads_folder
from cdpbridge.errors import CDPError, DownloadFailed, DownloadTimeout
from cdpbridge.protocol import IO, Browser, Runtime, Target

__all__ = ["Download", "file_chunks", "temporary_folder"]

_NUMBER_BYTES: Final = len(" (9999)")  # added to a name that is taken


class Download:
    """A file that the browser has downloaded or is downloading.

    Attributes:
        url: Where it comes from.
        suggested_filename: The name that the server or the page gave it; not checked, see `save`.
    """

    def __init__(
        self,
        connection: Connection,
        context_id: str | None,
        begun: Browser.DownloadWillBegin,
        path: str,
        done: asyncio.Future[Browser.DownloadProgress],
    ) -> None:
        self.url = begun.url
        self.suggested_filename = begun.suggested_filename
        self._connection = connection
        self._context_id = context_id
        self._path = path
        self._done = done

    def __repr__(self) -> str:
        return f"<Download {self.suggested_filename!r}>"

    async def save(self, folder: Path | str = ".", *, timeout: float | timedelta | None = None) -> Path:
        """Bring it into `folder` under its own name, made harmless; a number is added when the name is taken.

        The folder is made when it is missing.

        Returns:
            Where it is.

        Raises:
            DownloadFailed: The browser cancelled it, or it arrived with another size.
            DownloadTimeout: It was not complete within `timeout`.
            OSError: It cannot be written.
        """
        directory = Path(folder)
        name = safe_file_name(self.suggested_filename, otherwise="download", spare_bytes=_NUMBER_BYTES)
        async with self._arrived(directory, _limit(timeout)) as temporary:
            return await asyncio.to_thread(_rename_to_free_name, temporary, directory, name)

    async def save_as(self, path: Path | str, *, timeout: float | timedelta | None = None) -> Path:
        """Bring it to `path`, whole or not at all; a file that is there is replaced, a missing folder made. Errors as of `save`."""
        target = Path(path)
        async with self._arrived(target.parent, _limit(timeout)) as temporary:
            await asyncio.to_thread(temporary.replace, target)
        return target

    async def read(self, *, timeout: float | timedelta | None = None) -> bytes:
        """Return its content. Errors as of `save`."""
        async with self._in_time(_limit(timeout)), aclosing(self._chunks()) as chunks:
            return b"".join([chunk async for chunk in chunks])

    @asynccontextmanager
    async def _arrived(self, folder: Path, limit: timedelta | None) -> AsyncIterator[Path]:
        descriptor, name = await asyncio.to_thread(_temporary_in, folder)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                async with self._in_time(limit), aclosing(self._chunks()) as chunks:
                    async for chunk in chunks:
                        await asyncio.to_thread(file.write, chunk)
                    await asyncio.to_thread(_make_durable, file)
            yield temporary
        finally:
            await asyncio.to_thread(temporary.unlink, missing_ok=True)

    @asynccontextmanager
    async def _in_time(self, limit: timedelta | None) -> AsyncIterator[None]:
        """Raise `DownloadTimeout` in a block after `limit`. Around the reader's loop: a generator cannot time out its reader."""
        deadline = asyncio.timeout(None if limit is None else limit.total_seconds())
        try:
            async with deadline:
                yield
        except TimeoutError:
            if not deadline.expired() or limit is None:  # a command's own timeout
                raise
            raise DownloadTimeout(self.suggested_filename, waited=limit) from None

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        progress = await asyncio.shield(self._done)
        if progress.state != Browser.DownloadProgressState.COMPLETED:
            raise DownloadFailed(self.suggested_filename, f"the browser says {progress.state}")
        size = int(progress.received_bytes)
        read = 0
        path = progress.file_path or self._path
        async with (
            _blank_page(self._connection, self._context_id) as page,
            aclosing(file_chunks(page, path)) as chunks,
        ):
            async for chunk in chunks:
                read += len(chunk)
                yield chunk
        if read != size:
            raise DownloadFailed(self.suggested_filename, f"it has {size} bytes, {read} arrived")


async def temporary_folder(root: CDPSession) -> str:
    """Return a folder on the browser's machine, by preference one that is removed with the browser."""
    from cdpbridge.protocol import SystemInfo  # noqa: PLC0415  # domains load on first use

    with suppress(CDPError):
        command = (await root.send(SystemInfo.get_info())).command_line
        if folder := downloads_folder(command):
            return folder
    return "/tmp"  # noqa: S108  # of a hosted browser's own machine; the name below it cannot be guessed


@asynccontextmanager
async def _blank_page(connection: Connection, context_id: str | None) -> AsyncIterator[CDPSession]:
    page = await connection.new_tab(browser_context_id=context_id)
    try:
        yield page
    finally:
        if page.closed is None and not connection.closed:
            connection.create_task(_close(page))


async def _close(page: CDPSession) -> None:
    with suppress(CDPError):
        await page.connection.root.send(Target.close_target(page.target_id))


async def file_chunks(page: CDPSession, path: str) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of a file on the browser's disk, read through an element that is in no document.

    Raises:
        CDPError: The page cannot read it.
        DownloadFailed: There is no such file.
    """
    script = "Object.assign(document.createElement('input'), {type: 'file'})"
    element = (await page.send(Runtime.evaluate(script))).result.object_id
    assert element is not None
    await page.send("DOM.setFileInputFiles", {"files": [path], "objectId": element})
    function = "function() { return this.files[0] }"
    file = (await page.send(Runtime.call_function_on(function, object_id=element))).result.object_id
    if file is None:
        raise DownloadFailed(path.rpartition("/")[2], "the browser does not let the file be read")
    blob = (await page.send(IO.resolve_blob(file))).uuid
    async with aclosing(read_stream(page, f"blob:{blob}")) as chunks:
        async for chunk in chunks:
            yield chunk


def _temporary_in(folder: Path) -> tuple[int, str]:
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.mkstemp(".part", ".download-", folder)


def _rename_to_free_name(temporary: Path, folder: Path, name: str) -> Path:
    """Give the file the first free name; no other file is touched, also not one that comes meanwhile."""
    whole = Path(name)
    number = 0
    while True:
        target = folder / (f"{whole.stem} ({number}){whole.suffix}" if number else name)
        try:
            target.touch(exist_ok=False)
        except FileExistsError:
            number += 1
        else:
            return temporary.replace(target)


def _make_durable(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
    if hasattr(os, "fchmod"):  # on Windows, the folder says who may read it
        mask = os.umask(0)
        os.umask(mask)
        os.fchmod(file.fileno(), 0o666 & ~mask)


def _limit(timeout: float | timedelta | None) -> timedelta | None:
    return None if timeout is None else waiting_time("timeout", timeout)
