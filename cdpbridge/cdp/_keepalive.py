"""When to ping, and when silence ends a connection. Pure: no asyncio, no I/O.

listening ──silent for `interval`──> asked ──silent for `timeout`──> dead
    ^───────────any byte──────────────┘  └─checked too late: asked again for `timeout`
"""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["Keepalive", "Verdict"]

_CHECKS: Final = 4
"""Checks within the shorter period: silence is measured to a quarter of it, and a check costs nothing between messages."""


class Verdict(Enum):
    """Result of a check."""

    WAIT = "wait"
    PING = "ping"
    DEAD = "dead"


class Keepalive:
    """Watch one connection. It is checked now and then, and gets no call for a message.

    Args:
        interval: Seconds of silence before a ping.
        timeout: Seconds of further silence before the connection counts as dead; None: it never does.
        now: Clock reading, seconds.

    Attributes:
        due: When to check next.
    """

    __slots__ = ("_asked", "_deadline", "_has_timeout", "_interval", "_pause", "_timeout", "due")

    def __init__(self, interval: float, timeout: float | None, now: float) -> None:
        if interval <= 0 or (timeout is not None and timeout <= 0):
            raise ValueError(
                "ping_interval and ping_timeout must be positive; None switches the keepalive off"
            )
        self._interval = interval
        self._has_timeout = timeout is not None
        self._timeout = interval if timeout is None else timeout
        self._pause = min(interval, self._timeout) / _CHECKS
        self._deadline = now + interval
        self._asked = False
        self.due = now + self._pause

    def check(self, now: float, *, alive: bool) -> Verdict:
        """Judge at `now`, given whether any byte has come since the last check."""
        late = now - self.due > self._pause / 2
        verdict = Verdict.WAIT
        if alive:
            self._asked = False
            self._deadline = now + self._interval
        elif late and self._asked:
            # Our own loop was blocked: what arrived meanwhile may lie unread in the socket.
            self._deadline = now + self._timeout
        elif now >= self._deadline:
            verdict = Verdict.DEAD if self._asked and self._has_timeout else Verdict.PING
            self._asked = True
            self._deadline = now + self._timeout
        self.due = min(now + self._pause, max(self._deadline, now))
        return verdict
