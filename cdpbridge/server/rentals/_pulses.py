"""`Pulses`: whose sign of life stands still. Pure."""

from __future__ import annotations

from collections.abc import Hashable

__all__ = ["Pulses"]


class Pulses:
    """Counters of others as one observer has seen them, by the observer's own clock: no two clocks are compared."""

    def __init__(self) -> None:
        # By id: the counter, and when that was new.
        self._seen: dict[Hashable, tuple[Hashable, float]] = {}

    def stands_still(self, of: Hashable, counter: Hashable, now: float, seconds: float) -> bool:
        """Note a counter, and return True if it has been the same for so long.

        Args:
            of: Whose it is.
            counter: As it is now; only whether it changes counts.
            now: A reading of a monotonic clock, in seconds.
            seconds: How long.
        """
        former, since = self._seen.get(of, (None, now))
        if former != counter:
            self._seen[of] = counter, now
            return False
        return now - since >= seconds

    def clear(self) -> None:
        """Forget everything: the observer was itself away, so what stood still meanwhile says nothing."""
        self._seen.clear()

    def forget(self, of: Hashable) -> None:
        """Begin to observe one again."""
        self._seen.pop(of, None)
