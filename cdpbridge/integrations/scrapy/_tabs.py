"""The browsers of a crawl: a pool, and workers that keep a tab while there is something to visit."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cdpbridge.errors import CommandTimeout, LeaseTimeout, PoolClosed
from cdpbridge.integrations.scrapy._page import RenderedPage
from cdpbridge.integrations.scrapy._visit import Rendered, Visit
from cdpbridge.pool import BrowserPool

if TYPE_CHECKING:
    from cdpbridge.integrations.scrapy._settings import CrawlSettings
    from cdpbridge.pool import Lease

__all__ = ["CrawlTabs"]

logger = logging.getLogger("cdpbridge")

_IDLE_SECONDS: Final = 2.0
"""How long a tab waits for the next visit: pages come in bursts, and a browser without tabs can be stopped."""
_REPEATS: Final = 2


class _Job:
    def __init__(self, visit: Visit, timeout: timedelta, done: asyncio.Future[Rendered]) -> None:
        self.visit = visit
        self.timeout = timeout
        self.done = done
        self.repeats = 0


class CrawlTabs:
    """Tabs of a few rented browsers for the visits of one crawl.

    Browsers are rented with the first visit. A tab is kept for visit after visit, because a new one takes longer than most
    pages; it goes when it failed, after so many visits, when nothing is to be done, or when its browser's time ends.

    Attributes:
        pool: None before the first visit.
    """

    def __init__(self, settings: CrawlSettings) -> None:
        self.pool: BrowserPool | None = None
        self._settings = settings
        self._jobs: deque[_Job] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._holder: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[BrowserPool] | None = None
        self._end = asyncio.Event()

    async def render(self, visit: Visit, *, timeout: timedelta) -> Rendered:
        """Return the result of the visit; repeat it in another browser when its own was lost, if it may be repeated.

        Args:
            timeout: Counted from when there is a tab.

        Raises:
            CommandTimeout: It took longer; the message says what it was at.
            LeaseTimeout: There was no tab in time.
            PoolClosed: The crawl is at its end.
            Exception: What `RenderedPage.render` and `BrowserPool.lease` raise.
        """
        if self._end.is_set():
            raise PoolClosed("the crawl's browsers are stopped")
        job = _Job(visit, timeout, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._wake_or_start_worker()
        limit = self._settings.tab_timeout
        timer = (
            None if limit is None else job.done.get_loop().call_later(limit.total_seconds(), self._late, job)
        )
        try:
            return await job.done
        finally:
            if timer is not None:
                timer.cancel()
            if job in self._jobs:  # cancelled before its turn
                self._jobs.remove(job)

    def _late(self, job: _Job) -> None:
        if job in self._jobs and not job.done.done():
            settings = self._settings
            job.done.set_exception(
                LeaseTimeout(
                    f"no tab within CDPBRIDGE_TAB_TIMEOUT: {len(self._jobs)} requests wait for one of {settings.browsers} * "
                    f"{settings.tabs_per_browser} tabs",
                    waiting=True,
                )
            )

    async def close(self) -> None:
        """Cancel the visits and stop every browser. Calling it again does nothing.

        Raises:
            StopFailed: A stop could not be confirmed.
        """
        self._end.set()
        if self._holder is not None:
            await asyncio.shield(self._holder)

    # --- the pool -------------------------------------------------------------------------------------------------

    async def _pool(self) -> BrowserPool:
        if self._opened is None:
            self._opened = asyncio.get_running_loop().create_future()
            self._holder = asyncio.create_task(self._hold(self._opened))
        return await asyncio.shield(self._opened)

    async def _hold(self, opened: asyncio.Future[BrowserPool]) -> None:
        """Hold the pool's block open in a task of its own: Scrapy begins and ends a crawl in different ones."""
        settings = self._settings
        try:
            async with BrowserPool(
                settings.provider,
                size=settings.browsers,
                tabs_per_browser=settings.tabs_per_browser,
                wait_timeout=settings.tab_timeout,
                **settings.rental,
            ) as self.pool:
                opened.set_result(self.pool)
                try:
                    await self._end.wait()
                finally:
                    await self._dismiss()
        except Exception as error:
            if opened.done():
                raise
            self._opened = None  # a request that is repeated tries again
            opened.set_exception(error)  # who waits raises it

    async def _dismiss(self) -> None:
        """End the workers, and what waits for them."""
        workers = list(self._workers)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        while (job := self._take()) is not None:
            job.done.set_exception(PoolClosed("the crawl ended before the page had a tab"))

    # --- workers --------------------------------------------------------------------------------------------------

    def _wake_or_start_worker(self) -> None:
        """Wake an idle worker for the newest job, or start another one."""
        while self._idle:
            waiter = self._idle.pop()  # the one used last: its page is warm, and the others may go
            if not waiter.done():
                waiter.set_result(None)
                return
        if len(self._workers) < self._settings.browsers * self._settings.tabs_per_browser:
            worker = asyncio.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._left)

    def _left(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        if self._jobs and not self._end.is_set():
            self._wake_or_start_worker()

    def _take(self) -> _Job | None:
        while self._jobs:
            job = self._jobs.popleft()
            if not job.done.done():
                return job
        return None

    async def _next(self, lease: Lease) -> _Job | None:
        """Return the next job for a tab, None when the tab shall close."""
        job = self._take()
        if job is None:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(waiter)
            await asyncio.wait([waiter], timeout=_IDLE_SECONDS)
            if not waiter.done():
                self._idle.remove(waiter)
            job = self._take()
        if job is not None and (job.visit.options.isolated or not _lasts(lease, job.timeout)):
            self._jobs.appendleft(job)
            return None
        return job

    async def _work(self) -> None:
        while (job := self._take()) is not None:
            lease: Lease | None = None
            try:
                pool = await self._pool()
                async with pool.lease() as lease:
                    page = RenderedPage(lease.tab, shared=lease.context_id is None)
                    insecure = self._settings.ignore_certificate_errors
                    await page.prepare(lease.context_id, ignore_certificate_errors=insecure)
                    while job is not None:
                        rendered = await _within(page, job)
                        if not job.done.done():
                            job.done.set_result(rendered)
                        alone, job = job.visit.options.isolated, None
                        if alone or page.spent or page.visits >= self._settings.pages_per_tab:
                            break
                        job = await self._next(lease)
            except asyncio.CancelledError:
                if job is not None and not job.done.done():
                    job.done.set_exception(PoolClosed("the crawl ended while the page was rendered"))
                raise
            except Exception as error:  # noqa: BLE001  # raised in the waiting request
                if job is None:  # the tab went while nothing was asked of it
                    logger.debug("a tab that was kept is lost: %s", error)
                elif lease is not None and lease.lost and job.visit.repeatable and job.repeats < _REPEATS:
                    logger.info(
                        "browser %s was lost (%s); %s is repeated", lease.browser.id, error, job.visit.url
                    )
                    job.repeats += 1
                    self._jobs.appendleft(job)
                elif not job.done.done():
                    job.done.set_exception(error)


async def _within(page: RenderedPage, job: _Job) -> Rendered:
    try:
        async with asyncio.timeout(job.timeout.total_seconds()) as deadline:
            return await page.render(job.visit)
    except TimeoutError:
        if not deadline.expired():
            raise
        raise CommandTimeout(page.stage, target=job.visit.url, waited=job.timeout) from None


def _lasts(lease: Lease, need: timedelta) -> bool:
    """Return True if the browser's paid time is long enough for one more visit."""
    return datetime.now(UTC) + need < lease.browser.timeout_at
