"""The browsers of a pool: opened and stopped as the schedule plans, and granted to waiting leases."""

from __future__ import annotations

import asyncio
import copy
import logging
import math
from datetime import UTC, datetime
from typing import Any

from cdpbridge._concurrency import TaskSet
from cdpbridge.billing import Receipt
from cdpbridge.browser import Browser
from cdpbridge.browser._open import open_checked
from cdpbridge.errors import (
    APIError,
    APIStatusError,
    CDPBridgeError,
    CDPError,
    PoolClosed,
    RateLimitError,
    RentalError,
    ServerError,
    StopFailed,
)
from cdpbridge.rental._options import CheckedOptions
from cdpbridge.rental._shutdown import guard

from ._lease import Contexts
from ._schedule import Action, Grant, Open, Phase, Place, Refuse, Rules, Schedule, Stop, Ticket

__all__ = ["Fleet"]

logger = logging.getLogger("cdpbridge")


class Fleet:
    """Rents as many browsers with `options` as `rules` allow.

    Attributes:
        closed: No browser is opened, and no place granted, any more.
        schedule: Decides; this class acts.
        browsers: Those that run, by their places.
        contexts: What makes browser contexts in them, by the same.
        receipts: One for each browser that was stopped.
        opened: Browsers rented since the beginning.
        lost: Of these, those that ended or lost their connection while they were needed.
        granted: Places granted since the beginning.
        unstopped: Browsers whose stop was not confirmed.
    """

    def __init__(self, options: CheckedOptions, rules: Rules) -> None:
        self.closed = False
        self.schedule = Schedule(rules)
        self.browsers: dict[Place, Browser] = {}
        self.contexts: dict[Place, Contexts] = {}
        self.receipts: list[Receipt] = []
        self.unstopped: list[Browser] = []
        self.opened = self.lost = self.granted = 0
        self._options = options
        self._loop: asyncio.AbstractEventLoop | None = None
        self._holder: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: dict[Ticket, asyncio.Future[Place]] = {}
        self._openings = TaskSet(logger)
        self._stops = TaskSet(logger)

    # --- the block -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Belong to the running loop and to the current task, whose block stops it.

        Raises:
            RuntimeError: It was started before.
        """
        if self._loop is not None:
            raise RuntimeError("a pool is one block; make another BrowserPool")
        self._loop = asyncio.get_running_loop()
        self._holder = asyncio.current_task()

    async def close(self) -> None:
        """Reject waiting leases, at once; cancel what still opens browsers, and wait for its end."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        for waiter in self._waiters.values():
            if not waiter.done():
                waiter.set_exception(PoolClosed("the pool was closed while a lease waited for a tab"))
        await self._openings.cancel()

    async def stop(self) -> list[StopFailed]:
        """Stop every browser, those that could not be stopped before once more; return the stops that were not confirmed."""
        for place in list(self.browsers):
            self._stop(place)
        await self._stops.wait()
        stops = (self._stop_again(each) for each in self.unstopped)
        ends = await asyncio.gather(*stops, return_exceptions=True)
        return [failed for failed in ends if isinstance(failed, StopFailed)]

    async def _stop_again(self, browser: Browser) -> StopFailed | None:
        try:
            self.receipts.append(await browser.stop())
        except StopFailed as failed:
            return failed
        except Exception:
            logger.exception("what %r cost is not known", browser)
        return None

    # --- places ---------------------------------------------------------------------------------------------------

    async def place(self, need: float) -> Place:
        """Wait for a place in a browser with at least `need` seconds left, first come, first served.

        Raises:
            PoolClosed: It is not open, or is closed meanwhile.
            APIError: No browser can be rented, and there is none to wait for.
        """
        if self._loop is None:
            raise PoolClosed("use `async with BrowserPool(...) as pool`: this pool is not open")
        if self.closed:
            raise PoolClosed("the pool is closed, its block was left")
        if self._loop is not asyncio.get_running_loop():
            raise RuntimeError("a pool belongs to the event loop that opened it")
        ticket = self.schedule.ask(need)
        waiter: asyncio.Future[Place] = self._loop.create_future()
        self._waiters[ticket] = waiter
        self.pump()
        try:
            return await waiter
        except asyncio.CancelledError:
            self.schedule.withdraw(ticket)
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:  # in the same moment
                self.schedule.released(waiter.result(), now=self._loop.time())
            self.pump()
            raise
        finally:
            del self._waiters[ticket]

    def release(self, place: Place, *, lost: bool, cleared: bool) -> None:
        """Release a place.

        Args:
            lost: True if its browser was lost.
            cleared: True if nothing of its user is left in the browser.
        """
        assert self._loop is not None  # it granted the place
        self.schedule.released(place, now=self._loop.time())
        if lost:
            self.lose(place)
        elif not cleared:
            self.schedule.drain(place)
        self.pump()

    def drain(self, place: Place) -> None:
        """Grant no more leases on a browser: what is left in it would be seen by later ones, or fill the memory."""
        self.schedule.drain(place)
        self.pump()

    # --- the schedule's actions ------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Do what the schedule plans now, and set a timer for when time alone changes something."""
        if self.closed or self._loop is None or guard.terminating:
            return
        now = self._loop.time()
        while actions := self.schedule.plan(now):
            for action in actions:
                self._do(action, now)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (look := self.schedule.next_look(now)) != math.inf:
            self._timer = self._loop.call_at(look, self.pump)

    def _do(self, action: Action, now: float) -> None:
        match action:
            case Grant(ticket, place):
                waiter = self._waiters[ticket]
                if waiter.done():  # cancelled, and its task has not had its turn yet
                    self.schedule.released(place, now=now)
                else:
                    self.granted += 1
                    waiter.set_result(place)
            case Refuse(ticket, error):
                if not self._waiters[ticket].done():
                    self._waiters[ticket].set_exception(_for_one_waiter(error))
            case Open(place):
                self._openings.start(self._open(place), "opening a browser for the pool")
            case Stop(place):
                self._stop(place)

    async def _open(self, place: Place) -> None:
        loop = asyncio.get_running_loop()
        before = loop.time()
        try:
            browser = await open_checked(self._options, holder=self._holder)
        except Exception as error:  # noqa: BLE001  # raised in the waiting leases
            logger.warning("the pool could not open a browser: %s", error)
            self.schedule.not_opened(
                place,
                error,
                now=loop.time(),
                final=not _may_pass(error),
                full=isinstance(error, RateLimitError),
            )
        else:
            if self.closed:  # its cancellation came too late
                await self._stopped(place, browser)
                return
            self.opened += 1
            self.browsers[place] = browser
            self.contexts[place] = Contexts(browser)
            now = loop.time()
            # By the server's clock, as far as it goes with what we saw: it began between our request and now.
            ago = (datetime.now(UTC) - browser.started_at).total_seconds()
            started = min(max(now - ago, before), now)
            life = (browser.timeout_at - browser.started_at).total_seconds()
            self.schedule.opened(place, started=started, expires=started + life, now=now)
            browser.connection.on("disconnected", lambda: self._disconnected(place))
            if browser.connection.closed:
                self.lose(place)
        self.pump()

    def _disconnected(self, place: Place) -> None:
        self.lose(place)
        self.pump()

    def lose(self, place: Place) -> None:
        """Note that the browser of `place` was lost."""
        if not self.closed and not place.lost and place.phase in {Phase.READY, Phase.DRAINING}:
            self.lost += 1
            self.schedule.lose(place)

    def _stop(self, place: Place) -> None:
        del self.contexts[place]
        self._stops.start(self._stopped(place, self.browsers.pop(place)), "stopping a browser of the pool")

    async def _stopped(self, place: Place, browser: Browser) -> None:
        try:
            self.receipts.append(await browser.stop())
        except StopFailed as failed:
            logger.error("%s", failed)  # noqa: TRY400  # the message is meant for the user
            self.unstopped.append(browser)
        except asyncio.CancelledError:  # its loop ends
            self.unstopped.append(browser)
            raise
        except Exception:
            logger.exception("what %r cost is not known", browser)
        finally:
            self.schedule.stopped(place)
            self.pump()


def _may_pass(error: Exception) -> bool:
    """Return True if another browser can be rented after this failure: not with a wrong key, profile or plan."""
    if isinstance(error, APIStatusError):
        return isinstance(error, (RateLimitError, ServerError))
    return isinstance(error, (APIError, CDPError, RentalError))


def _for_one_waiter(error: Exception) -> Exception:
    """Return the error for one waiting lease: a traceback grows with each task that raises the same object."""
    if not isinstance(error, CDPBridgeError):
        return error
    copied = copy.copy(error)
    copied.__cause__ = error
    return copied
