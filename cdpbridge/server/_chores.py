"""What a server does again and again beside its requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from sqlalchemy.exc import SQLAlchemyError

from cdpbridge.server.objects import ObjectStorageError

__all__ = ["repeated"]

logger = logging.getLogger("cdpbridge.server")


@asynccontextmanager
async def repeated(
    work: Callable[[], Awaitable[object]], what: str, *, every: float, after_failure: float
) -> AsyncIterator[None]:
    """Do something now, and again and again until the block is left. What fails is logged and tried again.

    Args:
        work: Each time.
        what: For the log: "... could not be done".
        every: Seconds between two times.
        after_failure: The same, when the storage, the database or the disk has failed.
    """

    async def run() -> None:
        while True:
            pause = every
            try:
                await work()
            except (ObjectStorageError, OSError, SQLAlchemyError) as error:
                logger.warning("%s, and will be tried again: %s", what, error)
                pause = after_failure
            except Exception:  # what was not foreseen does not end it either
                logger.exception("%s, and will be tried again", what)
                pause = after_failure
            await asyncio.sleep(pause)

    task = asyncio.get_running_loop().create_task(run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
