"""When to look at a task again. Pure: time and chance are given.

Pauses grow with the silence: a tenth of it, so waiting adds a tenth to a task's time at most, and a long task is asked about
every few seconds. News, e.g. a step, begins the silence anew. An unreachable server is waited for as long as a restart
takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from cdpbridge._durations import waiting_seconds

from ._task_models import Task, TaskStatus, TaskStatusView

__all__ = ["MAX_OUTAGE_SECONDS", "Watch", "is_over"]

MAX_OUTAGE_SECONDS: Final = 60.0
"""How long a server may be unreachable, or answer 5xx, before the wait ends with its error."""

_SHORTEST_SECONDS: Final = 0.5
_LONGEST_SECONDS: Final = 5.0
_SHARE: Final = 0.1
_KNOWN: Final = TaskStatus.OVER | {TaskStatus.CREATED, TaskStatus.STARTED, TaskStatus.PAUSED}


@dataclass(slots=True)
class Watch:
    """A wait that is going on. All times are seconds of one monotonic clock.

    Attributes:
        started: When it began.
        deadline: When it ends without success, None for never.
        news_at: When something last changed.
        failing_since: When a request first failed, None while the server answers.
    """

    started: float
    deadline: float | None
    news_at: float
    failing_since: float | None = None

    @classmethod
    def begin(cls, now: float, timeout: float | timedelta | None) -> Watch:
        """Begin a wait now.

        Raises:
            ConfigurationError: `timeout` is no positive time.
        """
        if timeout is None:
            return cls(now, None, now)
        return cls(now, now + waiting_seconds("timeout", timeout), now)

    def left(self, now: float) -> float | None:
        """Return the seconds to the deadline, never negative; None without one."""
        return None if self.deadline is None else max(self.deadline - now, 0.0)

    def pause(self, now: float, *, chance: float) -> float | None:
        """Return the seconds until the next request; None when the deadline has come.

        Args:
            now: The time.
            chance: A random number from 0 to 1, so that many waits do not ask at once.
        """
        left = self.left(now)
        if left is not None and left <= 0:
            return None
        pause = min(max((now - self.news_at) * _SHARE, _SHORTEST_SECONDS), _LONGEST_SECONDS)
        pause *= 0.8 + 0.4 * chance
        return pause if left is None else min(pause, left)

    def answered(self, now: float, *, news: bool = False) -> None:
        """Note an answer of the server, with news or without."""
        self.failing_since = None
        if news:
            self.news_at = now

    def may_go_on(self, now: float) -> bool:
        """Return True if the wait goes on after a request that failed."""
        if self.failing_since is None:
            self.failing_since = now
        return now - self.failing_since < MAX_OUTAGE_SECONDS


def is_over(task: Task | TaskStatusView) -> bool:
    """Return True if a task has ended; a task with an unknown status has ended when it has a `finished_at`."""
    return task.status in TaskStatus.OVER or (task.status not in _KNOWN and task.finished_at is not None)
