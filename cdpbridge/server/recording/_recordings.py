"""`Recordings`: which browsers are recorded, and where the files of each are."""

from __future__ import annotations

import asyncio
import logging
import shutil
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from cdpbridge.server.files import FileStore, StoredFile
from cdpbridge.server.live import Live
from cdpbridge.server.store import Browser, RecordingState, Store

from ._folder import VIDEO, recover_folder, unfinished_in
from ._recorder import Recorder

if TYPE_CHECKING:
    from ._film import Film

__all__ = ["Recordings"]

logger = logging.getLogger("cdpbridge.server")

_END_SECONDS: Final = 10.0
_MEGABYTE: Final = 1_000_000


class Recordings:
    """The recordings of this server.

    Args:
        per_second: Pictures, at most.
        max_mb: Of one recording with its stills, in millions of bytes.

    Attributes:
        offered: PyAV is there; whether it works, `refusal` says.
    """

    def __init__(self, store: Store, live: Live, files: FileStore, *, per_second: float, max_mb: int) -> None:
        self.max_mb = max_mb
        self.offered = find_spec("av") is not None
        self._store = store
        self._live = live
        self._files = files
        self._per_second = per_second
        self._running: dict[UUID, tuple[Recorder, asyncio.Task[None]]] = {}
        self._film: type[Film] | None = None

    # --- before, and after a kill ---------------------------------------------------------------------------------

    async def refusal(self) -> str | None:
        """Return why this server cannot record; None when it can. Asked before `start`."""
        if self._film is None:
            try:
                self._film = await asyncio.to_thread(_load)
            except ImportError as error:
                return (
                    f"this server cannot record, as PyAV is missing ({error}); there: "
                    "pip install 'cdpbridge[recording]'"
                )
            except ValueError as error:
                return (
                    f"this server cannot record, as its PyAV has no VP8 encoder ({error}); there: "
                    "pip install --force-reinstall --only-binary av av"
                )
        return None

    async def recover(self) -> None:
        """Keep what a killed server has recorded here. Nothing is recorded yet.

        Another server may have taken its browsers over, and noted the end of their recordings.
        """
        here = await asyncio.to_thread(unfinished_in, self._files)
        for browser_id in {*here, *await self._store.unfinished_recordings()}:
            if not self._store.one_writer and not await asyncio.to_thread(self._folder(browser_id).is_dir):
                continue  # made by another server
            mend = None if await self.refusal() is not None else _mend
            found = await asyncio.to_thread(recover_folder, self._folder(browser_id), mend)
            state = RecordingState.SERVER_LOST if found else RecordingState.EMPTY
            await self._store.recording_ended(browser_id, state)

    # --- a recording ----------------------------------------------------------------------------------------------

    def start(self, browser_id: UUID) -> None:
        """Record a browser that has just started."""
        assert self._film is not None  # it was asked whether it can
        film = self._film(
            self._folder(browser_id), per_second=self._per_second, max_bytes=self.max_mb * _MEGABYTE
        )
        recorder = Recorder(
            browser_id, film, partial(self._live.watching, browser_id), per_second=self._per_second
        )
        task = asyncio.get_running_loop().create_task(self._run(browser_id, recorder))
        self._running[browser_id] = recorder, task

    async def _run(self, browser_id: UUID, recorder: Recorder) -> None:
        state = await recorder.run()
        try:
            await self._store.recording_ended(browser_id, state)
        except SQLAlchemyError:
            logger.exception("the end of the recording of browser %s could not be written", browser_id)

    async def finish(self, browser_id: UUID, *, keep: bool) -> None:
        """End the recording of a browser that is being stopped, if there is one; in bounded time.

        Args:
            keep: False removes it: its browser was never delivered to a client.
        """
        running = self._running.pop(browser_id, None)
        if running is None:
            return
        recorder, task = running
        recorder.end()
        _, late = await asyncio.wait({task}, timeout=_END_SECONDS)
        if late:
            logger.error("browser %s: its recording does not come to an end and is left", browser_id)
            task.cancel()
        if not keep:
            await asyncio.to_thread(_remove, self._folder(browser_id))

    # --- its files ------------------------------------------------------------------------------------------------

    def _folder(self, browser_id: UUID) -> Path:
        return self._files.recording(browser_id)

    def files(self, browser: Browser) -> tuple[StoredFile | None, list[StoredFile]]:
        """Return the video, once it is finished, and the stills so far, in the order of time."""
        if browser.recording is None:
            return None, []
        found = self._files.listing(self._folder(browser.id))
        video = next((file for file in found if file.name == VIDEO), None)
        return video, [file for file in found if file.name.endswith(".jpg")]


def _load() -> type[Film]:
    from ._film import Film  # noqa: PLC0415  # PyAV is large, and few servers have it
    from ._video import check_encoder  # noqa: PLC0415

    check_encoder()
    return Film


def _mend(source: Path, target: Path) -> None:
    from ._video import mend  # noqa: PLC0415  # as above

    mend(source, target)


def _remove(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)
    with suppress(OSError):  # there are other files of the browser
        folder.parent.rmdir()
