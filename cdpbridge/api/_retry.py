"""What a failed request means: try again, when, or raise. Pure: no clock, no chance, no I/O.

A request that may be repeated is repeated after anything that passes: no connection, no answer, 429, 502, 503, 504; a change,
e.g. a stop, after any 5xx, as each minute until it succeeds costs. One that may not (a create costs money) is repeated only
when it certainly did nothing: the connection was refused before it was sent, or the server said 429 and when to come back. An
answer that was lost proves nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from cdpbridge.errors import APIConnectionError, APIError, APIStatusError

from .calls._base import Call

__all__ = ["MAX_DELAY_SECONDS", "delay_seconds", "may_retry", "passes", "retry_after_seconds"]

MAX_DELAY_SECONDS: Final = 30.0
"""Longest pause between two tries; a server that asks for more is believed, and the error is given to the caller."""

_FIRST_DELAY_SECONDS: Final = 0.5
_FACTOR: Final = 2.0
_TOO_MANY: Final = 429
_PASSING: Final = frozenset({_TOO_MANY, 502, 503, 504})


def passes(error: APIError) -> bool:
    """Return True if the failure may pass by itself: no connection, no answer, 429, 502, 503, 504."""
    if isinstance(error, APIStatusError):
        return error.status in _PASSING
    return isinstance(error, APIConnectionError)


def may_retry(call: Call[Any], error: APIError) -> bool:
    """Return True if `call` may be sent again after `error`."""
    if call.repeatable:
        failed_change = call.method != "GET" and isinstance(error, APIStatusError) and error.status >= 500
        return failed_change or passes(error)
    if isinstance(error, APIStatusError):
        # A 429 without a time is the limit of concurrent browsers, which does not pass in a second.
        return error.status == _TOO_MANY and error.retry_after is not None
    return isinstance(error, APIConnectionError) and not error.maybe_processed


def delay_seconds(tries: int, error: APIError, *, chance: float) -> float | None:
    """Return seconds until the next try; None if the server asks for more than `MAX_DELAY_SECONDS`.

    Args:
        tries: How often it was tried, from 1.
        error: How the last try failed.
        chance: A random number from 0 to 1, so that many clients do not come back at once.
    """
    if isinstance(error, APIStatusError) and error.retry_after is not None:
        return error.retry_after if error.retry_after <= MAX_DELAY_SECONDS else None
    longest = min(_FIRST_DELAY_SECONDS * _FACTOR ** (tries - 1), MAX_DELAY_SECONDS)
    return longest * (0.5 + chance / 2)


def retry_after_seconds(header: str | None, *, now: datetime) -> float | None:
    """Return the seconds of a `Retry-After` header (RFC 9110, section 10.2.3): a number, or a date; None if it is neither."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max((when - now).total_seconds(), 0.0)
