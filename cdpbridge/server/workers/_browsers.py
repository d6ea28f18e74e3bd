"""`WorkerBrowsers`: what a worker runs, for which generation, until when; and the reports of what has ended.

Servers decide. What a worker decides by itself: it refuses more browsers than it has slots, obeys no generation but the newest
one, ends what is past its lifetime, and ends everything when no server has reached it for a while. Time is that since the
machine's start, suspensions included: no clock of another machine is compared with it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from cdpbridge._concurrency import TaskSet
from cdpbridge.server.gateway import Entry, LocalFiles, Registry
from cdpbridge.server.hosts import BrowserHosts, BrowserSpec, CloseFrame, Limit, StopReport, UnfinishedStop
from cdpbridge.server.profiles import NO_VERSION, ProfileVersion

from ._protocol import (
    Adopt,
    Event,
    Figures,
    Kept,
    LimitHosts,
    Running,
    Started,
    Stop,
    Superseded,
    WorkerFull,
)

__all__ = ["WorkerBrowsers", "WorkerLimits", "since_boot"]

logger = logging.getLogger("cdpbridge.worker")

# The server ends a browser at its time; the worker only where that did not come.
_GRACE_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.5
_MOST_REPORTS: Final = 10_000
_PAST_ITS_TIME: Final = CloseFrame(1001, "session expired")
_ALONE: Final = CloseFrame(1001, "the worker has lost its servers")
_CLOSING: Final = CloseFrame(1001, "worker stopping")


def since_boot() -> float:
    """Return the seconds since the machine's start, with those of its suspensions where the system tells."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """Limits of a worker.

    Attributes:
        alone: After this time without any server, it ends all browsers.
        reports: How long a report waits to be taken.
        grace: How long a browser may run past its lifetime.
    """

    alone: timedelta = timedelta(seconds=30)
    reports: timedelta = timedelta(hours=1)
    grace: timedelta = timedelta(seconds=_GRACE_SECONDS)


@dataclass(slots=True, eq=False)
class _Browser:
    generation: int
    ends_at: float | None = None
    starting: asyncio.Task[Any] | None = None
    started: Started | None = None
    token: str = ""
    ending: asyncio.Task[StopReport | None] | None = None
    exited: bool = False
    limit: Limit | None = None


@dataclass(frozen=True, slots=True)
class _Report:
    generation: int
    report: StopReport
    at: float


class WorkerBrowsers:
    """The browsers of a worker.

    Args:
        hosts: Run them.
        registry: The table of addresses of `hosts`.
        readable: What isolated browsers may read of this machine.
        uploads_of: Where a browser finds what is uploaded for it.
        slots: How many run at once, those that start or end included.
        limits: Of time.
        forget: Removes what is kept of a browser whose report was taken.
        clock: See `since_boot`.
    """

    def __init__(
        self,
        hosts: BrowserHosts,
        registry: Registry,
        slots: int,
        *,
        readable: tuple[Path, ...],
        uploads_of: Callable[[UUID], Path],
        limits: WorkerLimits,
        forget: Callable[[UUID, StopReport], Awaitable[None]],
        clock: Callable[[], float] = since_boot,
    ) -> None:
        self.slots = slots
        self._hosts = hosts
        self._registry = registry
        self._readable = readable
        self._uploads_of = uploads_of
        self._limits = limits
        self._forget = forget
        self._listeners: set[Callable[[Event], object]] = set()
        self._clock = clock
        self._browsers: dict[UUID, _Browser] = {}
        self._reports: dict[UUID, _Report] = {}
        self._contact_at = clock()
        self._work = TaskSet(logger)
        self._draining = False

    @contextmanager
    def telling(self, listener: Callable[[Event], object]) -> Iterator[None]:
        """Call `listener` with each event, in a block."""
        self._listeners.add(listener)
        try:
            yield
        finally:
            self._listeners.discard(listener)

    def _tell(self, event: Event) -> None:
        for listener in tuple(self._listeners):
            listener(event)

    # --- what servers ask ------------------------------------------------------------------------------------------

    def touched(self) -> None:
        """Note that a server has reached this worker."""
        self._contact_at = self._clock()

    async def start(self, spec: BrowserSpec, base: ProfileVersion = NO_VERSION) -> Started:
        """Run a browser. Cancelled or failed, it leaves nothing behind.

        Args:
            spec: What to run.
            base: See `Started`.

        Raises:
            WorkerFull: Every slot is taken.
            BrowserStartFailed: From the host.
            Superseded: It runs already, or has run.
        """
        if self._draining:
            raise WorkerFull("the worker is stopping")
        if spec.id in self._browsers or spec.id in self._reports:
            raise Superseded("this browser was started before")
        if len(self._browsers) >= self.slots:
            raise WorkerFull(f"all {self.slots} slots of the worker are taken")
        spec = replace(spec, readable=self._readable)
        browser = self._browsers[spec.id] = _Browser(spec.generation, starting=asyncio.current_task())
        try:
            placement = await self._hosts.start(spec, on_exit=self._exited, on_limit=self._over_limit)
        except BaseException:
            del self._browsers[spec.id]
            raise
        entry = self._registry.find(placement.token)
        if entry is None:  # it has ended meanwhile
            await self._end(spec.id, browser, _CLOSING, save=False)
            raise Superseded("the browser was stopped while it was starting")
        kept = entry.files.paths.kept if isinstance(entry.files, LocalFiles) else None
        browser.ends_at = self._deadline(spec)
        browser.token = placement.token
        browser.started = Started(
            browser.generation,
            placement.place_id,
            placement.profile_writable,
            entry.upstream.host,
            entry.upstream.port,
            entry.upstream.browser_path,
            has_extension=entry.context_order is not None,
            kept=None if kept is None else str(kept),
            given=str(self._uploads_of(spec.id)),
            profile_id=spec.profile_id,
            sent=spec.profile_version,
            base=base,
        )
        return browser.started

    def adopt(self, order: Adopt) -> Started | None:
        """Obey a generation from now on; return the browser, None when it does not run.

        Raises:
            Superseded: A newer generation was here before.
        """
        browser = self._browsers.get(order.browser)
        if browser is None:
            return None
        self._check(browser.generation, order.generation)
        browser.generation = order.generation
        if browser.started is not None:
            browser.started = replace(browser.started, generation=order.generation)
        return self.started(order.browser)

    def started(self, browser_id: UUID) -> Started | None:
        """Return a browser that runs, whichever server has it; None when there is none, or it starts or ends."""
        browser = self._browsers.get(browser_id)
        if browser is None or browser.ending is not None or browser.exited:
            return None
        return browser.started

    async def stop(self, order: Stop) -> StopReport | None:
        """End a browser and return its report, the same until it is taken; None when there is no such browser.

        Raises:
            Superseded: A newer generation has it.
        """
        if (kept := self._reports.get(order.browser)) is not None:
            self._check(kept.generation, order.generation)
            return kept.report
        browser = self._browsers.get(order.browser)
        if browser is None:
            return None
        self._check(browser.generation, order.generation)
        browser.generation = order.generation
        if browser.started is None and browser.starting is not None:
            browser.starting.cancel()
            await asyncio.wait({browser.starting})
            if order.browser not in self._browsers:
                return None
        return await self._end(order.browser, browser, CloseFrame(order.code, order.reason), save=order.save)

    def report(self, browser_id: UUID) -> StopReport | None:
        """Return a report that waits to be taken."""
        found = self._reports.get(browser_id)
        return None if found is None else found.report

    async def taken(self, browser_id: UUID) -> None:
        """Forget a report."""
        report = self._reports.pop(browser_id, None)
        if report is not None:
            await self._forget(browser_id, report.report)

    async def limit_hosts(self, order: LimitHosts) -> bool:
        """See `BrowserHosts.limit_hosts`."""
        browser = self._browsers.get(order.browser)
        if browser is None:
            return False
        self._check(browser.generation, order.generation)
        return await self._hosts.limit_hosts(order.browser, allowed=order.allowed, denied=order.denied)

    def entry(self, browser_id: UUID) -> Entry | None:
        """Return a browser of the table of addresses; None when it does not run, or ends."""
        browser = self._browsers.get(browser_id)
        return None if browser is None or not browser.token else self._registry.find(browser.token)

    def running(self) -> tuple[Running, ...]:
        """Return all browsers, those too that start or end."""
        return tuple(
            Running(
                browser_id,
                browser.generation,
                starting=browser.started is None,
                exited=browser.exited,
                limit=browser.limit,
            )
            for browser_id, browser in self._browsers.items()
        )

    def kept(self) -> tuple[Kept, ...]:
        """Return the reports that wait to be taken."""
        return tuple(Kept(browser_id, report.generation) for browser_id, report in self._reports.items())

    def figures(self) -> dict[UUID, Figures]:
        """Return what is counted of each browser that runs."""
        return {
            browser_id: Figures(
                browser_id,
                self._hosts.proxy_bytes(browser_id),
                self._hosts.blocked_requests(browser_id),
                tuple(self._hosts.traffic(browser_id)),
            )
            for browser_id, browser in self._browsers.items()
            if browser.started is not None and browser.ending is None
        }

    # --- what the worker does by itself ----------------------------------------------------------------------------

    async def look(self) -> None:
        """End what is past its lifetime, or everything when no server is there; forget old reports. It never returns."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self._look()
            except Exception:
                # Without it, what is past its lifetime would run on.
                logger.exception("a look after the browsers failed; the next one follows")

    async def _look(self) -> None:
        now = self._clock()
        if now - self._contact_at > self._limits.alone.total_seconds():
            self._end_alone(now)
        for browser_id, browser in list(self._browsers.items()):
            if browser.ends_at is not None and now >= browser.ends_at and browser.started is not None:
                self._end_by_itself(browser_id, browser, _PAST_ITS_TIME)
        oldest = now - self._limits.reports.total_seconds()
        for browser_id, report in list(self._reports.items()):
            if report.at < oldest or len(self._reports) > _MOST_REPORTS:
                await self.taken(browser_id)

    def _end_alone(self, now: float) -> None:
        for browser_id, browser in list(self._browsers.items()):
            if browser.started is not None and browser.ending is None:
                logger.error(
                    "browser %s ends: no server has reached this worker for %d s",
                    browser_id,
                    now - self._contact_at,
                )
                self._end_by_itself(browser_id, browser, _ALONE)

    def _end_by_itself(self, browser_id: UUID, browser: _Browser, frame: CloseFrame) -> None:
        if browser.ending is None:
            assert browser.started is not None  # the callers look
            save = bool(browser.started.profile_writable)
            self._work.start(
                self._end(browser_id, browser, frame, save=save), f"the end of browser {browser_id}"
            )
            self._tell(Event("exit", browser_id))

    def drain(self) -> None:
        """Take no more orders."""
        self._draining = True

    async def drained(self) -> None:
        """Wait until nothing runs any more."""
        while self._browsers:  # noqa: ASYNC110  # they end at any time, for many reasons
            await asyncio.sleep(_LOOK_SECONDS)

    async def close(self) -> None:
        """End everything that runs, and say so."""
        self._draining = True
        for browser in list(self._browsers.values()):
            if browser.started is None and browser.starting is not None:
                browser.starting.cancel()
        for browser_id, browser in list(self._browsers.items()):
            if browser.started is not None:
                self._end_by_itself(browser_id, browser, _CLOSING)
        await self._work.wait()

    async def _end(
        self, browser_id: UUID, browser: _Browser, frame: CloseFrame, *, save: bool
    ) -> StopReport | None:
        """End a browser once, however many ask, and keep its report."""
        if browser.ending is None:
            browser.ending = asyncio.get_running_loop().create_task(
                self._ended(browser_id, browser, frame, save=save)
            )
        return await asyncio.shield(browser.ending)

    async def _ended(
        self, browser_id: UUID, browser: _Browser, frame: CloseFrame, *, save: bool
    ) -> StopReport | None:
        try:
            report = await self._hosts.stop(browser_id, frame, save=save)
            if isinstance(report, UnfinishedStop):  # what was saved is fetched by the server
                report = await report.finished()
        finally:
            self._browsers.pop(browser_id, None)
        if report is not None:
            self._reports[browser_id] = _Report(browser.generation, report, self._clock())
        return report

    def _exited(self, browser_id: UUID) -> None:
        if (browser := self._browsers.get(browser_id)) is not None:
            browser.exited = True
        self._tell(Event("exit", browser_id))

    def _over_limit(self, browser_id: UUID, limit: Limit) -> None:
        if (browser := self._browsers.get(browser_id)) is not None:
            browser.limit = limit
        self._tell(Event("limit", browser_id, limit))

    def _deadline(self, spec: BrowserSpec) -> float | None:
        if spec.lifetime is None:
            return None
        return self._clock() + (spec.lifetime + self._limits.grace).total_seconds()

    @staticmethod
    def _check(newest: int, generation: int) -> None:
        if generation < newest:
            raise Superseded(f"generation {newest} has this browser, and {generation} has asked for it")
