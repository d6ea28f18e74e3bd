"""Rate and quality of pictures: when a picture is acknowledged, and at which JPEG quality the browser encodes. Pure.

A page that moves is encoded coarsely, for it costs a core; a page that rests is encoded once more, finely.

    still --4 pictures in 0.5 s--> moving --no picture for 0.3 s--> still

While its pictures wait for an acknowledgement, the browser drops newer ones and never makes up for them, so after a rest that
comes upon a late acknowledgement the page is encoded once more too.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["MOVING_QUALITY", "REST_SECONDS", "STILL_QUALITY", "Pace"]

STILL_QUALITY: Final = 90
MOVING_QUALITY: Final = 60
_POOR_QUALITY: Final = 40
"""For viewers whose line does not carry more; text stays readable."""
REST_SECONDS: Final = 0.3
"""A page without news for so long rests. A blinking caret gives a picture every 0.5 s and shall stay sharp."""
_BURST: Final = 4
_BURST_SECONDS: Final = 0.5
_DROPPED_SHARE: Final = 0.5


class Pace:
    """Follows one page's pictures.

    Args:
        max_per_second: More pictures are not asked for.

    Attributes:
        quality: What the browser should encode with now, 0 to 100.
        rest_seconds: How long the page must have been without news to rest.
    """

    def __init__(self, max_per_second: float) -> None:
        self.limit(max_per_second)
        self._due = 0.0
        self._late = False
        self._recent: deque[float] = deque(maxlen=_BURST)
        self._offered = 0
        self._dropped = 0
        self.quality = STILL_QUALITY

    def limit(self, max_per_second: float) -> None:
        """Set how many pictures are asked for at most."""
        self._interval = 1 / max_per_second
        self.rest_seconds = max(REST_SECONDS, 2 * self._interval)

    def picture(self, now: float) -> float:
        """Note a picture; return when to acknowledge it, in the unit of `now`, seconds.

        The browser sends the next one after that, so it is what limits the rate. After a rest there is no wait: a click
        is answered at once.
        """
        self._recent.append(now)
        self._due = max(now, self._due + self._interval)
        self._late = self._late or self._due > now
        return self._due

    def delivered(self, *, offered: int, dropped: int) -> None:
        """Note how the last picture was delivered: to how many viewers it was offered, and for how many it replaced an unsent one."""
        self._offered += offered
        self._dropped += dropped

    def moves(self, now: float) -> bool:
        """Return True if to encode coarsely from now on; asked after each picture. True once a movement."""
        burst = len(self._recent) == _BURST and now - self._recent[0] <= _BURST_SECONDS
        if not burst or self.quality != STILL_QUALITY:
            return False
        poor = self._offered > 0 and self._dropped / self._offered > _DROPPED_SHARE
        self._offered = self._dropped = 0
        self.quality = _POOR_QUALITY if poor else MOVING_QUALITY
        return True

    @property
    def unsettled(self) -> bool:
        """True if the last picture may not be what the page looks like at its best."""
        return self._late or self.quality != STILL_QUALITY

    def rests(self, now: float) -> bool:
        """Return True if to encode once more, and finely from now on; asked when a picture is `rest_seconds` old. True once a rest."""
        if not self.unsettled or (self._recent and now - self._recent[-1] < self.rest_seconds - 0.001):
            return False
        self.quality = STILL_QUALITY
        self._late = False
        self._due = min(self._due, now - self._interval)
        self._recent.clear()  # the picture that comes of it is no movement
        return True
