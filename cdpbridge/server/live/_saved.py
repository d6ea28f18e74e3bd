"""`SavedFiles`: what a browser has downloaded into its own folder, for those who have taken it over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

from cdpbridge.server.files import FileStore, StoredFile

__all__ = ["SavedFiles"]


class SavedFiles:
    """The finished downloads of every browser. What a client has sent to a folder of its own is not among them.

    Args:
        sign: Makes the address of a file, relative to the server's, from its path in the store.
        take: Brings what a browser has downloaded to the store.
        folder: Returns a browser's own folder, by the name that it knows; None where that is the store's.
    """

    def __init__(
        self,
        files: FileStore,
        sign: Callable[[str], str],
        *,
        take: Callable[[UUID], Awaitable[None]],
        folder: Callable[[UUID], Path | None],
    ) -> None:
        self._files = files
        self._sign = sign
        self._take, self._folder = take, folder

    async def listing(self, browser_id: UUID) -> list[StoredFile]:
        """Return the finished downloads of a browser, by name."""
        await self._take(browser_id)
        return await asyncio.to_thread(self._files.listing, self._files.downloads(browser_id))

    def keeps(self, browser_id: UUID, path: str) -> bool:
        """Return True if `path` is in the browser's own folder of downloads."""
        return Path(path).parent == (self._folder(browser_id) or self._files.downloads(browser_id))

    async def address(self, browser_id: UUID, name: str) -> str | None:
        """Return where a file can be had for some minutes; None when there is none of that name."""
        found = (file for file in await self.listing(browser_id) if file.name == name)
        return next((self._sign(file.path) for file in found), None)
