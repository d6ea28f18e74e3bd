"""What a `Browser` is made of: its rentals, one after another, their connection, its events, and the stop. Private to the package.

Users hold the `Browser`. The guard, `open_browser` and the pool hold the core, and with it what is not meant for users.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from cdpbridge._concurrency import to_the_end, unhindered
from cdpbridge.billing import Receipt
from cdpbridge.cdp import Connection
from cdpbridge.errors import BrowserExpired, CDPBridgeError, CDPError, StopFailed
from cdpbridge.rental._options import CheckedOptions
from cdpbridge.rental._renewal import close_connection, end_replaced, next_after, next_beside, overlaps
from cdpbridge.rental._rental import Rental
from cdpbridge.rental._shutdown import guard
from cdpbridge.rental._stop import server_ended, stop_failed

from ._browser import Browser
from ._events import Events

__all__ = ["BrowserCore"]

logger = logging.getLogger("cdpbridge")

T = TypeVar("T")


class BrowserCore:
    """The state and the wiring of one `Browser`.

    Attributes:
        browser: What the user holds.
        receipt: What it cost, all renewals included; None until it is stopped.
        holder: The task whose block stops it; None when it is stopped by hand.
        rentals: The last one is in use; those before are stopped or just being stopped.
        events: Its event handlers.
    """

    def __init__(self, rental: Rental, options: CheckedOptions, *, holder: asyncio.Task[Any] | None) -> None:
        self.receipt: Receipt | None = None
        self.holder = holder
        self.rentals = [rental]
        self._options = options
        self._connection: Connection | None = None
        self._stopping: asyncio.Task[Receipt] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._between = False  # the old rental is stopped, the next one not there yet
        self._warning: asyncio.TimerHandle | None = None
        self.browser = Browser(self)
        self.events = Events(self.browser)
        self._unguard = guard.add(self)

    def __repr__(self) -> str:
        return repr(self.browser)

    @property
    def rental(self) -> Rental:
        """The rental in use."""
        return self.rentals[-1]

    @property
    def connection(self) -> Connection:
        """The connection in use."""
        assert self._connection is not None  # `open_browser` returns no browser without one
        return self._connection

    @property
    def over(self) -> bool:
        """True if nothing is left to stop: each rental was stopped, or has ended with its server."""
        return server_ended(self.rental.client) or all(rental.ended for rental in self.rentals)

    # --- the beginning, and the next rental -----------------------------------------------------------------------

    async def connect(self) -> None:
        """Connect to the browser as soon as it can be reached.

        Raises:
            ConnectFailed: Not within `connect_timeout`.
            BrowserStopped, BrowserExpired: It ended before.
        """
        self._connection = await self.rental.connect()
        self._watch()

    def _watch(self) -> None:
        """Set the timer of `"expiring"`."""
        deadline = self.rental.deadline
        before = min(self._options.expiring_before, deadline.timeout / 2)
        delay = deadline.warn_at(before) - time.monotonic()
        self._warning = asyncio.get_running_loop().call_later(max(delay, 0), self._expiring)

    def _expiring(self) -> None:
        self._warning = None
        if self._stopping is not None:
            return
        self.events.emit("expiring", self.rental.deadline.remaining(time.monotonic()))
        if self._options.renew:
            self._renewing = asyncio.get_running_loop().create_task(self._renew())

    async def _renew(self) -> None:
        """Go on with the next rental; log a failure, then the old one goes on to its end."""
        old = self.rental
        try:
            if not (overlaps(old) and await self._renew_beside(old)):
                await self._renew_after(old)
        except (CDPBridgeError, OSError) as error:
            logger.error("%r could not be renewed: %s", self, error)  # noqa: TRY400  # the message is meant for the user
        except Exception:
            logger.exception("%r could not be renewed", self)
        else:
            logger.debug("browser %s follows %s", self.rental.id, old.id)

    async def _renew_beside(self, old: Rental) -> bool:
        """Rent the next one, switch to it, then stop the old one. False if there is no slot for both."""
        replaced = self._connection
        found = await next_beside(old, self._options)
        if found is None:
            return False
        try:
            self._switch_to(*found)
            await self._renewed()
        finally:
            await to_the_end(end_replaced(old, replaced))
        return True

    async def _renew_after(self, old: Rental) -> None:
        """Stop the old one, which saves its profile, then rent the next one."""
        remaining = old.deadline.remaining(time.monotonic()) / 2
        try:
            async with asyncio.timeout(remaining.total_seconds()):
                await self.events.handled()
        except TimeoutError:
            logger.warning("handlers of 'expiring' take too long; %r is renewed without them", self)
        self._between = True
        try:
            self.events.detach()
            self._switch_to(*await next_after(old, self._options, self._connection))
        finally:
            self._between = False
        await self._renewed()

    def _switch_to(self, rental: Rental, connection: Connection) -> None:
        self.rentals.append(rental)  # first, so that a stop finds it
        self._connection = connection
        self.events.move_to(connection)
        self._watch()

    async def _renewed(self) -> None:
        self.events.emit("renewed")
        if callable(self._options.renew):
            try:
                await self._options.renew(self.browser)
            except Exception:
                logger.exception("the `renew` function of %r failed", self)

    # --- in use ---------------------------------------------------------------------------------------------------

    def on(self, name: str, handler: Callable[..., object]) -> Callable[[], None]:
        """See `Browser.on`."""
        return self.events.on(name, handler, self._connection)

    async def while_rented(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Return the result of `work`; when its connection closed because the rental is over, raise an error that says so."""
        if self._between and self._renewing is not None:
            await asyncio.wait({self._renewing})
        connection = self.connection
        try:
            return await work(connection)
        except CDPError:
            if connection.closed and (self._stopping is not None or await self.rental.is_over()):
                raise self.rental.end_error() from None
            raise

    # --- the end --------------------------------------------------------------------------------------------------

    async def stop(self) -> Receipt:
        """See `Browser.stop`."""
        if self._stopping is None or _failed(self._stopping):
            renewing = None if self._renewing is asyncio.current_task() else self._renewing
            self._stopping = asyncio.get_running_loop().create_task(self._stop(renewing))
        return await to_the_end(self._stopping)

    async def _stop(self, renewing: asyncio.Task[None] | None) -> Receipt:
        with unhindered(f"ending the renewal of {self!r}"):
            if self._warning is not None:
                self._warning.cancel()
            if renewing is not None and not renewing.done():
                renewing.cancel()
                await asyncio.wait({renewing}, timeout=self._options.stop_timeout.total_seconds())
        # Beside the stop: an answer to the close frame takes a round trip, and this browser costs money.
        closing = asyncio.get_running_loop().create_task(self._close_connection())
        unstopped: list[StopFailed] = []
        uncounted: list[BaseException] = []
        for rental in self.rentals:
            failure = await _end(rental)
            if isinstance(failure, StopFailed):
                unstopped.append(failure)
            elif failure is not None:
                uncounted.append(failure)
        with unhindered("closing the connection of a browser"):
            await asyncio.wait({closing})
        for failed in unstopped[:-1]:
            logger.error("%s", failed)
        if unstopped:
            raise unstopped[-1]
        with unhindered(f"forgetting {self!r}, which is stopped"):
            self._unguard()
        if not uncounted:
            self.receipt = Receipt.total([each.receipt for each in self.rentals if each.receipt is not None])
        with unhindered(f"calling the handlers of 'stopped' of {self!r}"):
            self.events.emit("stopped")
        if self.receipt is None:
            raise uncounted[0]
        return self.receipt

    async def _close_connection(self) -> None:
        with unhindered("closing the connection of a browser"):
            await close_connection(self._connection, self.rental)

    def stop_blocking(self) -> None:
        """Stop it without an event loop, at the end of the interpreter.

        Raises:
            StopFailed: The server did not confirm.
        """
        failed: StopFailed | None = None
        for rental in self.rentals:
            try:
                rental.stop_blocking()
            except StopFailed as error:
                if failed is not None:
                    logger.error("%s", failed)  # noqa: TRY400  # the later one is raised
                failed = error
        if failed is not None:
            raise failed

    async def leave(self, error: BaseException | None) -> None:
        """Stop it on the way out of a block; a stop that fails never hides the block's own `error`."""
        try:
            await self.stop()
        except Exception as failed:
            if error is None:
                raise
            logger.error("%s", failed)  # noqa: TRY400  # the block's own error is on its way
            error.add_note(str(failed))

    async def exit(self, error: BaseException | None) -> None:
        """Leave the block of the user: stop, and say so when its CDP error came from the end of the paid time."""
        lost = False
        with unhindered(f"looking why the block of {self!r} failed"):
            closed = self._connection is not None and self._connection.closed
            lost = isinstance(error, CDPError) and not isinstance(error, BrowserExpired) and closed
        await self.leave(error)
        await guard.ended()
        if lost and self.receipt is not None and isinstance(why := self.rental.end_error(), BrowserExpired):
            raise why from error


async def _end(rental: Rental) -> BaseException | None:
    """Stop a rental; return `StopFailed` if not confirmed, another error if it is stopped and only the receipt is missing."""
    for last in (False, True):
        try:
            await rental.stop()
        except StopFailed as error:
            return error
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # the others are stopped all the same
            if rental.ended:
                return error
            if last:
                failed = stop_failed(rental.client, rental.id, error)
                failed.__cause__ = error
                return failed
            logger.warning("the stop of browser %s failed (%r); trying again", rental.id, error)
        else:
            return None
    raise AssertionError("the last try returns")


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
