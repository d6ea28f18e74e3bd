"""`Recovery`: what servers have left that ended without stopping their browsers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from cdpbridge._lifecycle import EndReason, State, used_until
from cdpbridge.server.hosts import BrowserHosts, Leftover, SavedState
from cdpbridge.server.objects import ObjectStorageError
from cdpbridge.server.profiles import NO_VERSION, ProfileVersion
from cdpbridge.server.store import Browser, RecordingState, Server, Store

__all__ = ["Adopt", "FindUpload", "Recovery"]

FindUpload = Callable[[UUID, UUID], Awaitable[SavedState | None]]
"""Takes a profile and a browser. It raises `ObjectStorageError` or `OSError` when it cannot be known now."""
Adopt = Callable[[Browser, timedelta], Awaitable[bool]]
"""Takes a browser that is this server's now and the uptime of that, and goes on with it or with its end.

False, and nothing is done, for one that has ended with its server. It raises nothing.
"""

logger = logging.getLogger("cdpbridge.server")

T = TypeVar("T")

_RETRY_SECONDS: Final = 1.0
_MOST_RETRY_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Recovery:
    """Takes over from servers that have ended: what runs on, goes on; what ended with them is settled.

    May be at work on several servers at once: each does what no other has in hand.

    Attributes:
        store: Open.
        find_upload: Returns what a browser has uploaded of its profile: its server may have ended before it noted that.
        adopt: Goes on with a browser that runs on a worker.
        uptime: Returns how long this server has been one of the database's.
        workers: This server reaches workers.
        wall: Where dates come from.
    """

    store: Store
    find_upload: FindUpload
    adopt: Adopt
    uptime: Callable[[], timedelta]
    wall: Callable[[], datetime]
    workers: bool = False

    async def at_start(self, hosts: BrowserHosts, formers: Collection[Server]) -> Sequence[Browser]:
        """Settle what `formers` have left in the books, save the profiles that were in use here, and go on with what runs.

        Args:
            hosts: Where browsers run.
            formers: Servers that have ended.

        Returns:
            What is still to be finished, by `finish`: it could not be found out what these browsers have uploaded.
        """
        store = self.store
        browsers: list[Browser] = []
        for former in (*formers, None):
            browsers += await self._settled(former)
        # Another server may have settled what still lies here.
        known = {browser.id: browser for browser in await store.browsers_with(hosts.remains())}
        known |= {browser.id: browser for browser in browsers}
        versions = {
            profile_id: ProfileVersion(*await store.profile_version(profile_id))
            for profile_id in {each.profile_id for each in known.values() if each.profile_id is not None}
        }
        left = [
            Leftover(
                browser.id,
                browser.profile_id,
                bool(browser.profile_writable)
                and browser.profile_id is not None
                and await store.profile_exists(browser.profile_id),
                NO_VERSION if browser.profile_id is None else versions[browser.profile_id],
                browser.place_id,
            )
            for browser in known.values()
        ]
        saved = await hosts.recover(left)
        for browser_id, state in saved.items():
            profile_id = known[browser_id].profile_id
            if profile_id is not None:
                await self._note_saved(browser_id, profile_id, state, base=versions[profile_id].number)
        later = []
        for browser in browsers:
            try:
                if browser.id not in saved:
                    await self._note_upload(browser)
            except (ObjectStorageError, OSError) as error:
                logger.warning("what browser %s has saved is not known yet: %s", browser.id, error)
                later.append(browser)
            else:
                await self._finish(browser)
        for former in formers:
            if not store.one_writer:
                await store.lose_tasks(former.id, now=self.wall())
            await store.forget_server(former.id)
        return later

    async def take_over(self, former: Server) -> None:
        """Settle what another server has left and what has ended with it; its profiles stay where it saved them.

        Args:
            former: The server.
        """
        browsers = await self._settled(former)
        lost = await _insist(partial(self.store.lose_tasks, former.id, now=self.wall()))
        if lost:
            logger.warning("%d tasks of server %s were ended", lost, former.id)
        await _insist(partial(self.store.forget_server, former.id))
        await self.finish(browsers)

    async def finish(self, browsers: Collection[Browser]) -> None:
        """Close the records of settled browsers, each with what it has uploaded; retried until that is known.

        While the storage is away, those wait whose profile it may have: until then no other browser saves it.
        """
        await asyncio.gather(*(self._finish_one(browser) for browser in browsers))

    async def _finish_one(self, browser: Browser) -> None:
        await _insist(partial(self._note_upload, browser))
        await self._finish(browser)

    async def _settled(self, former: Server | None) -> list[Browser]:
        """Take over the browsers of a server, and settle and return those that have ended; None for a version that knew one server."""
        browsers: list[Browser] = []
        some = False
        # Once some are taken, an error may not leave them to this server without a look after them.
        while taken := await (_insist(partial(self._take, former)) if some else self._take(former)):
            if not some and former is not None:
                how = (
                    "hands browsers over"
                    if former.leaving
                    else "gives no sign of life, and is taken over from"
                )
                logger.warning("server %s (%s) %s", former.id, former.name, how)
            some = True
            going_on = await asyncio.gather(*(self.adopt(browser, self.uptime()) for browser in taken))
            ended = [browser for browser, goes_on in zip(taken, going_on, strict=True) if not goes_on]
            for browser in ended:
                await _insist(partial(self._settle, browser))
            for browser in taken:
                # Its pictures are where that server has put them; this one has none of what came before.
                await _insist(partial(self._end_recording, browser))
            browsers += ended
        if browsers:
            logger.warning(
                "%d browsers of a server that ended without stopping them were stopped and refunded",
                len(browsers),
            )
        return browsers

    async def _take(self, former: Server | None) -> Sequence[Browser]:
        return await self.store.take_over(former, uptime=self.uptime(), workers=self.workers)

    async def _end_recording(self, browser: Browser) -> None:
        if browser.recording == RecordingState.RUNNING:
            await self.store.recording_ended(browser.id, RecordingState.SERVER_LOST)

    async def _note_upload(self, browser: Browser) -> None:
        if browser.profile_id is None or not browser.profile_writable:
            return
        if not await self.store.profile_exists(browser.profile_id):
            return
        base, _ = await self.store.profile_version(browser.profile_id)
        state = await self.find_upload(browser.profile_id, browser.id)
        if state is not None:
            await self._note_saved(browser.id, browser.profile_id, state, base=base)

    async def _note_saved(self, browser_id: UUID, profile_id: UUID, state: SavedState, *, base: int) -> None:
        noted = await self.store.profile_saved(
            profile_id,
            browser_id,
            base=base,
            version=state.version,
            archive=state.archive,
            cookie_domains=state.cookie_domains,
            now=self.wall(),
        )
        if not noted:
            logger.warning(
                "profile %s is not saved by browser %s: another browser has saved it, or it was deleted",
                profile_id,
                browser_id,
            )

    async def _finish(self, browser: Browser) -> None:
        finish = partial(self.store.finish, proxy_bytes=browser.proxy_bytes, generation=browser.generation)
        await _insist(partial(finish, browser.id))

    async def _settle(self, browser: Browser) -> None:
        generation, now = browser.generation, self.wall()
        if browser.state == State.STARTING:
            await self.store.abandon(browser.id, EndReason.SERVER_LOST, now=now, generation=generation)
        elif browser.state == State.ACTIVE and browser.started_at is not None:
            used = used_until(
                started_at=browser.started_at,
                timeout_at=browser.timeout_at,
                last_seen_at=browser.last_seen_at or browser.started_at,
            )
            await self.store.settle(browser.id, EndReason.SERVER_LOST, used, now=now, generation=generation)


async def _insist(step: Callable[[], Awaitable[T]]) -> T:
    """Do a step on browsers that are ours by now: no other server would, as long as this one lives."""
    pause = _RETRY_SECONDS
    while True:
        try:
            return await step()
        except (SQLAlchemyError, ObjectStorageError, OSError):
            if pause == _RETRY_SECONDS:
                logger.exception(
                    "a browser of a server that has ended could not be settled; it will be retried"
                )
            await asyncio.sleep(pause)
            pause = min(pause * 2, _MOST_RETRY_SECONDS)
