"""Rent the next browser in place of one whose paid time is nearly over.

Without a profile the two overlap: the next one is connected before the old one is stopped. With a profile the old one is stopped
first, as only a stop saves the profile, and two browsers cannot both write it.

Both ways return the new rental with its connection. The caller uses them from then on; this module knows no `Browser`.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta

from cdpbridge._concurrency import to_the_end, unhindered
from cdpbridge.cdp import Connection
from cdpbridge.errors import NoFreeSlot, RateLimitError, StopFailed

from ._options import CheckedOptions, tell_where
from ._rental import Rental, stop_noting

__all__ = ["close_connection", "end_replaced", "next_after", "next_beside", "overlaps"]

logger = logging.getLogger("cdpbridge")


def overlaps(old: Rental) -> bool:
    """Return True if the next browser may be rented before `old` is stopped: there is no profile to save."""
    return old.profile_id is None or old.record.profile_writable is False


async def next_beside(old: Rental, options: CheckedOptions) -> tuple[Rental, Connection] | None:
    """Rent the next browser while `old` runs; None if there is no slot for both. Stop `old` by `end_replaced` afterwards.

    Args:
        options: The user's, from before any renewal.

    Raises:
        APIError, ConnectFailed: Nothing new is rented, `old` runs on.
    """
    tell_where(options)
    try:
        rental = await Rental.begin(replace(options, profile=old.profile_id, slot_timeout=timedelta(0)))
    except (NoFreeSlot, RateLimitError) as error:
        logger.info(
            "the next browser cannot be rented beside the old one (%s); the old one is stopped first", error
        )
        return None
    return await _connected(rental)


async def next_after(
    old: Rental, options: CheckedOptions, connection: Connection | None
) -> tuple[Rental, Connection]:
    """Stop `old`, which saves its profile, then rent the next browser from that profile.

    Args:
        options: The user's, from before any renewal.

    Raises:
        APIError, ConnectFailed: Nothing new is rented, and `old` is stopped.
    """
    await to_the_end(end_replaced(old, connection))
    tell_where(options)
    return await _connected(await Rental.begin(replace(options, profile=old.profile_id)))


async def _connected(rental: Rental) -> tuple[Rental, Connection]:
    try:
        return rental, await rental.connect()
    except BaseException as error:
        await to_the_end(stop_noting(rental, error))
        raise


async def end_replaced(old: Rental, connection: Connection | None) -> None:
    """Close the connection of `old` and stop it; log a failure, which the last stop of the `Browser` tries again."""
    await close_connection(connection, old)
    try:
        await old.stop()
    except StopFailed as error:
        logger.error("%s", error)  # noqa: TRY400  # says how to stop it by hand
    except Exception:
        logger.exception("what browser %s cost is not known", old.id)


async def close_connection(connection: Connection | None, rental: Rental) -> None:
    """Close `connection`; log a failure, as the rental is stopped all the same."""
    if connection is not None:
        with unhindered(f"closing the connection of browser {rental.id}"):
            await connection.close()
