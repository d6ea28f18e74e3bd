"""Admission: before a browser is rented, budgets and a fair wait for a slot, across tasks, threads and processes.

Each rental that may wait draws a number in the journal when it first asks. While it waits, a ticket with that number says for
what, and no rental passes an earlier ticket for the same budget or account, so the first of all can always go on: no deadlock, no
starvation. Admission and the written intention are one transaction, so a ceiling is never passed, however many ask at once.

The server has a ceiling of its own, which only its 429 tells. Then the first in the account's queue asks again, when a rental
of this account ends or after a pause that grows; the others wait behind it instead of asking, too.

The number is kept until the server has answered the create, not until admission, because the answer may be a 429:

    state                                     ticket, and what it blocks
    waits for a budget                        that budget
    waits for the account                     that account
    at the server, has waited for it          that account: the slot it asks for is the one the others wait for
    at the server, has not waited for it      none: creates of programs that met no limit run side by side

After a 429 it waits at its number, before all that came later, also those that queued while it was at the server.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Final, Self

from cdpbridge._concurrency import in_thread
from cdpbridge.errors import BudgetExceeded, NoFreeSlot, RateLimitError

from ._budget import Budget, Verdict, judge
from .journal import Admission, Entry, Journal

__all__ = ["Queue"]

logger = logging.getLogger("cdpbridge")

_POLL_SECONDS: Final = 0.2
_HEARTBEAT: Final = timedelta(seconds=3)
_FORGOTTEN: Final = timedelta(seconds=30)
"""A ticket is ignored after so long without a sign of life, though its process may run."""
_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 15.0


class Queue:
    """Queue position of one rental; a context manager that releases it.

    Args:
        journal: Where the others are seen.
        budgets: Each has to agree.
        timeout: How long to wait for a slot; zero does not wait.
    """

    def __init__(self, journal: Journal, budgets: Sequence[Budget], timeout: timedelta) -> None:
        loop = asyncio.get_running_loop()
        self._journal = journal
        self._budgets = budgets
        self._began = loop.time()
        self._deadline = self._began + timeout.total_seconds()
        self._waits = timeout > timedelta(0)
        self._number: int | None = None
        self._waits_for: frozenset[str] = frozenset()  # what its ticket says; without any there is no ticket
        self._beat = datetime.min.replace(tzinfo=UTC)
        self._queued = False  # it has waited for the account
        self._full: RateLimitError | None = None
        self._pause = _FIRST_PAUSE_SECONDS

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._number is not None and self._waits_for:
            try:
                await in_thread(self._journal.leave, self._number)
            except Exception:  # a ticket without a sign of life is passed after a while
                logger.exception("ticket %d of the queue could not be released", self._number)

    async def enter(self, entry: Entry) -> Entry:
        """Write `entry` into the journal as soon as it is its turn; return it as it was written.

        Raises:
            BudgetExceeded: A budget does not allow it.
            NoFreeSlot: Not in time.
        """
        logged = False
        while True:
            now = datetime.now(UTC)
            entry = replace(entry, intended_at=now)
            refusal = await in_thread(self._journal.admit, lambda admission: self._try(admission, entry, now))  # noqa: B023  # awaited
            if refusal is None:
                return entry
            verdict, why, holders = refusal
            if verdict is Verdict.NEVER or (verdict is Verdict.LATER and not self._waits):
                raise BudgetExceeded(f"{why}; nothing was rented")
            if asyncio.get_running_loop().time() >= self._deadline:
                raise self._too_late(why, holders)
            if not logged:
                logged = True
                logger.info("waiting for a slot: %s", why)
            await asyncio.sleep(_POLL_SECONDS)

    def _too_late(self, why: str, holders: Sequence[Entry]) -> NoFreeSlot:
        waited = asyncio.get_running_loop().time() - self._began if self._waits else 0.0
        return NoFreeSlot(why, waited=timedelta(seconds=waited), holders=[str(each) for each in holders])

    def _try(
        self, admission: Admission, entry: Entry, now: datetime
    ) -> tuple[Verdict, str, list[Entry]] | None:
        """Admit the rental, or enqueue it and return the reason."""
        account = _account_scope(entry)
        waits_for = set()
        if self._waits and self._number is None:
            self._number = admission.number(entry.owner, now=now)
        refusal: tuple[Verdict, str, list[Entry]] | None = None
        for budget in self._budgets:
            usage, running = admission.usage(budget.scope, since=now - budget.per)
            verdict, why = judge(budget, usage, entry.claim)
            if verdict is not Verdict.YES:
                waits_for.add(budget.scope)
                if refusal is None or verdict is Verdict.NEVER:
                    refusal = verdict, why, running
        for scope in (*(budget.scope for budget in self._budgets), account):
            ahead = admission.ahead(scope, self._number, alive_since=now - _FORGOTTEN)
            if ahead:
                waits_for.add(scope)
                holders = admission.holders(entry.place, entry.account)
                refusal = refusal or (Verdict.FULL, f"{ahead} came before and wait, too", holders)
        if refusal is None:
            admission.intend(entry)
            self._hold(admission, entry, {account} if self._queued else set(), now)
            return None
        if self._waits and refusal[0] is not Verdict.NEVER:
            if self._full is not None:
                waits_for.add(account)
            self._queued = self._queued or account in waits_for
            self._hold(admission, entry, waits_for, now)
        return refusal

    def _hold(self, admission: Admission, entry: Entry, scopes: set[str], now: datetime) -> None:
        """Keep a ticket for what it waits for now, or none."""
        if self._number is None or (self._waits_for == scopes and now - self._beat <= _HEARTBEAT):
            return
        if scopes:
            admission.wait(scopes, self._number, entry.owner, now=now)
        elif self._waits_for:
            admission.leave(self._number)
        self._waits_for, self._beat = frozenset(scopes), now

    async def full(self, entry: Entry, error: RateLimitError) -> None:
        """Wait after the server had no slot for the admitted `entry`; return when another try makes sense.

        Raises:
            RateLimitError: The timeout is zero; a note says which programs hold the slots.
            NoFreeSlot: Not in time.
        """
        holders = await in_thread(self._journal.admit, lambda admission: self._at_account(admission, entry))
        if not self._waits:
            error.add_note(_held(holders) + "; to wait for one, give a `slot_timeout`")
            raise error
        if self._full is None:
            logger.warning("%s; waiting for a slot. %s", error, _held(holders))
        self._full = error
        loop = asyncio.get_running_loop()
        again = loop.time() + max(self._pause, error.retry_after or 0)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)
        while loop.time() < again:
            if loop.time() >= self._deadline:
                raise self._too_late(str(error), holders) from error
            await asyncio.sleep(_POLL_SECONDS)
            left = await in_thread(self._journal.admit, lambda admission: self._at_account(admission, entry))
            if len(left) < len(holders):  # one has ended
                return

    def _at_account(self, admission: Admission, entry: Entry) -> list[Entry]:
        """Wait for the account, at the same queue position; return the rentals that hold its slots."""
        if self._waits:
            self._queued = True
            self._hold(admission, entry, {_account_scope(entry)}, datetime.now(UTC))
        return admission.holders(entry.place, entry.account)


def _account_scope(entry: Entry) -> str:
    return f"account {entry.place} {entry.account}"


def _held(holders: Sequence[Entry]) -> str:
    if not holders:
        return "no program of this machine holds one: they are held by other users of the key (`cdpbridge browsers` lists them)"
    return "the slots this machine holds: " + "; ".join(map(str, holders))
