"""Work that must run to its end, whoever is cancelled meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import TypeVar

__all__ = ["to_the_end"]

logger = logging.getLogger("cdpbridge")

T = TypeVar("T")


async def to_the_end(work: Awaitable[T]) -> T:
    """The result of `work`, which runs to its end however often the caller is cancelled; then that is passed on.

    `work` needs a bound of its own. When it fails and the caller was cancelled, its error is logged.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    if not task.cancelled() and (failed := task.exception()) is not None:
        logger.error("%s", failed, exc_info=None if str(failed) else failed)
    raise cancelled
