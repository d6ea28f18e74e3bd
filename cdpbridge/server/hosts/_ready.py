"""`ReadyBrowsers`: browsers that run before anyone has ordered them, and wait.

    starting --> waiting --> taken by an order, which gives it its id, rules and address
                        `--> ended: it exited, grew old, or memory is short

One is started for each that is missing, whenever a turn to start is free and no order waits for one; after one was taken a
moment later, so that its successor's start takes no processor time from its first commands. An order that finds none waiting
takes the next one that is starting: it will be there before a start that begins now.

`start_ahead` starts one for an order that is about to come, also where none is kept. It is not replaced, and ends when no order
has come.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final
from uuid import UUID

from cdpbridge._concurrency import TaskSet, to_the_end
from cdpbridge.errors import CDPBridgeError

from ._base import CloseFrame, Limit
from ._browser import LocalBrowser

__all__ = ["ReadyBrowsers"]

logger = logging.getLogger("cdpbridge.server")

# Chromium grows while it waits, and its binary may be replaced by a newer one.
_AGE_SECONDS: Final = 600.0
_LOOK_SECONDS: Final = 5.0
# A program that has started a server and wants a browser says so within milliseconds; one that wants none pays for it no longer.
_AHEAD_SECONDS: Final = 10.0
# After a start that failed; twice as long after each further one.
_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 60.0
# A short rental takes about as long, from the answer to the order until its end.
_HEAD_START_SECONDS: Final = 0.2
# No client was ever connected to one.
_UNSEEN: Final = CloseFrame(1001, "not needed")


class ReadyBrowsers:
    """Keeps so many browsers ready, from `open` to `close`.

    Args:
        number: How many.
        start: Starts one; called when `may_start`. Raises CDPBridgeError or OSError, and leaves nothing then.
        may_start: Returns True if a turn is free and no order waits for it; `look` says that it may have become so.
        strain: Returns why the machine should start no browser, as `Pressure.reason`; None when it may.
        age_seconds: After which one is replaced.
    """

    def __init__(
        self,
        number: int,
        start: Callable[[], Awaitable[LocalBrowser]],
        *,
        may_start: Callable[[], bool],
        strain: Callable[[], str | None],
        age_seconds: float = _AGE_SECONDS,
    ) -> None:
        self._number = number
        self._start = start
        self._may_start = may_start
        self._strain = strain
        self._age_seconds = age_seconds
        # The oldest first, with the time at which each grows old.
        self._waiting: deque[tuple[LocalBrowser, float]] = deque()
        self._starting = 0
        self._opened = self._closed = False
        self._claims: deque[asyncio.Future[LocalBrowser | None]] = deque()
        self._starts = TaskSet(logger)
        self._ends = TaskSet(logger)
        self._keeper = TaskSet(logger)
        self._news = asyncio.Event()
        self._pause = 0.0
        self._not_before = 0.0

    @property
    def waiting(self) -> int:
        """The number of those that can be taken."""
        return len(self._waiting)

    def start_ahead(self) -> None:
        """Start one for an order that is about to come, unless one is there, or the machine should start none now."""
        if self._closed or self._waiting_or_starting > len(self._claims):
            return
        if self._may_start() and self._strain() is None:
            self._begin()
            if self._opened:
                self._look_after()

    def open(self) -> None:
        """Begin to keep them; the first one starts at once."""
        self._opened = True
        if self._number or self._waiting_or_starting:
            self._look_after()

    def _look_after(self) -> None:
        if not self._keeper:
            self._keeper.start(self._keep(), "the care for browsers that are kept ready")

    async def close(self) -> None:
        """End them. None starts any more, and none can be taken."""
        self._closed = True
        await self._keeper.cancel()
        await self._starts.cancel()
        await self.release()
        await self._ends.wait()

    def look(self) -> None:
        """See whether one may start now."""
        self._news.set()

    async def take(self) -> LocalBrowser | None:
        """Take one away, perhaps one that still starts; None when there is none. It belongs to the caller."""
        if self._waiting:
            browser, _ = self._waiting.popleft()
            self._give_head_start()
            return browser
        if self._starting <= len(self._claims):
            return None
        claim: asyncio.Future[LocalBrowser | None] = asyncio.get_running_loop().create_future()
        self._claims.append(claim)
        try:
            return await claim
        except asyncio.CancelledError:
            if claim in self._claims:
                self._claims.remove(claim)
            elif not claim.cancelled() and (given := claim.result()) is not None:
                self._keep_waiting(given)
            raise

    async def release(self) -> bool:
        """End those that wait, and return when they have ended; True if there were some."""
        ending = [browser for browser, _ in self._waiting]
        self._waiting.clear()
        await to_the_end(asyncio.gather(*(self._end(browser) for browser in ending)))
        return bool(ending)

    def put_away(self, browser: LocalBrowser) -> None:
        """End one that was taken, in the background: it was not what it should be."""
        self._ends.start(self._end(browser), f"the end of the ready browser {browser.id}")

    def lost(self, browser_id: UUID, _limit: Limit | None = None) -> None:
        """Free what one has that exited by itself, or uses too much. One that was taken is the taker's."""
        for each in self._waiting:
            if each[0].id == browser_id:
                self._waiting.remove(each)
                self._replace(each[0])
                break

    def _replace(self, browser: LocalBrowser) -> None:
        logger.warning(
            "browser %s, kept ready, has ended by itself%s",
            browser.id,
            " and is replaced" if self._number else "",
        )
        self.put_away(browser)
        self._wait_longer()
        self.look()

    async def _end(self, browser: LocalBrowser) -> None:
        try:
            await browser.discard(_UNSEEN)
        except Exception:  # the others are ended all the same, and the order that needs memory goes on
            logger.exception("the browser %s, kept ready, was not stopped cleanly", browser.id)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._news.clear()
            self._replace_old(loop.time())
            await self._adapt(loop.time())
            pause = self._not_before - loop.time()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause if 0 < pause < _LOOK_SECONDS else _LOOK_SECONDS):
                    await self._news.wait()

    @property
    def _waiting_or_starting(self) -> int:
        return len(self._waiting) + self._starting

    def _replace_old(self, now: float) -> None:
        while self._waiting and self._waiting[0][1] <= now:
            browser, _ = self._waiting.popleft()
            self.put_away(browser)

    async def _adapt(self, now: float) -> None:
        strain = self._strain()
        if strain == "memory" and await self.release():
            logger.warning("memory is short: the browsers that were kept ready were ended")
        if strain is not None or now < self._not_before:
            return
        while self._waiting_or_starting < self._number and self._may_start():
            self._begin()
            # It takes its turn.
            await asyncio.sleep(0)

    def _begin(self) -> None:
        self._starting += 1
        self._starts.start(self._start_one(), "the start of a browser to be kept ready")

    async def _start_one(self) -> None:
        browser: LocalBrowser | None = None
        try:
            browser = await self._start()
            if not self._deliver(browser):
                await browser.begin_waiting()
                self._keep_waiting(browser)
        except (CDPBridgeError, OSError) as error:
            (logger.debug if self._pause else logger.warning)("no browser can be kept ready now: %s", error)
            self._wait_longer()
        else:
            self._pause = 0.0
        finally:
            self._starting -= 1
            while len(self._claims) > self._starting:  # no start is left for these
                self._deliver(None)
            self.look()

    def _deliver(self, browser: LocalBrowser | None) -> bool:
        """Answer the oldest claim that still waits; False if there is none."""
        while self._claims:
            claim = self._claims.popleft()
            if not claim.done():
                claim.set_result(browser)
                return True
        return False

    def _keep_waiting(self, browser: LocalBrowser) -> None:
        if not browser.running:
            self._replace(browser)
            return
        browser.waited = True
        if not self._deliver(browser):
            age_seconds = self._age_seconds if self._number else _AHEAD_SECONDS
            self._waiting.append((browser, asyncio.get_running_loop().time() + age_seconds))

    def _give_head_start(self) -> None:
        now = asyncio.get_running_loop().time()
        # Not put off again by each of many orders: they would find none in the end.
        if self._not_before <= now:
            self._not_before = now + _HEAD_START_SECONDS
        self.look()

    def _wait_longer(self) -> None:
        self._pause = min(max(_FIRST_PAUSE_SECONDS, self._pause * 2), _LONGEST_PAUSE_SECONDS)
        self._not_before = asyncio.get_running_loop().time() + self._pause
