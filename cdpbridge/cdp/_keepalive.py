"""When to ping, and when silence means death. Pure: no asyncio, no I/O.

listening ──silent for `interval`──> asked ──silent for `timeout`──> dead
    ^───────────any byte──────────────┘  └─looked too late: asked again for `timeout`
"""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["Keepalive", "Verdict"]

_LOOKS: Final = 4
"""Looks within the shorter period: silence is measured to a quarter of it, and a look costs nothing between messages."""


class Verdict(Enum):
    """What a look came to."""

    WAIT = "wait"
    PING = "ping"
    DEAD = "dead"


class Keepalive:
    """The watch over one link. It is looked at now and then, never told of a message.

    Args:
        interval: Seconds of silence before a ping.
        timeout: Seconds of further silence before the link counts as dead; None: it never does.
        now: Clock reading, seconds.

    Attributes:
        due: When to look next.
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
        self._pause = min(interval, self._timeout) / _LOOKS
        self._deadline = now + interval
        self._asked = False
        self.due = now + self._pause

    def check(self, now: float, *, alive: bool) -> Verdict:
        """Judge at `now`, given whether anything was heard since the last look."""
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
