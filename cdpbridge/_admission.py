"""Before a browser is rented: budgets, and a fair wait for a slot, across tasks, threads and processes.

Who cannot be let in takes a ticket in the journal. Tickets are numbered, and nobody passes an earlier one that waits for the same
budget or account, so the first of all can always go on: no deadlock, no starvation. Being let in and writing the intention
are one transaction, so a ceiling is never passed, however many ask at once.

The server has a ceiling of its own, which only its 429 tells. Then the first in the account's queue asks again, when a rental
of this account ends or after a pause that grows; the others wait behind it instead of asking, too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Final, Self

from cdpbridge._shield import in_thread
from cdpbridge.budget import Budget, Verdict, judge
from cdpbridge.errors import BudgetExceeded, NoFreeSlot, RateLimitError
from cdpbridge.journal import Admission, Entry, Journal

__all__ = ["Queue"]

logger = logging.getLogger("cdpbridge")

_POLL_SECONDS: Final = 0.2
_HEARTBEAT: Final = timedelta(seconds=3)
_FORGOTTEN: Final = timedelta(seconds=30)
"""A ticket whose owner has not been heard of for so long is void, though its process may live."""
_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 15.0


class Queue:
    """One rental's way in. A block: leaving it gives up the place.

    Args:
        journal: Where the others are seen.
        budgets: Each has to agree.
        patience: How long to wait for a slot; zero does not wait.
    """

    def __init__(self, journal: Journal, budgets: Sequence[Budget], patience: timedelta) -> None:
        loop = asyncio.get_running_loop()
        self._journal = journal
        self._budgets = budgets
        self._began = loop.time()
        self._deadline = self._began + patience.total_seconds()
        self._patient = patience > timedelta(0)
        self._ticket: int | None = None
        self._waits_for: frozenset[str] = frozenset()
        self._beat = datetime.min.replace(tzinfo=UTC)
        self._full: RateLimitError | None = None
        self._pause = _FIRST_PAUSE_SECONDS

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ticket is not None:
            try:
                await in_thread(self._journal.leave, self._ticket)
            except Exception:  # a ticket without a sign of life is passed after a while
                logger.exception("ticket %d of the queue could not be given back", self._ticket)

    async def enter(self, entry: Entry) -> Entry:
        """Write `entry` into the journal as soon as it is its turn; as it was written.

        Raises:
            BudgetExceeded: A budget does not allow it.
            NoFreeSlot: Not in time.
        """
        told = False
        while True:
            now = datetime.now(UTC)
            entry = replace(entry, intended_at=now)
            refusal = await in_thread(self._journal.admit, lambda admission: self._try(admission, entry, now))  # noqa: B023  # awaited
            if refusal is None:
                return entry
            verdict, why, holders = refusal
            if verdict is Verdict.NEVER or (verdict is Verdict.LATER and not self._patient):
                raise BudgetExceeded(f"{why}; nothing was rented")
            if asyncio.get_running_loop().time() >= self._deadline:
                raise self._too_late(why, holders)
            if not told:
                told = True
                logger.info("waiting for a slot: %s", why)
            await asyncio.sleep(_POLL_SECONDS)

    def _too_late(self, why: str, holders: Sequence[Entry]) -> NoFreeSlot:
        waited = asyncio.get_running_loop().time() - self._began if self._patient else 0.0
        return NoFreeSlot(why, waited=timedelta(seconds=waited), holders=[str(each) for each in holders])

    def _try(
        self, admission: Admission, entry: Entry, now: datetime
    ) -> tuple[Verdict, str, list[Entry]] | None:
        """Let it in, or say why not and queue."""
        account = _account_scope(entry)
        waits_for = set()
        refusal: tuple[Verdict, str, list[Entry]] | None = None
        for budget in self._budgets:
            usage, running = admission.usage(budget.scope, since=now - budget.per)
            verdict, why = judge(budget, usage, entry.claim)
            if verdict is not Verdict.YES:
                waits_for.add(budget.scope)
                if refusal is None or verdict is Verdict.NEVER:
                    refusal = verdict, why, running
        for scope in (*(budget.scope for budget in self._budgets), account):
            ahead = admission.ahead(scope, self._ticket, alive_since=now - _FORGOTTEN)
            if ahead:
                waits_for.add(scope)
                holders = admission.holders(entry.place, entry.account)
                refusal = refusal or (Verdict.FULL, f"{ahead} came before and wait, too", holders)
        if refusal is None:
            admission.intend(entry)
            if self._full is None and self._ticket is not None:
                admission.leave(self._ticket)
                self._ticket = None
            return None
        if self._patient and refusal[0] is not Verdict.NEVER:
            if self._full is not None:
                waits_for.add(account)
            self._wait(admission, entry, waits_for, now)
        return refusal

    def _wait(self, admission: Admission, entry: Entry, scopes: set[str], now: datetime) -> None:
        if self._ticket is None or self._waits_for != scopes or now - self._beat > _HEARTBEAT:
            self._ticket = admission.wait(scopes, self._ticket, entry.owner, now=now)
            self._waits_for, self._beat = frozenset(scopes), now

    async def full(self, entry: Entry, error: RateLimitError) -> None:
        """The server has no slot for `entry`, which it was let in with: return when it is worth another try.

        Raises:
            RateLimitError: There is no patience; a note says who holds the slots.
            NoFreeSlot: Not in time.
        """
        holders = await in_thread(self._journal.admit, lambda admission: self._back(admission, entry))
        if not self._patient:
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
            left = await in_thread(self._journal.admit, lambda admission: self._still(admission, entry))
            if len(left) < len(holders):  # one has ended
                return

    def _back(self, admission: Admission, entry: Entry) -> list[Entry]:
        """Queue at the place it had."""
        if self._patient:
            self._wait(admission, entry, {_account_scope(entry)}, datetime.now(UTC))
        return admission.holders(entry.place, entry.account)

    def _still(self, admission: Admission, entry: Entry) -> list[Entry]:
        self._wait(admission, entry, {_account_scope(entry)}, datetime.now(UTC))
        return admission.holders(entry.place, entry.account)


def _account_scope(entry: Entry) -> str:
    return f"account {entry.place} {entry.account}"


def _held(holders: Sequence[Entry]) -> str:
    if not holders:
        return "no program of this machine holds one: they are held by other users of the key (`cdpbridge browsers` lists them)"
    return "the slots this machine holds: " + "; ".join(map(str, holders))
