"""`Endings`: ends of browsers on workers: the report, and what a browser has left, until the worker may forget both."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Final
from uuid import UUID

from cdpbridge.server.hosts import CloseFrame, Leftover, SavedState, StopReport

from ._exchange import Exchange, ProfileOf
from ._link import LinkLost, WorkerLink
from ._links import Unwanted, WorkerLinks
from ._protocol import BadMessage, Ended, Of, Started, Stop, Superseded, loaded
from ._rented import Rented

__all__ = ["Endings"]

logger = logging.getLogger("cdpbridge.server")

# A worker ends a browser and packs its profile in bounded time: a stop, an export, and a minute for the copy.
_STOP_SECONDS: Final = 120.0
_ASK_SECONDS: Final = 10.0
# Of all downloads together; what has come by then is kept.
_FILES_SECONDS: Final = 60.0
# To bring what is left, over connections that break.
_ATTEMPTS: Final = 5
_PAUSE_SECONDS: Final = 0.5
_CLOSING: Final = CloseFrame(1001, "server stopping")
# Of a browser that the books have given to this server, whatever its generation was.
_NEWEST: Final = 2**31 - 1


class Endings:
    """Ends of browsers on workers. Arguments as in `WorkerHosts`."""

    def __init__(self, links: WorkerLinks, exchange: Exchange) -> None:
        self._links = links
        self._exchange = exchange

    async def stopped(self, rented: Rented, frame: CloseFrame, *, save: bool) -> StopReport:
        """End a browser and return its report, or what is known of one whose worker does not answer."""
        generation = rented.started.generation
        order = Stop(rented.id, generation, frame.code, frame.reason, save=save)
        for attempt in range(1, _ATTEMPTS + 1):
            link = self._links.get(rented.worker)
            if link is None:
                break
            try:
                report = await self._ended(link, order, _profile_of(rented.started))
            except LinkLost as error:
                logger.warning("browser %s: its end is asked for again (%d): %s", rented.id, attempt, error)
                await asyncio.sleep(_PAUSE_SECONDS)
            except Superseded as error:
                logger.warning("browser %s is another server's now: %s", rented.id, error)
                return rented.last_report()
            except (TimeoutError, OSError, BadMessage) as error:
                logger.warning("browser %s: its end has no report: %r", rented.id, error)
                break
            else:
                return report or rented.last_report()
        self._links.discard(rented.id, Unwanted(rented.worker, generation))
        return rented.last_report()

    async def recovered(self, leftover: Leftover) -> SavedState | None:
        """End a browser of a server that has ended; return its profile, if it was saved."""
        link = await self._links.with_browser(leftover.id)
        if link is None:
            return None
        profile = None
        if leftover.profile_id is not None and leftover.profile_writable:
            version = leftover.profile_version
            profile = ProfileOf(leftover.profile_id, version, version)
        order = Stop(leftover.id, _NEWEST, _CLOSING.code, _CLOSING.reason, save=leftover.profile_writable)
        try:
            report = await self._ended(link, order, profile)
        except (OSError, TimeoutError, BadMessage, Superseded) as error:
            logger.warning("browser %s of an earlier server: %s", leftover.id, error)
            self._links.discard(leftover.id, Unwanted(link.worker.id, _NEWEST))
            return None
        return None if report is None else report.saved

    async def _ended(self, link: WorkerLink, order: Stop, profile: ProfileOf | None) -> StopReport | None:
        """Return a browser's report as this server understands it, with what it has left brought here; None when it is not there."""
        answer = await link.ask("stop", order, timeout=_STOP_SECONDS)
        if answer is None:
            return None
        report = loaded(Ended, answer).report
        await self._take_files(link, order.browser)
        saved = None
        if report.saved is not None and profile is not None:
            saved = await self._exchange.take_profile(link, order.browser, report.saved, profile)
        await link.ask("taken", Of(order.browser), timeout=_ASK_SECONDS)
        return replace(report, saved=saved)

    async def _take_files(self, link: WorkerLink, browser_id: UUID) -> None:
        try:
            async with asyncio.timeout(_FILES_SECONDS):
                await self._exchange.take_files(link, browser_id)
        except LinkLost:
            raise
        except (OSError, TimeoutError, BadMessage) as error:
            logger.warning("not all downloads of browser %s are kept: %r", browser_id, error)


def _profile_of(started: Started) -> ProfileOf | None:
    return None if started.profile_id is None else ProfileOf(started.profile_id, started.sent, started.base)
