"""The disk of any browser, reached over CDP alone, through a page of the tunnel's own.

A file is read as the content of an input element that stands in no document; it is put there as a download of that page. The page is in a
browser context of its own, by whose id the tunnel keeps it from its clients. Nothing can be removed this way.
"""

from __future__ import annotations

import asyncio
import base64
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from cdpbridge._concurrency import in_pool
from cdpbridge.browser._download import file_chunks, temporary_folder
from cdpbridge.cdp import CDPSession, Connection
from cdpbridge.errors import CDPError, UploadFailed
from cdpbridge.protocol import Runtime, Target

from ._control import Control
from ._disk import Folders, opened, write_all

__all__ = ["CDPDisk"]

_CHUNK_BYTES: Final = 1024 * 1024
# DownloadRequestLimiter::kMaxDownloadsAtOnce: of one page, before Chromium asks the user.
_MOST_SAVED: Final = 9
_BEGIN: Final = "globalThis.parts = []"
_PART: Final = """function(text) {
    const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(text) : Uint8Array.from(atob(text), c => c.charCodeAt(0));
    globalThis.parts.push(new Blob([bytes]));
}"""
_SAVE: Final = """function(name) {
    const file = new File(globalThis.parts, name, {type: 'application/octet-stream'});  // of a text, Chromium adds `.txt`
    delete globalThis.parts;
    const link = Object.assign(document.createElement('a'), {href: URL.createObjectURL(file), download: name});
    link.click();
    return file.size;
}"""


class CDPDisk:
    """See `Disk`. Made by `find`."""

    def __init__(self, control: Control, folders: Folders) -> None:
        self.folders = folders
        self.identity = None
        self._control = control
        self._opening = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._connection: Connection | None = None
        self._context_id = ""
        self._page: CDPSession | None = None  # that reads
        self._saving: CDPSession | None = None
        self._saved = 0

    @classmethod
    async def find(cls, control: Control) -> CDPDisk:
        """Return the disk of the browser behind `control`; nothing is opened there yet.

        Raises:
            CDPError: The browser cannot be reached.
        """
        connection = await control.connection()
        folder = f"{await temporary_folder(connection.root)}/cdpbridge-{control.name()}"
        return cls(control, Folders(f"{folder}/downloads", f"{folder}/uploads"))

    async def fetch(self, path: str, sink: BinaryIO, size: int) -> int:
        """See `Disk`."""
        page = await self._opened()
        arrived = 0
        async with aclosing(file_chunks(page, path)) as chunks:
            async for chunk in chunks:
                arrived += len(chunk)
                await in_pool(write_all, sink, chunk)
        return arrived

    async def write(self, folder: str, source: Path) -> str:
        """See `Disk`. The browser makes some names harmless: a leading dot, for one, does not stay."""
        async with self._writing:  # one list of parts, and one folder at a time
            page = await self._writer()
            await page.send(Runtime.evaluate(_BEGIN))
            scope = (await page.send(Runtime.evaluate("globalThis"))).result.object_id
            assert scope is not None
            with opened(source) as file:
                while chunk := await in_pool(file.read, _CHUNK_BYTES):
                    await _call(page, scope, _PART, base64.b64encode(chunk).decode("ascii"))
            return await self._save(page, scope, folder, source.name)

    async def _save(self, page: CDPSession, scope: str, folder: str, name: str) -> str:
        root = page.connection.root
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        begun: set[str] = set()

        def on_begun(event: dict[str, Any]) -> None:
            if event["frameId"] == page.target_id:
                self._control.hidden_downloads.add(event["guid"])
                begun.add(event["guid"])

        def on_progress(event: dict[str, Any]) -> None:
            if event["guid"] in begun and event["state"] != "inProgress" and not done.done():
                if event["state"] == "completed":
                    done.set_result(event.get("filePath") or f"{folder}/{name}")
                else:
                    done.set_exception(UploadFailed(f"the browser's machine did not take {name}"))

        remove = [
            root.on("Browser.downloadWillBegin", on_begun),
            root.on("Browser.downloadProgress", on_progress),
        ]
        try:
            behaviour = {"behavior": "allow", "downloadPath": folder, "eventsEnabled": True}
            await root.send("Browser.setDownloadBehavior", behaviour | {"browserContextId": self._context_id})
            await _call(page, scope, _SAVE, name)
            closed: asyncio.Future[Any] = asyncio.ensure_future(page.connection.wait_closed())
            ends: list[asyncio.Future[Any]] = [done, closed]
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                closed.cancel()
            if not done.done():
                raise UploadFailed(f"the connection was lost before {name} was on the browser's disk")
            return done.result()
        finally:
            for each in remove:
                each()

    async def remove(self, path: str, *, delay: float = 0.0) -> None:
        """CDP has no way to remove a file."""

    async def close(self) -> None:
        """Do nothing: the page ends with the connection of `Control`."""

    async def _opened(self) -> CDPSession:
        async with self._opening:
            connection = await self._control.connection()
            if self._page is None or self._page.closed is not None or self._connection is not connection:
                root = connection.root
                reply = await root.send("Target.createBrowserContext", {"disposeOnDetach": True})
                self._context_id = str(reply["browserContextId"])
                self._control.hide(self._context_id)
                self._connection, self._page = connection, await self._new_page(connection)
            return self._page

    async def _writer(self) -> CDPSession:
        """Return a page that may save a file; it is replaced before Chromium would ask the user about its downloads."""
        await self._opened()
        connection = self._connection
        assert connection is not None
        old = self._saving
        if (
            old is None
            or old.closed is not None
            or old.connection is not connection
            or self._saved >= _MOST_SAVED
        ):
            self._saving = await self._new_page(connection)
            self._saved = 0
            if old is not None and old.closed is None:
                with suppress(CDPError):
                    await connection.root.send(Target.close_target(old.target_id))
        self._saved += 1
        assert self._saving is not None
        return self._saving

    async def _new_page(self, connection: Connection) -> CDPSession:
        page = await connection.new_tab(browser_context_id=self._context_id)
        self._control.hide(page.target_id)
        return page


async def _call(page: CDPSession, scope: str, function: str, argument: str) -> None:
    answer = await page.send(
        Runtime.call_function_on(
            function,
            object_id=scope,
            arguments=[Runtime.CallArgument(value=argument)],
            return_by_value=True,
            user_gesture=True,
        )
    )
    if answer.exception_details is not None:
        raise CDPError(f"a page of the tunnel's own failed: {answer.exception_details.text}")
