"""`Views`: the parts that show browsers and record them, imported and made on first use: most servers never need them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING
from uuid import UUID

from cdpbridge.server.recording import unfinished_in

if TYPE_CHECKING:
    from cdpbridge.server._tokens import BrowserTokens
    from cdpbridge.server.files import FileStore
    from cdpbridge.server.hosts import BrowserHosts
    from cdpbridge.server.limits import Border
    from cdpbridge.server.live import Live, Outcome
    from cdpbridge.server.recording import Recordings
    from cdpbridge.server.settings import Settings
    from cdpbridge.server.store import Store
    from cdpbridge.server.tasks._agent_sessions import Shares

__all__ = ["Views"]


class Views:
    """The live view, public shares and recordings of one server; for rentals, what records their browsers.

    Args:
        tokens: Of live addresses.
        sign: Makes the address of a file, relative to the server's, from its path in the store.
        check_runs_nowhere: Refuses a browser that runs where this server does not reach it.
        wall: Where dates come from.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        hosts: BrowserHosts,
        files: FileStore,
        border: Border,
        *,
        tokens: BrowserTokens,
        sign: Callable[[str], str],
        check_runs_nowhere: Callable[[UUID], Awaitable[None]],
        wall: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._store = store
        self._hosts = hosts
        self._files = files
        self._border = border
        self._tokens = tokens
        self._sign = sign
        self._check_runs_nowhere = check_runs_nowhere
        self._wall = wall

    @cached_property
    def live(self) -> Live:
        from cdpbridge.server.live import Live, SavedFiles  # noqa: PLC0415  # on first use
        from cdpbridge.server.tasks._session_record import SessionRecord  # noqa: PLC0415  # as above

        return Live(
            self._hosts.connection,
            partial(_outcome, self._store),
            self._tokens,
            view_share=self._view_share,
            check_runs_nowhere=self._check_runs_nowhere,
            saved=SavedFiles(
                self._files,
                self._sign,
                take=self._hosts.take_downloads,
                folder=self._hosts.downloads_folder,
            ),
            record=SessionRecord(self._store, self._files, self._sign).messages,
            border=self._border,
        )

    @cached_property
    def shares(self) -> Shares:
        from cdpbridge.server.tasks._agent_sessions import Shares  # noqa: PLC0415  # on first use

        return Shares(self._store, cut=self.live.cut_share, wall=self._wall)

    @cached_property
    def recordings(self) -> Recordings:
        from cdpbridge.server.recording import Recordings  # noqa: PLC0415  # on first use

        return Recordings(
            self._store,
            self.live,
            self._files,
            per_second=self._settings.recording_frames_per_second,
            max_mb=self._settings.recording_max_mb,
        )

    async def recover(self) -> None:
        """Keep what a killed server has recorded. Nothing is recorded yet."""
        if await self._store.unfinished_recordings() or await asyncio.to_thread(unfinished_in, self._files):
            await self.recordings.recover()

    def start(self, browser_id: UUID) -> None:
        """Record a browser that has just started."""
        self.recordings.start(browser_id)

    async def finish(self, browser_id: UUID, *, keep: bool) -> None:
        """End the recording of a browser that is being stopped, if there is one; see `Recordings.finish`."""
        if "recordings" in vars(self):
            await self.recordings.finish(browser_id, keep=keep)

    async def _view_share(self, token: str) -> UUID | None:
        return await self._store.view_share(token, now=self._wall())


async def _outcome(store: Store, browser_id: UUID) -> Outcome | None:
    from cdpbridge.server.live import Outcome  # noqa: PLC0415  # its caller has loaded it

    browser = await store.rental(browser_id)
    if browser is None or not browser.over:
        return None
    used = None
    if browser.started_at is not None and browser.finished_at is not None:
        used = browser.finished_at - browser.started_at
    return Outcome(browser.reason, used, browser.refunded)
