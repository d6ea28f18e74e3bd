"""A pool in figures."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PoolStats"]


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A pool at one moment.

    Attributes:
        browsers: That take or hold leases now.
        opening: That are being rented.
        stopping: Whose stop is not confirmed yet.
        leases: Tabs in use.
        waiting: Leases that wait for a tab.
        opened: Browsers rented since the beginning.
        lost: Of these, that ended or were cut off while the pool needed them.
        granted: Leases given since the beginning.
        retried: Leases repeated because their browser was lost.
    """

    browsers: int
    opening: int
    stopping: int
    leases: int
    waiting: int
    opened: int
    lost: int
    granted: int
    retried: int
