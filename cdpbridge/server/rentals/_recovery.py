"""`recover`: the first step of a start, after an unclean shutdown."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from cdpbridge._lifecycle import EndReason, State, used_until
from cdpbridge.server.hosts import BrowserHosts, Leftover
from cdpbridge.server.store import Browser, Store

__all__ = ["recover"]

logger = logging.getLogger("cdpbridge.server")


async def recover(store: Store, hosts: BrowserHosts, *, wall: Callable[[], datetime]) -> None:
    """Settle every browser that a killed server has left in the books, and save the profiles that were in use.

    Args:
        wall: Where dates come from.
    """
    browsers = await store.unfinished()
    left = [
        Leftover(
            browser.id,
            browser.profile_id,
            bool(browser.profile_writable)
            and browser.profile_id is not None
            and await store.profile_exists(browser.profile_id),
        )
        for browser in browsers
    ]
    for browser in browsers:
        await _settle(store, browser, now=wall())
    saved = await hosts.recover(left)
    for browser in browsers:
        state = saved.get(browser.id)
        if state is not None and browser.profile_id is not None:
            await store.profile_saved(browser.profile_id, state.cookie_domains, now=wall())
        await store.finish(browser.id, proxy_bytes=browser.proxy_bytes)
    if browsers:
        logger.warning(
            "%d browsers of a server that ended without stopping them were stopped and refunded",
            len(browsers),
        )


async def _settle(store: Store, browser: Browser, *, now: datetime) -> None:
    if browser.state == State.STARTING:
        await store.abandon(browser.id, EndReason.SERVER_LOST, now=now)
    elif browser.state == State.ACTIVE and browser.started_at is not None:
        used = used_until(
            started_at=browser.started_at,
            timeout_at=browser.timeout_at,
            last_seen_at=browser.last_seen_at or browser.started_at,
        )
        await store.settle(browser.id, EndReason.SERVER_LOST, used, now=now)
