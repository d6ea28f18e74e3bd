"""The answer to a request that `Fetch` has paused."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from cdpbridge.errors import CDPError, CommandError, ConnectionClosed, TargetClosed
from cdpbridge.protocol import Command, Fetch

if TYPE_CHECKING:
    from cdpbridge.cdp._session import CDPSession

__all__ = ["FAILED", "PAUSED", "answer_paused"]

logger = logging.getLogger("cdpbridge")

PAUSED: Final = "Fetch.requestPaused"
FAILED: Final = "Failed"

# Chromium's own texts for a request that no longer waits: its document ended, or the domain was disabled.
_ENDED: Final = ("Invalid InterceptionId", "Fetch domain is not enabled")


async def answer_paused(session: CDPSession, command: Command[None], request_id: str) -> CDPError | None:
    """Answer a paused request. What the browser refuses is reported and returned, and the request fails: it must not wait for ever."""
    try:
        await session.send(command)
    except CDPError as error:
        if _has_ended(error):
            logger.debug("a paused request ended: %s", error)
            return None
        session.connection.report(error, session, PAUSED)
        try:
            await session.send(Fetch.fail_request(request_id, FAILED))
        except CDPError as ended:
            logger.debug("a paused request ended: %s", ended)
        return error
    return None


def _has_ended(error: CDPError) -> bool:
    if isinstance(error, CommandError):
        return error.message.startswith(_ENDED)
    return isinstance(error, TargetClosed | ConnectionClosed)
