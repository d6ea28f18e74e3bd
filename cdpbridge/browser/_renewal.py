"""The next rental in the place of one whose time is nearly over; see `Browser` for the two ways."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from cdpbridge._concurrency import to_the_end, unhindered
from cdpbridge.cdp import Connection
from cdpbridge.errors import CDPBridgeError, NoFreeSlot, RateLimitError, StopFailed
from cdpbridge.rental._rental import Order, Rental, stop_noting

if TYPE_CHECKING:
    from ._browser import Browser

__all__ = ["Renew", "Renewal", "close_connection"]

logger = logging.getLogger("cdpbridge")

Renew = bool | Callable[["Browser"], Awaitable[object]]


class Renewal:
    """Renews `browser`.

    Attributes:
        between: The old rental is stopped, the new one not yet there.
    """

    def __init__(self, browser: Browser, renew: Renew) -> None:
        self.between = False
        self._browser = browser
        self._renew = renew

    async def run(self) -> None:
        """Once; a failure is logged, and the old rental goes on to its end."""
        browser, old = self._browser, self._browser._rental
        try:
            if old.profile_id is None or old.record.profile_writable is False:
                await self._before(old)
            else:
                await self._after(old)
        except (CDPBridgeError, OSError) as error:
            logger.error("%r could not be renewed: %s", browser, error)  # noqa: TRY400  # the message is meant for the user
        except Exception:
            logger.exception("%r could not be renewed", browser)
        else:
            logger.debug("browser %s follows %s", browser.id, old.id)

    async def _before(self, old: Rental) -> None:
        """Rent the next one, hand over, then stop the old one."""
        left = self._browser._connection
        try:
            new = await Rental.begin(replace(old.order, slot_timeout=timedelta(0)))
        except (NoFreeSlot, RateLimitError) as error:
            logger.info(
                "the next browser cannot be rented beside the old one (%s); the old one is stopped first",
                error,
            )
            await self._after(old)
            return
        try:
            await self._take_over(new)
            await self._tell()
        finally:
            if self._browser._rental is new:
                await to_the_end(_end(old, left))

    async def _after(self, old: Rental) -> None:
        """Stop the old one, which saves its profile, then rent the next one."""
        events = self._browser._events
        remaining = old.deadline.remaining(time.monotonic()) / 2
        try:
            async with asyncio.timeout(remaining.total_seconds()):
                await events.handled()
        except TimeoutError:
            logger.warning("handlers of 'expiring' take too long; %r is renewed without them", self._browser)
        self.between = True
        try:
            left = self._browser._connection
            events.leave_wire()
            await to_the_end(_end(old, left))
            await self._take_over(await Rental.begin(_same_profile(old)))
        finally:
            self.between = False
        await self._tell()

    async def _take_over(self, new: Rental) -> None:
        try:
            connection = await new.connect()
        except BaseException as error:
            await to_the_end(stop_noting(new, error))
            raise
        self._browser.continue_with(new, connection)

    async def _tell(self) -> None:
        self._browser._events.emit("renewed")
        if callable(self._renew):
            try:
                await self._renew(self._browser)
            except Exception:
                logger.exception("the `renew` function of %r failed", self._browser)


def _same_profile(old: Rental) -> Order:
    return replace(old.order, profile=old.profile_id)


async def _end(old: Rental, connection: Connection | None) -> None:
    await close_connection(connection, old)
    try:
        await old.stop()
    except StopFailed as error:
        logger.error("%s", error)  # noqa: TRY400  # says how to stop it by hand
    except Exception:
        logger.exception("what browser %s cost is not known", old.id)


async def close_connection(connection: Connection | None, rental: Rental) -> None:
    """Close it; a failure to do so is logged, as the rental is stopped all the same."""
    if connection is not None:
        with unhindered(f"closing the connection of browser {rental.id}"):
            await connection.close()
