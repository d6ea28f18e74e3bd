"""`Sweep`: removes from object storage what no row names any more."""

from __future__ import annotations

import asyncio
import logging

from cdpbridge.server.profiles import Archives, writer_of
from cdpbridge.server.store import Store

__all__ = ["Sweep"]

logger = logging.getLogger("cdpbridge.server")


class Sweep:
    """Former versions of profiles, and those that came too late: some time after they stopped to count, or never did.

    Several servers may sweep one storage.
    """

    def __init__(self, store: Store, archives: Archives) -> None:
        self._store = store
        self._archives = archives

    async def once(self) -> int:
        """Sweep once and return how many were removed.

        Raises:
            ObjectStorageError: From the storage.
            SQLAlchemyError: From the database.
        """
        # In this order: what a row names after the listing is not swept.
        found = await asyncio.to_thread(self._archives.older)
        if not found:
            return 0
        # A browser that is in the books has perhaps saved what its server has not been able to note yet.
        open_browsers = {browser.id for browser in await self._store.unfinished()}
        counted = await self._store.profile_archives()
        stale = [name for name in found if name not in counted and writer_of(name) not in open_browsers]
        await asyncio.to_thread(self._archives.discard, stale)
        if stale:
            logger.info("%d former versions of profiles were removed from the storage", len(stale))
        return len(stale)
