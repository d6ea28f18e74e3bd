"""`Recovery`: what servers have left that ended without stopping their browsers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from datetime import datetime
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from cdpbridge._lifecycle import EndReason, State, used_until
from cdpbridge.server.hosts import BrowserHosts, Leftover, SavedState
from cdpbridge.server.profiles import NO_VERSION, ProfileVersion
from cdpbridge.server.store import Browser, Server, Store

__all__ = ["FindUpload", "recover", "take_over"]

FindUpload = Callable[[UUID, UUID], Awaitable[SavedState | None]]
"""Takes a profile and a browser."""

logger = logging.getLogger("cdpbridge.server")

T = TypeVar("T")

_RETRY_SECONDS: Final = 1.0


async def recover(
    store: Store, hosts: BrowserHosts, formers: Collection[Server], *, wall: Callable[[], datetime]
) -> None:
    """At a start: settle every browser that `formers` have left in the books, and save the profiles that were in use here.

    Args:
        formers: Servers that have ended.
        wall: Where dates come from.
    """
    browsers: list[Browser] = []
    for former in (*formers, None):
        browsers += await _settled(store, former, wall=wall)
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
    for browser_id, state in (await hosts.recover(left)).items():
        profile_id = known[browser_id].profile_id
        if profile_id is None:
            continue
        base = versions[profile_id].number
        await _note_saved(store, browser_id, profile_id, state, base=base, now=wall())
    await _finish(store, browsers)
    for former in formers:
        if not store.one_writer:
            await store.lose_tasks(former.id, now=wall())
        await store.forget_server(former.id)


async def take_over(
    store: Store, former: Server, *, find_upload: FindUpload, wall: Callable[[], datetime]
) -> None:
    """Settle what another server has left, whose browsers have ended with it; its profiles stay where it saved them.

    May run on several servers at once: each settles what no other has in hand.

    Args:
        former: The server.
        find_upload: Returns what a browser has uploaded of its profile: its server may have ended before it noted that.
        wall: Where dates come from.
    """
    logger.warning("server %s (%s) gives no sign of life; its browsers are settled", former.id, former.name)
    browsers = await _settled(store, former, wall=wall)
    for browser in browsers:
        if browser.profile_writable:
            await _insist(partial(_note_upload, store, browser, find_upload, now=wall()))
    await _finish(store, browsers)
    lost = await store.lose_tasks(former.id, now=wall())
    if lost:
        logger.warning("%d tasks of server %s were ended", lost, former.id)
    await store.forget_server(former.id)


async def _settled(store: Store, former: Server | None, *, wall: Callable[[], datetime]) -> list[Browser]:
    """Take over and settle the browsers of a server; None for a version that knew one server only."""
    browsers: list[Browser] = []
    take = partial(store.take_over, former)
    # Once some are taken, an error may not leave them to this server without a look after them.
    while taken := await (_insist(take) if browsers else take()):
        for browser in taken:
            await _insist(partial(_settle, store, browser, now=wall()))
        browsers += taken
    if browsers:
        logger.warning(
            "%d browsers of a server that ended without stopping them were stopped and refunded",
            len(browsers),
        )
    return browsers


async def _note_upload(store: Store, browser: Browser, find_upload: FindUpload, *, now: datetime) -> None:
    if browser.profile_id is None:
        return
    base, _ = await store.profile_version(browser.profile_id)
    state = await find_upload(browser.profile_id, browser.id)
    if state is not None:
        await _note_saved(store, browser.id, browser.profile_id, state, base=base, now=now)


async def _note_saved(
    store: Store, browser_id: UUID, profile_id: UUID, state: SavedState, *, base: int, now: datetime
) -> None:
    noted = await store.profile_saved(
        profile_id,
        browser_id,
        base=base,
        version=state.version,
        archive=state.archive,
        cookie_domains=state.cookie_domains,
        now=now,
    )
    if not noted:
        logger.warning(
            "profile %s is not saved by browser %s: another browser has saved it, or it was deleted",
            profile_id,
            browser_id,
        )


async def _finish(store: Store, browsers: Collection[Browser]) -> None:
    for browser in browsers:
        finish = partial(store.finish, proxy_bytes=browser.proxy_bytes, generation=browser.generation)
        await _insist(partial(finish, browser.id))


async def _settle(store: Store, browser: Browser, *, now: datetime) -> None:
    if browser.state == State.STARTING:
        await store.abandon(browser.id, EndReason.SERVER_LOST, now=now, generation=browser.generation)
    elif browser.state == State.ACTIVE and browser.started_at is not None:
        used = used_until(
            started_at=browser.started_at,
            timeout_at=browser.timeout_at,
            last_seen_at=browser.last_seen_at or browser.started_at,
        )
        await store.settle(browser.id, EndReason.SERVER_LOST, used, now=now, generation=browser.generation)


async def _insist(step: Callable[[], Awaitable[T]]) -> T:
    """Do a step on browsers that are ours by now: no other server would, as long as this one lives."""
    attempts = 0
    while True:
        try:
            return await step()
        except SQLAlchemyError:
            if not attempts:
                logger.exception(
                    "a browser of a server that has ended could not be settled; it will be retried"
                )
            attempts += 1
            await asyncio.sleep(_RETRY_SECONDS)
