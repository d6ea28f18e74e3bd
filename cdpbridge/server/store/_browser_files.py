"""What is known of the files of browsers: what object storage has of them, and what became of recordings."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select, update

from ._database import Database
from ._models import Browser
from ._recording_states import RecordingState

__all__ = ["BrowserFiles"]


class BrowserFiles(Database):
    """Queries and transactions of browsers' files."""

    async def files_kept(self, browser_id: UUID, size: int, *, video: bool) -> None:
        """Note what object storage has of a browser's files.

        Args:
            browser_id: Whose.
            size: Bytes of all.
            video: The recording's video is among them.
        """
        async with self._write() as session:
            values = {"kept_bytes": size, "kept_video": video}
            await session.execute(update(Browser).where(Browser.id == browser_id).values(values))

    async def kept_bytes(self, project_id: UUID) -> int:
        """Return the bytes that object storage has of the files of a project's browsers."""
        async with self._read() as session:
            rows = select(func.coalesce(func.sum(Browser.kept_bytes), 0)).where(
                Browser.project_id == project_id
            )
            return int(await session.scalar(rows) or 0)

    async def unfinished_recordings(self) -> Sequence[UUID]:
        """Browsers whose recordings have not ended: at start-up, those of a server that was killed."""
        async with self._read() as session:
            rows = select(Browser.id).where(Browser.recording == RecordingState.RUNNING)
            return (await session.scalars(rows)).all()

    async def recording_ended(self, browser_id: UUID, state: RecordingState) -> None:
        """Note what became of a recording."""
        async with self._write() as session:
            where = (Browser.id == browser_id, Browser.recording == RecordingState.RUNNING)
            await session.execute(update(Browser).where(*where).values(recording=state))
