"""A reconnect's decisions: can the connection be resumed, is a refusal fatal, how long to wait. Pure: no asyncio, no I/O."""

from __future__ import annotations

from typing import Final

from cdpbridge.cdp._transport import Closed
from cdpbridge.errors import CDPError, ConnectFailed

__all__ = ["delay", "is_fatal", "resumable"]

_ENDED: Final = (
    "session stopped",
    "session expired",
    "server stopping",
    "the browser closed the connection",
)
"""Reasons with which a gateway says that the browser itself has closed; 1001 alone may be a proxy's restart."""

# RFC 6455 section 7.4.1 and the IANA registry: no code, no close frame, internal error, restart, try later, bad gateway.
_RETRYABLE_CODES: Final = frozenset({1005, 1006, 1011, 1012, 1013, 1014})
_GOING_AWAY: Final = 1001
# the address leads nowhere, or access is refused
_FINAL_STATUS: Final = frozenset({400, 401, 403, 404, 410})
# seconds
_FIRST: Final = 0.1
_LONGEST: Final = 5.0


def resumable(closed: Closed) -> bool:
    """Return True if the browser may live on behind a lost connection.

    A close frame with another code is a decision (1000, 4000 to 4999) or would only happen again (1002, 1007, 1009).
    """
    if closed.cause is not None:
        return False
    if closed.code == _GOING_AWAY:
        return not closed.reason.lower().startswith(_ENDED)
    return closed.code in _RETRYABLE_CODES


def is_fatal(error: Exception) -> bool:
    """Return True if a failed try to connect shows that every other one will fail too."""
    if isinstance(error, ConnectFailed):
        return error.status in _FINAL_STATUS or error.stage == "ended"
    return not isinstance(error, (CDPError, OSError))


def delay(attempt: int, chance: float) -> float:
    """Return the seconds before a try: none before the first, then twice as long each time, half of it random.

    Args:
        attempt: From 0.
        chance: From 0 to 1, so that many clients of one server do not reconnect in step.
    """
    if attempt == 0:
        return 0.0
    longest: float = min(_LONGEST, _FIRST * 2 ** min(attempt - 1, 10))
    return longest * (0.5 + 0.5 * chance)
