"""Durations as public signatures take them, checked at the call. The only place where numbers become durations.

A waiting time is seconds, int or float, or a `timedelta`. Paid time is a `timedelta` only: 5 may mean seconds, minutes or hours,
and the difference is money.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Final

from cdpbridge.errors import ConfigurationError

__all__ = ["paid_minutes", "paid_time", "waiting_seconds", "waiting_time"]

_NOTHING: Final = timedelta(0)
_MINUTE: Final = timedelta(minutes=1)
# REST reference, "Create Browser Session", section Session Limits.
_MIN_MINUTES: Final = 1
_MAX_MINUTES: Final = 240


def waiting_time(name: str, value: object, *, zero: bool = False) -> timedelta:
    """Check a waiting time, and return it as a `timedelta`.

    Args:
        name: The argument's name, for the message.
        value: Seconds, or a `timedelta`.
        zero: True if zero is allowed, too.

    Raises:
        ConfigurationError: It is neither, or not positive, or not finite.
    """
    if isinstance(value, timedelta):
        duration = value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        duration = _of_seconds(name, value)
    else:
        raise ConfigurationError(f"{name} must be seconds (a number) or a timedelta, not {value!r}")
    if duration < _NOTHING or (not zero and not duration):
        raise ConfigurationError(f"{name} must {'not be negative' if zero else 'be positive'}, not {value}")
    return duration


def _of_seconds(name: str, value: float) -> timedelta:
    try:
        if not math.isfinite(value):
            raise ConfigurationError(f"{name} must be a finite number of seconds, not {value!r}")
        duration = timedelta(seconds=value)
    except OverflowError as error:
        days = timedelta.max.days
        raise ConfigurationError(f"{name} must be at most {days} days, not {value!r} seconds") from error
    # A timedelta counts whole microseconds: less than one is not nothing.
    return duration or (timedelta.resolution if value > 0 else -timedelta.resolution if value else duration)


def waiting_seconds(name: str, value: object, *, zero: bool = False) -> float:
    """Check a waiting time, and return it in seconds. Arguments and errors as of `waiting_time`."""
    return waiting_time(name, value, zero=zero).total_seconds()


def paid_time(name: str, value: object) -> timedelta:
    """Check paid time, zero or more, and return it.

    Raises:
        ConfigurationError: It is no `timedelta`, or negative.
    """
    duration = _as_paid(name, value)
    if duration < _NOTHING:
        raise ConfigurationError(f"{name} must not be negative, not {duration}")
    return duration


def _as_paid(name: str, value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    raise ConfigurationError(
        f"{name} is paid time and must be a timedelta, not {value!r}: use timedelta(minutes=5)"
    )


def paid_minutes(name: str, value: object) -> int:
    """Check the paid time of one browser, and return it in the REST API's unit.

    Raises:
        ConfigurationError: It is no `timedelta`, not whole minutes, or not 1 to 240 of them.
    """
    duration = _as_paid(name, value)
    if duration <= _NOTHING:
        raise ConfigurationError(
            f"{name} must be positive: {_MIN_MINUTES} to {_MAX_MINUTES} minutes, not {duration}"
        )
    minutes, rest = divmod(duration, _MINUTE)
    if rest:
        raise ConfigurationError(
            f"{name} must be whole minutes, as the API counts; {duration} is not: use timedelta(minutes={minutes + 1})"
        )
    if not _MIN_MINUTES <= minutes <= _MAX_MINUTES:
        raise ConfigurationError(f"{name} must be {_MIN_MINUTES} to {_MAX_MINUTES} minutes, not {minutes}")
    return minutes
