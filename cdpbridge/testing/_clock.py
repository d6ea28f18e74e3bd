"""A clock that stands still until `advance`."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any

__all__ = ["ManualClock"]


class _Handle:
    def __init__(self, when: float, call: Callable[[], object]) -> None:
        self.when = when
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        self.call = None


class ManualClock:
    """A `Clock` whose time moves only in `advance`.

    Args:
        start: Its first reading, seconds.
    """

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._order = count()
        self._heap: list[tuple[float, int, _Handle]] = []

    def time(self) -> float:
        """Return the present reading, seconds."""
        return self._now

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> _Handle:
        """Call `callback(*args)` in the `advance` that reaches `when`."""
        handle = _Handle(when, lambda: callback(*args))
        heappush(self._heap, (when, next(self._order), handle))
        return handle

    @property
    def scheduled(self) -> int:
        """Calls that are due some time and not cancelled."""
        return sum(handle.call is not None for _, _, handle in self._heap)

    def advance(self, seconds: float) -> None:
        """Move on, making the calls that fall due in order, each at its own time."""
        if seconds < 0:
            raise ValueError("a monotonic clock does not go back")
        end = self._now + seconds
        while self._heap and self._heap[0][0] <= end:
            when, _, handle = heappop(self._heap)
            if handle.call is None:
                continue
            self._now = max(self._now, when)
            call, handle.call = handle.call, None
            call()
        self._now = end
