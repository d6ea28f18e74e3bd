"""The end of a browser, in the words of the live page. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Final

from cdpbridge._lifecycle import EndReason
from cdpbridge.billing import money_text

__all__ = ["Outcome"]

_TITLES: Final = {
    EndReason.STOPPED_BY_CALLER: "Session stopped",
    EndReason.EXPIRED: "Session timed out",
    EndReason.BROWSER_EXITED: "The browser exited",
    EndReason.DISK_LIMIT: "Disk limit reached",
    EndReason.MEMORY_LIMIT: "Memory limit reached",
    EndReason.PROCESS_LIMIT: "Process limit reached",
    EndReason.START_FAILED: "The browser did not start",
    EndReason.SERVER_LOST: "The server stopped",
    EndReason.WORKER_LOST: "The browser's machine was lost",
}
_VERBS: Final = {EndReason.STOPPED_BY_CALLER: "Stopped", EndReason.EXPIRED: "Timed out"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a rental.

    Attributes:
        reason: None when it is not known.
        used: From start to end; None when it never ran.
        refunded: In USD.
    """

    reason: EndReason | None = None
    used: timedelta | None = None
    refunded: Decimal = Decimal(0)

    def words(self, *, money: bool) -> tuple[str, str]:
        """Return a title and a sentence; with `money`, also the refund, which viewers of a share may not see."""
        title = _TITLES[self.reason] if self.reason is not None else "Session ended"
        if self.used is None:
            return title, ""
        verb = _VERBS.get(self.reason, "Ended") if self.reason is not None else "Ended"
        sentence = f"{verb} after {_duration(self.used)}"
        if money and self.refunded:
            sentence += f", refunded {_amount(self.refunded)} USD"
        return title, f"{sentence}."


def _duration(used: timedelta) -> str:
    seconds = max(0, round(used.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _amount(amount: Decimal) -> str:
    """Round down, so that no more is shown than was booked."""
    rounded = amount.quantize(Decimal("0.0001"), rounding="ROUND_DOWN")
    return money_text(rounded or amount)
