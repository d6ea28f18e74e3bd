"""Files between a tab and this machine, over CDP alone, so wherever the browser runs.

Down: the browser saves the file on its own disk, a file input of a blank page takes it from there, and the `File` in it is
read as a stream. That needs no `file://` page, no HTTP endpoint, and works for `blob:` and `data:` downloads too.
Up: the bytes go into the page piece by piece, in a world of ours that the page's scripts cannot reach, and become the
`File`s of its input.
"""

from __future__ import annotations

import asyncio
import base64
import mimetypes
import os
import re
import secrets
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from cdpbridge._durations import waiting_time
from cdpbridge.cdp import CDPSession, Connection, read_stream
from cdpbridge.cdp._switches import downloads_folder
from cdpbridge.errors import CDPError, CommandTimeout, DownloadFailed, DownloadTimeout, UploadFailed
from cdpbridge.protocol import IO, Browser, Page, Runtime, Target

__all__ = [
    "Download",
    "DownloadExpectation",
    "file_chunks",
    "safe_file_name",
    "temporary_folder",
    "upload",
]

_CHUNK_BYTES: Final = 1024 * 1024
_NAME_BYTES: Final = 255  # of a file name, on every usual file system
_WORLD: Final = "cdpbridge"


class Download:
    """A file that the browser has downloaded or is downloading; after the block of `Tab.expect_download`.

    Attributes:
        url: Where it comes from.
        suggested_filename: The name that the server or the page gave it; not checked, see `save`.
    """

    def __init__(self) -> None:
        self.url = ""
        self.suggested_filename = ""
        self._done: asyncio.Future[Browser.DownloadProgress]
        self._path = ""
        self._connection: Connection
        self._context_id: str | None = None

    def __repr__(self) -> str:
        return f"<Download {self.suggested_filename!r}>"

    async def save(self, folder: Path | str = ".", *, timeout: float | timedelta | None = None) -> Path:
        """Bring it into `folder` under its own name, made harmless; a number is added when the name is taken.

        The folder is made when it is missing.

        Returns:
            Where it is.

        Raises:
            DownloadFailed: The browser gave it up, or it arrived with another size.
            DownloadTimeout: It was not complete within `timeout`.
            OSError: It cannot be written.
        """
        directory = Path(folder)
        name = safe_file_name(self.suggested_filename)
        async with self._arrived(directory, timeout) as temporary:
            return await asyncio.to_thread(_rename_to_free_name, temporary, directory, name)

    async def save_as(self, path: Path | str, *, timeout: float | timedelta | None = None) -> Path:
        """Bring it to `path`, whole or not at all; a file that is there is replaced, a missing folder made. Errors as of `save`."""
        target = Path(path)
        async with self._arrived(target.parent, timeout) as temporary:
            await asyncio.to_thread(temporary.replace, target)
        return target

    async def read(self, *, timeout: float | timedelta | None = None) -> bytes:
        """Its content. Errors as of `save`."""
        async with self._in_time(timeout), aclosing(self._chunks()) as chunks:
            return b"".join([chunk async for chunk in chunks])

    @asynccontextmanager
    async def _arrived(self, folder: Path, timeout: float | timedelta | None) -> AsyncIterator[Path]:
        descriptor, name = await asyncio.to_thread(_temporary_in, folder)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                async with self._in_time(timeout), aclosing(self._chunks()) as chunks:
                    async for chunk in chunks:
                        await asyncio.to_thread(file.write, chunk)
                    await asyncio.to_thread(_make_durable, file)
            yield temporary
        finally:
            await asyncio.to_thread(temporary.unlink, missing_ok=True)

    @asynccontextmanager
    async def _in_time(self, timeout: float | timedelta | None) -> AsyncIterator[None]:
        """A block that raises `DownloadTimeout` after `timeout`. Around the reader's loop: a generator cannot time out its reader."""
        limit = None if timeout is None else waiting_time("timeout", timeout)
        deadline = asyncio.timeout(None if limit is None else limit.total_seconds())
        try:
            async with deadline:
                yield
        except TimeoutError:
            if not deadline.expired() or limit is None:  # a command's own timeout
                raise
            raise DownloadTimeout(self.suggested_filename, waited=limit) from None

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        if not self._path:
            raise RuntimeError("no download has begun yet; use it after the block of expect_download")
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


class DownloadExpectation:
    """Listens from the start of a block; at its end, waits until a download of the tab has begun. See `Tab.expect_download`."""

    def __init__(self, session: CDPSession, timeout: float | timedelta) -> None:
        self._session = session
        self._timeout = waiting_time("timeout", timeout)
        self._download = Download()
        self._begun: list[Browser.DownloadWillBegin] = []
        self._progress: dict[str, Browser.DownloadProgress] = {}
        self._news = asyncio.Event()
        self._remove: list[Callable[[], None]] = []
        self._folder = ""
        self._deadline = 0.0
        self._guid: str | None = None

    async def __aenter__(self) -> Download:
        connection = self._session.connection
        root = connection.root
        self._deadline = asyncio.get_running_loop().time() + self._timeout.total_seconds()
        target = (await root.send(Target.get_target_info(target_id=self._session.target_id))).target_info
        self._download._connection = connection
        self._download._context_id = target.browser_context_id
        self._download._done = asyncio.get_running_loop().create_future()
        self._folder = f"{await temporary_folder(root)}/cdpbridge-{secrets.token_hex(8)}"
        self._remove = [
            root.on(Browser.DownloadWillBegin, self._on_begun),
            root.on(Browser.DownloadProgress, self._on_progress),
            connection.on("disconnected", self._on_disconnected),
        ]
        try:
            await root.send(
                Browser.set_download_behavior(
                    Browser.SetDownloadBehaviorBehavior.ALLOW_AND_NAME,
                    browser_context_id=target.browser_context_id,
                    download_path=self._folder,
                    events_enabled=True,
                )
            )
        except BaseException:
            self._stop()
            raise
        return self._download

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._stop()
            return
        try:
            begun = await self._first()
        except BaseException:
            self._stop()
            raise
        self._download.url = begun.url
        self._download.suggested_filename = begun.suggested_filename
        self._download._path = f"{self._folder}/{begun.guid}"
        self._guid = begun.guid
        self._settle()

    async def _first(self) -> Browser.DownloadWillBegin:
        seen = 0
        try:
            async with asyncio.timeout_at(self._deadline) as deadline:
                while True:
                    while seen < len(self._begun):
                        begun = self._begun[seen]
                        seen += 1
                        if await self._is_ours(begun.frame_id):
                            return begun
                    self._news.clear()
                    if self._session.connection.closed:
                        raise DownloadFailed("", "the connection ended before a download began")
                    await self._news.wait()
        except TimeoutError:
            if not deadline.expired():  # a command's own timeout
                raise
            raise CommandTimeout(
                "expect_download",
                target=self._session.describe(),
                waited=self._timeout,
                hint=self._session.hint(),
            ) from None

    async def _is_ours(self, frame_id: str) -> bool:
        """Whether it was begun by this page, a frame in it, or a page that it opened: not by another page."""
        if frame_id == self._session.target_id:
            return True
        for target in await self._session.connection.targets():
            if target.target_id == frame_id and target.type == "page":
                return target.opener_id == self._session.target_id
        return True

    def _on_begun(self, event: Browser.DownloadWillBegin) -> None:
        self._begun.append(event)
        self._news.set()

    def _on_progress(self, event: Browser.DownloadProgress) -> None:
        if event.state != Browser.DownloadProgressState.IN_PROGRESS:
            self._progress[event.guid] = event
            self._settle()

    def _on_disconnected(self, *_: object) -> None:
        self._news.set()
        done = self._download._done
        if not done.done():
            done.set_exception(DownloadFailed(self._download.suggested_filename, "the connection has ended"))
            done.exception()  # nobody may be waiting for it
        self._stop()

    def _settle(self) -> None:
        done = self._download._done
        if self._guid in self._progress and not done.done():
            done.set_result(self._progress[self._guid])
            self._stop()

    def _stop(self) -> None:
        while self._remove:
            self._remove.pop()()


async def temporary_folder(root: CDPSession) -> str:
    """A folder on the browser's machine, by preference one that is removed with the browser."""
    from cdpbridge.protocol import SystemInfo  # noqa: PLC0415  # domains load on first use

    with suppress(CDPError):
        command = (await root.send(SystemInfo.get_info())).command_line
        if folder := downloads_folder(command):
            return folder
    return "/tmp"  # noqa: S108  # of a hosted browser's own machine, with a name nobody can guess below it


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
    """The bytes of a file on the browser's disk, read through an element of a page that stands in no document.

    Raises:
        CDPError: The page cannot read it.
        DownloadFailed: It is no file.
    """
    script = "Object.assign(document.createElement('input'), {type: 'file'})"
    element = (await page.send(Runtime.evaluate(script))).result.object_id
    assert element is not None
    await page.send("DOM.setFileInputFiles", {"files": [path], "objectId": element})
    function = "function() { return this.files[0] }"
    file = (await page.send(Runtime.call_function_on(function, object_id=element))).result.object_id
    if file is None:
        raise DownloadFailed(path.rpartition("/")[2], "the browser does not give the file away")
    blob = (await page.send(IO.resolve_blob(file))).uuid
    async with aclosing(read_stream(page, f"blob:{blob}")) as chunks:
        async for chunk in chunks:
            yield chunk


def safe_file_name(name: str) -> str:
    """A file name without folders, control characters, or what hides it or makes it too long."""
    last = re.split(r"[/\\]", name)[-1]
    clean = re.sub(r'[\x00-\x1f\x7f<>:"|?*]', "_", last).strip().lstrip(".")
    stem, dot, suffix = clean.rpartition(".")
    if not stem:
        stem, dot, suffix = clean, "", ""
    room = _NAME_BYTES - len(" (9999)") - len(f"{dot}{suffix}".encode())
    short = stem.encode()[: max(room, 1)].decode(errors="ignore")
    return f"{short}{dot}{suffix}" if room > 0 and short else "download"


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
    mask = os.umask(0)
    os.umask(mask)
    os.fchmod(file.fileno(), 0o666 & ~mask)


# --- upload ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Source:
    path: Path
    size: int
    kind: str
    modified_ms: float


async def upload(session: CDPSession, selector: str, paths: Sequence[Path | str], max_bytes: int) -> None:
    """See `Tab.upload`."""
    sources = await asyncio.to_thread(lambda: [_source(Path(path)) for path in paths])
    total = sum(source.size for source in sources)
    if total > max_bytes:
        raise UploadFailed(
            f"the files have {total} bytes, the limit is {max_bytes}; raise max_bytes if that is meant"
        )
    frame = (await session.send(Page.get_frame_tree())).frame_tree.frame.id
    world = await session.send(Page.create_isolated_world(frame, world_name=_WORLD))
    found = await session.send(
        Runtime.call_function_on(
            "function(selector) { return document.querySelector(selector) }",
            execution_context_id=world.execution_context_id,
            arguments=[Runtime.CallArgument(value=selector)],
        )
    )
    if found.exception_details is not None:
        raise UploadFailed(f"{selector!r} is no selector")
    element = found.result.object_id
    if element is None:
        raise UploadFailed(f"the page has no element {selector!r}")
    await _call(session, element, _CHECK, len(sources))
    try:
        for source in sources:
            await _send(session, element, source)
        await _call(session, element, _FINISH)
    except BaseException:
        if session.closed is None:
            session.connection.create_task(_forget(session, element))
        raise


_CHECK: Final = """function(count) {
    if (!(this instanceof HTMLInputElement) || this.type !== 'file') return 'is no file input';
    if (this.disabled) return 'is disabled';
    if (count > 1 && !this.multiple) return `takes one file, not ${count}`;
    globalThis.cdpbridgeFiles = new DataTransfer();
}"""
_BEGIN: Final = "function() { globalThis.cdpbridgeParts = [] }"
_PART: Final = """function(text) {
    const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(text) : Uint8Array.from(atob(text), c => c.charCodeAt(0));
    globalThis.cdpbridgeParts.push(new Blob([bytes]));
}"""
_END: Final = """function(name, type, lastModified, size) {
    const file = new File(globalThis.cdpbridgeParts, name, {type, lastModified});
    if (file.size !== size) return `should have got ${size} bytes of ${name}, and got ${file.size}`;
    globalThis.cdpbridgeFiles.items.add(file);
}"""
_FINISH: Final = """function() {
    this.files = globalThis.cdpbridgeFiles.files;
    delete globalThis.cdpbridgeFiles;
    delete globalThis.cdpbridgeParts;
    this.dispatchEvent(new Event('input', {bubbles: true, composed: true}));
    this.dispatchEvent(new Event('change', {bubbles: true}));
}"""
_FORGET: Final = "function() { delete globalThis.cdpbridgeFiles; delete globalThis.cdpbridgeParts }"


def _source(path: Path) -> _Source:
    if not path.is_file():
        raise UploadFailed(f"{path} is {'a folder' if path.is_dir() else 'no file'}")
    facts = path.stat()
    kind = mimetypes.guess_type(path.name)[0] or ""
    return _Source(path, facts.st_size, kind, facts.st_mtime * 1000)


async def _send(session: CDPSession, element: str, source: _Source) -> None:
    await _call(session, element, _BEGIN)
    with await asyncio.to_thread(source.path.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            await _call(session, element, _PART, base64.b64encode(chunk).decode("ascii"))
    await _call(session, element, _END, source.path.name, source.kind, source.modified_ms, source.size)


async def _call(session: CDPSession, element: str, function: str, *arguments: Any) -> None:
    """Call a function of ours on the element; the text it returns says what is wrong."""
    answer = await session.send(
        Runtime.call_function_on(
            function,
            object_id=element,
            arguments=[Runtime.CallArgument(value=value) for value in arguments],
            return_by_value=True,
            user_gesture=True,
        )
    )
    if answer.exception_details is not None:
        raise UploadFailed(f"the page's element failed: {answer.exception_details.text}")
    if isinstance(answer.result.value, str):
        raise UploadFailed(f"the page's element {answer.result.value}")


async def _forget(session: CDPSession, element: str) -> None:
    with suppress(CDPError):
        await session.send(Runtime.call_function_on(_FORGET, object_id=element))
