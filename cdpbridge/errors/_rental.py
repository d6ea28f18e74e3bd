"""Failures of a rented browser, or of a pool of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from ._base import CDPBridgeError
from ._cdp import ConnectionClosed

__all__ = [
    "BrowserExpired",
    "BrowserStopped",
    "BudgetExceeded",
    "LeaseTimeout",
    "NoFreeSlot",
    "PoolClosed",
    "RecordingUnavailable",
    "RentalError",
    "StopFailed",
]


class RentalError(CDPBridgeError):
    """A failure of a rented browser."""


class BudgetExceeded(RentalError):
    """A budget does not allow one more rental; nothing was rented."""


class NoFreeSlot(RentalError, TimeoutError):
    """No slot for one more browser became free in time; nothing was rented.

    Attributes:
        waited: How long it waited; zero when it did not wait.
        holders: The rentals that hold the slots, as far as known: a line each.
    """

    def __init__(self, why: str, *, waited: timedelta, holders: Sequence[str]) -> None:
        after = f" after {waited.total_seconds():.0f} s" if waited else ""
        held = "".join(f"\n  {holder}" for holder in holders)
        super().__init__(
            f"no slot for a browser{after}: {why}; wait longer (`slot_timeout`), or stop one"
            + (f". The slots are held by:{held}" if held else "")
        )
        self.waited = waited
        self.holders = list(holders)


class BrowserExpired(RentalError, ConnectionClosed):
    """The rented time is over, and so is every connection to the browser.

    Attributes:
        started_at: When it started, by the server's clock.
        timeout_at: When it ended, by the server's clock.
    """

    def __init__(
        self,
        browser_id: object,
        *,
        started_at: datetime,
        timeout_at: datetime,
        closed: ConnectionClosed | None = None,
    ) -> None:
        """Take code, reason and cause from `closed`, the error of the call that found the connection closed."""
        CDPBridgeError.__init__(
            self,
            f"browser {browser_id} timed out at {timeout_at:%Y-%m-%d %H:%M:%S %Z}, started at {started_at:%H:%M:%S}; "
            "rent with a longer timeout",
        )
        self.code = 1001 if closed is None else closed.code  # RFC 6455 section 7.4.1: going away
        self.reason = "session expired" if closed is None else closed.reason
        self.sent = None if closed is None else closed.sent
        self.__cause__ = closed
        self.browser_id = browser_id
        self.started_at = started_at
        self.timeout_at = timeout_at


class BrowserStopped(RentalError):
    """The rented browser was stopped, by this program or by another one with the same key.

    Attributes:
        finished_at: When, by the server's clock, if known.
    """

    def __init__(self, browser_id: object, *, finished_at: datetime | None) -> None:
        when = f" at {finished_at:%Y-%m-%d %H:%M:%S %Z}" if finished_at else ""
        super().__init__(f"browser {browser_id} was stopped{when}")
        self.browser_id = browser_id
        self.finished_at = finished_at


class StopFailed(RentalError):
    """A stop could not be confirmed: the browser may go on costing money until its timeout.

    Attributes:
        browser_id: The browser that may still run.
    """

    def __init__(self, browser_id: object, cause: BaseException | str, *, advice: str | None = None) -> None:
        super().__init__(
            f"browser {browser_id} could not be stopped and may still cost money ({cause}); "
            + (advice or f"run: cdpbridge stop {browser_id}")
        )
        self.browser_id = browser_id


class RecordingUnavailable(RentalError):
    """A browser has no video.

    Attributes:
        browser_id: The browser.
        pending: True if it may have one later: the browser runs, or has just stopped.
    """

    def __init__(self, browser_id: object, *, pending: bool) -> None:
        super().__init__(
            f"browser {browser_id} has no recording "
            + (
                "yet; ask again when it has stopped"
                if pending
                else "and will have none; create it with enable_recording=True, on a server that can record"
            )
        )
        self.browser_id = browser_id
        self.pending = pending


class LeaseTimeout(RentalError, TimeoutError):
    """A lease of a pool's tab took longer than its timeout.

    Attributes:
        waiting: True if no tab was free in time, False if the block that used the tab took too long.
    """

    def __init__(self, message: str, *, waiting: bool) -> None:
        super().__init__(message)
        self.waiting = waiting


class PoolClosed(RentalError):
    """The pool's block is not entered, or was left; it has no tabs to lease."""
