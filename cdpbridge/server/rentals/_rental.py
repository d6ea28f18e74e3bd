"""`Rental`: one rented browser as this server knows it, until it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from cdpbridge._clock import TimerHandle
from cdpbridge._lifecycle import Deadline, EndReason, Lifecycle, State
from cdpbridge.server.profiles import NO_VERSION, ProfileVersion
from cdpbridge.server.store import Browser

from ._starts import Start

__all__ = ["OnEnd", "Rental"]

# Generation of a browser whose server is its first.
_FIRST: Final = 1

OnEnd = Callable[[UUID, EndReason], object]


class Rental:
    """One rented browser.

    Args:
        project_id: Who pays.
        browser_id: Of the browser, chosen before it starts.
        profile_id: The profile that it uses, if any.
        key: Project and `Idempotency-Key` of the request that created it, None without a key.
        body_hash: Of that request's body.
        run: Starts it.
        on_end: Called once when it leaves the state `active`, with its id and the reason.
        generation: The how many-th owner of it this server is.

    Attributes:
        life: Its state and the reason of its end.
        start: Its start, which all requests with its key share.
        exited: Set when its process has ended by itself.
        discarded: No client received it, so everything is refunded and nothing of it is kept.
        deadline: When its paid time is over; None before it is active.
        timers: By name: `expire`, and `hour` for the next charge.
        ending: The task that shuts it down; None before.
        record: Of its end, once that is written.
        profile_version: The version of its profile that it began with.
        saves_profile: It may save it.
    """

    def __init__(
        self,
        project_id: UUID,
        browser_id: UUID,
        profile_id: UUID | None,
        *,
        key: tuple[UUID, str] | None,
        body_hash: str,
        run: Callable[[Rental], Coroutine[Any, Any, Browser]],
        on_end: OnEnd,
        generation: int = _FIRST,
    ) -> None:
        self.project_id = project_id
        self.id = browser_id
        self.profile_id = profile_id
        self.key = key
        self.generation = generation
        self.on_end = on_end
        self.life = Lifecycle()
        self.exited = asyncio.Event()
        self.discarded = False
        self.deadline: Deadline | None = None
        self.timers: dict[str, TimerHandle] = {}
        self.ending: asyncio.Task[None] | None = None
        self.record: Browser | None = None
        self.profile_version = NO_VERSION
        self.saves_profile = False
        self.start = Start(browser_id, body_hash, run(self))

    @classmethod
    def taken_over(cls, browser: Browser, version: ProfileVersion, *, began: float, on_end: OnEnd) -> Rental:
        """Return the rental of a browser that another server has started, and that is this one's now.

        Args:
            browser: Active or stopping.
            version: Of its profile: that which it began with, as no other browser may save it.
            began: When it did, by the monotonic clock, in seconds.
            on_end: See above.
        """

        async def known(_rental: Rental) -> Browser:
            return browser

        rental = cls(
            browser.project_id,
            browser.id,
            browser.profile_id,
            key=None,
            body_hash="",
            run=known,
            on_end=on_end,
            generation=browser.generation,
        )
        rental.life = Lifecycle(State(browser.state), browser.reason)
        rental.start.delivered = True
        rental.deadline = Deadline(began, browser.timeout)
        rental.profile_version = version
        rental.saves_profile = bool(browser.profile_writable)
        return rental

    @property
    def is_active(self) -> bool:
        """True while it runs and is paid for."""
        return self.life.state is State.ACTIVE

    @property
    def was_elsewhere(self) -> bool:
        """True if another server has started it."""
        return self.generation > _FIRST

    @property
    def withdrawn(self) -> bool:
        """True if it ends as if it had never been: its `Idempotency-Key` is free again after that."""
        return self.start.cancelled or self.discarded

    @property
    def reason(self) -> EndReason:
        """Why it ended; only for a rental that has left `starting` or `active`."""
        assert self.life.reason is not None  # set by the signal that ended it
        return self.life.reason

    def used(self, now: float) -> timedelta:
        """Return how much of the paid time is used at `now`, a reading of the monotonic clock in seconds."""
        return self.deadline.used(now) if self.deadline else timedelta(0)

    def stand_still(self, used: timedelta, now: float) -> None:
        """Let so much of the paid time be used at `now`: it is not known to have run after that."""
        assert self.deadline is not None  # it is active
        self.deadline = Deadline(now - used.total_seconds(), self.deadline.timeout)

    def cancel_timers(self) -> None:
        """Cancel the timers of the deadline and of the next charge."""
        for timer in self.timers.values():
            timer.cancel()
        self.timers.clear()

    async def ended(self) -> None:
        """Wait for the end of its start and, if it ran, of its shutdown."""
        await asyncio.wait({self.start.task})
        if self.ending is not None:
            await asyncio.wait({self.ending})
