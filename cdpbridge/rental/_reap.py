"""`reap`: stop the browsers that dead programs have left rented, as the journal records them."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Final
from uuid import UUID

from cdpbridge._concurrency import in_thread
from cdpbridge._durations import waiting_time
from cdpbridge.api import AsyncClient, BrowserSession, BrowserSessionStatus
from cdpbridge.billing import Receipt, Tariff, cost, money_text
from cdpbridge.errors import NotFoundError
from cdpbridge.providers import provider as client_of
from cdpbridge.rental.journal._owner import Fate

from ._create import active_browsers, candidates_of, reap_command
from ._price import Price, price_of
from ._stop import confirmed_stop, receipt_of, said_by
from .journal import LOCAL, Entry, Journal, Outcome, journal_at

__all__ = ["ReapOutcome", "ReapResult", "reap"]

logger = logging.getLogger("cdpbridge")

_STOP_TIMEOUT: Final = timedelta(seconds=30)
_SIDE_BY_SIDE: Final = 8
_MAY_STILL_COME: Final = timedelta(minutes=10)
"""A create without an answer brings nothing any more after so long: longer than any proxy or server keeps a request."""


class ReapOutcome(StrEnum):
    """What happened to a browser, or to an entry of the journal."""

    STOPPED = "stopped"
    """It ran, and was stopped."""
    WOULD_STOP = "would stop"
    """It runs, and only `dry_run` keeps it from being stopped."""
    WAS_OVER = "was over"
    """It had ended already; the journal says so now."""
    FAILED = "failed"
    """It may still run; the next `reap` tries again."""
    SKIPPED = "skipped"
    """It was left alone; `reason` says why."""


@dataclass(frozen=True, slots=True)
class ReapResult:
    """One browser or journal entry that `reap` looked at.

    Attributes:
        outcome: What happened to it.
        browser_id: None for a create that has brought nothing.
        entry: What the journal knew of it; None for a browser that was not in it.
        receipt: What it cost, where that is known.
        saved: USD that it would have cost more, had it run until its timeout.
        reason: Why it failed, was skipped, or was looked at.
    """

    outcome: ReapOutcome
    browser_id: UUID | None
    entry: Entry | None
    receipt: Receipt | None = None
    saved: Decimal = Decimal(0)
    reason: str = ""

    @property
    def simulated(self) -> bool:
        """True where the server's money is simulated, as far as that is known."""
        if self.receipt is not None:
            return self.receipt.simulated
        return self.entry is not None and self.entry.simulated

    def __str__(self) -> str:
        what = "a create without an answer" if self.browser_id is None else f"browser {self.browser_id}"
        whose = f" of {self.entry.owner}" if self.entry is not None else ""
        label = f" ({self.entry.label})" if self.entry is not None and self.entry.label else ""
        text = f"{what}{whose}{label}: {self.outcome}"
        if self.saved:
            text += f", {money_text(self.saved)} {'simulated ' if self.simulated else ''}USD saved"
        return f"{text}: {self.reason}" if self.reason else text


async def reap(
    provider: AsyncClient | str | None = None,
    *,
    journal: Journal | Path | str | None = None,
    all_of_this_key: bool = False,
    dry_run: bool = False,
    stop_timeout: float | timedelta = _STOP_TIMEOUT,
) -> list[ReapResult]:
    """Stop the browsers of programs that were killed, or could not stop them.

    What a living process owns is never touched, nor is what runs on other servers than `provider`'s: the key goes only where you
    send it. Browsers of an embedded server (`local()`) have ended with their program; their entries are closed without a
    request, as another program may listen on that port now.

    Args:
        provider: Where, as of `open_browser`.
        journal: As of `open_browser`.
        all_of_this_key: Also stop what is active for this key and in no entry of the journal, or in one of another machine or
            container. Other machines that use the key lose their browsers.
        dry_run: Only say what would be done.
        stop_timeout: For each stop, retries included.

    Returns:
        One result for each browser and entry. One that fails does not keep the others from being stopped.

    Raises:
        ConfigurationError: There is no key.
        APIError: The active browsers could not be listed, which only `all_of_this_key` and creates without an answer need.
    """
    limit = waiting_time("stop_timeout", stop_timeout)
    book = journal_at(journal)
    client = client_of(provider)
    work = _Reap(client, book, limit, dry_run=dry_run)
    open_entries = await in_thread(book.open_entries)
    done = [await work.close_local(entry) for entry in open_entries if entry.place == LOCAL and _left(entry)]
    here: list[Entry] = []
    if client.place != LOCAL:
        account = await in_thread(book.fingerprint, client.address()["api_key"])
        for entry in open_entries:
            if not _left(entry, unknown=all_of_this_key):
                if entry.owner.fate is Fate.UNKNOWN:
                    done.append(_skipped(entry, "its owner is on another machine or in another container"))
            elif entry.place != client.place:
                if entry.place != LOCAL:
                    done.append(
                        _skipped(
                            entry, f"it is on another server; run: cdpbridge reap --provider {entry.place}"
                        )
                    )
            elif entry.account != account:
                done.append(_skipped(entry, "it was rented with another API key"))
            else:
                here.append(entry)
        if here or all_of_this_key:
            async with client.share():
                done += await work.clean(here, everything=all_of_this_key)
    return done


def _left(entry: Entry, *, unknown: bool = False) -> bool:
    """Return True if no living program will stop it."""
    fate = entry.owner.fate
    return entry.given_up or fate is Fate.DEAD or (unknown and fate is Fate.UNKNOWN)


def _skipped(entry: Entry, reason: str) -> ReapResult:
    return ReapResult(ReapOutcome.SKIPPED, entry.browser_id, entry, reason=reason)


class _Reap:
    def __init__(
        self, client: AsyncClient, journal: Journal, stop_timeout: timedelta, *, dry_run: bool
    ) -> None:
        self._client = client
        self._journal = journal
        self._stop_timeout = stop_timeout
        self._dry_run = dry_run
        self._slots = asyncio.Semaphore(_SIDE_BY_SIDE)
        self._asking = asyncio.Lock()
        self._price_said: Price | None = None

    async def close_local(self, entry: Entry) -> ReapResult:
        """Close an entry whose server has ended with its owner, and settled by itself."""
        await self._end(entry, Outcome.SERVER_ENDED, None)
        return ReapResult(
            ReapOutcome.WAS_OVER, entry.browser_id, entry, reason="it ended with its embedded server"
        )

    async def _end(self, entry: Entry, outcome: Outcome, receipt: Receipt | None) -> None:
        if not self._dry_run:
            await in_thread(self._journal.end, entry.rental, outcome, receipt, now=datetime.now(UTC))

    async def clean(self, left: list[Entry], *, everything: bool) -> list[ReapResult]:
        """Stop what is left behind here; with `everything`, also what no living program may be waiting for."""
        known = [entry for entry in left if entry.browser_id is not None]
        unknown = [entry for entry in left if entry.browser_id is None]
        done = list(await asyncio.gather(*(self._stop_entry(entry) for entry in known)))
        if not unknown and not everything:
            return done
        active = await active_browsers(self._client)
        # Read after that list: an intention is written before its browser can be in the list.
        journaled = await in_thread(self._journal.known_browsers, self._client.place)
        # Those of other keys, too: two keys may be of one account.
        renting = [
            each
            for each in await in_thread(self._journal.open_entries)
            if each.browser_id is None
            and each.place == self._client.place
            and not _left(each, unknown=everything)
        ]
        free = [
            browser
            for browser in active
            if browser.id not in journaled
            and not any(candidates_of(entry, [browser], frozenset()) for entry in renting)
        ]
        for entry in unknown:
            settled = await self._settle(
                entry, free, [each for each in active if each.id not in journaled], renting
            )
            # It was that create's, so it is no other's.
            free = [browser for browser in free if browser.id != settled.browser_id]
            active = [browser for browser in active if browser.id != settled.browser_id]
            done.append(settled)
        if everything:
            done += await asyncio.gather(*(self._stop_stray(browser) for browser in free))
        return done

    async def _stop_entry(self, entry: Entry) -> ReapResult:
        assert entry.browser_id is not None  # `clean` gives no other
        try:
            async with self._slots:
                record = await self._client.browsers.get(entry.browser_id)
                was_over = record.status == BrowserSessionStatus.STOPPED
                if self._dry_run and not was_over:
                    return ReapResult(
                        ReapOutcome.WOULD_STOP,
                        entry.browser_id,
                        entry,
                        saved=_left_to_pay(record, entry.tariff),
                    )
                if not was_over:
                    stopped = await confirmed_stop(
                        self._client, entry.browser_id, self._stop_timeout, simulated=entry.simulated
                    )
                    record = stopped or record
        except NotFoundError:
            await self._end(entry, Outcome.STOPPED, None)
            return ReapResult(
                ReapOutcome.WAS_OVER, entry.browser_id, entry, reason="the server has forgotten it"
            )
        except Exception as error:  # noqa: BLE001  # the others are stopped all the same
            return ReapResult(ReapOutcome.FAILED, entry.browser_id, entry, reason=said_by(error))
        try:
            receipt = receipt_of(record, entry)
            await self._end(entry, Outcome.STOPPED, receipt)
        except Exception as error:  # noqa: BLE001  # as above
            reason = f"it is stopped, but the journal cannot be written: {said_by(error)}"
            return ReapResult(ReapOutcome.FAILED, entry.browser_id, entry, reason=reason)
        saved = Decimal(0) if was_over else _saved(record, receipt, entry.tariff)
        outcome = ReapOutcome.WAS_OVER if was_over else ReapOutcome.STOPPED
        return ReapResult(outcome, entry.browser_id, entry, receipt, saved)

    # --- creates without an answer --------------------------------------------------------------------------------

    async def _settle(
        self,
        entry: Entry,
        free: list[BrowserSession],
        unclear: list[BrowserSession],
        renting: list[Entry],
    ) -> ReapResult:
        """Find what came of a create: in `free`, or in `unclear`, where some may be of the creates in `renting`."""
        mine = candidates_of(entry, free, frozenset())
        if mine:
            return await self._stop_candidate(
                entry, min(mine, key=lambda each: abs(each.started_at - entry.intended_at))
            )
        if mine := candidates_of(entry, unclear, frozenset()):
            rivals = [each.owner for each in renting if candidates_of(each, mine, frozenset())]
            seen = any(each.fate is Fate.ALIVE for each in rivals)
            who = "another running program" if seen else f"{rivals[0]}, which cannot be seen from here,"
            return _skipped(entry, f"{who} is creating a browser; this one may be its")
        if entry.active_before is None:
            return await self._without_list(entry)
        if datetime.now(UTC) - entry.intended_at < _MAY_STILL_COME:
            return _skipped(entry, "its answer may still come; reap again in 10 minutes")
        await self._end(entry, Outcome.NOTHING, None)
        return ReapResult(ReapOutcome.WAS_OVER, None, entry, reason="no browser came of it")

    async def _without_list(self, entry: Entry) -> ReapResult:
        """Settle an entry without a list of what was active before: at its timeout, its browser has ended."""
        if datetime.now(UTC) - entry.intended_at > (entry.timeout or _LONGEST_TIMEOUT) + _MAY_STILL_COME:
            await self._end(entry, Outcome.NOTHING, None)
            return ReapResult(
                ReapOutcome.WAS_OVER, None, entry, reason="whatever came of it has ended by now"
            )
        return _skipped(
            entry,
            f"what came of it is not known; see `cdpbridge browsers`, or: {reap_command(self._client)} --all-of-this-key",
        )

    async def _stop_candidate(self, entry: Entry, browser: BrowserSession) -> ReapResult:
        if not self._dry_run:
            await in_thread(
                self._journal.rented,
                entry.rental,
                browser.id,
                started_at=browser.started_at,
                timeout_at=browser.timeout_at,
            )
            return await self._stop_entry(
                replace(
                    entry,
                    browser_id=browser.id,
                    started_at=browser.started_at,
                    timeout_at=browser.timeout_at,
                )
            )
        return ReapResult(
            ReapOutcome.WOULD_STOP, browser.id, entry, saved=_left_to_pay(browser, entry.tariff)
        )

    # --- strays ---------------------------------------------------------------------------------------------------

    async def _stop_stray(self, browser: BrowserSession) -> ReapResult:
        """Stop it first: what it costs is asked for after that, and is no obstacle."""
        record: BrowserSession | None = browser
        if not self._dry_run:
            try:
                async with self._slots:
                    record = await confirmed_stop(self._client, browser.id, self._stop_timeout)
            except Exception as error:  # noqa: BLE001  # as above
                return ReapResult(ReapOutcome.FAILED, browser.id, None, reason=said_by(error))
        if record is None:
            return ReapResult(ReapOutcome.WAS_OVER, browser.id, None, reason="the server has forgotten it")
        outcome = ReapOutcome.WOULD_STOP if self._dry_run else ReapOutcome.STOPPED
        try:
            price = await self._price()
            if self._dry_run:
                saved = _left_to_pay(record, price.tariff)
                return ReapResult(outcome, browser.id, None, saved=saved, reason=_STRAY)
            receipt = receipt_of(record, price)
            saved = _saved(record, receipt, price.tariff)
        except Exception as error:  # noqa: BLE001  # as above
            reason = f"{_STRAY}; what it cost is not known: {said_by(error)}"
            return ReapResult(outcome, browser.id, None, reason=reason)
        return ReapResult(outcome, browser.id, None, receipt, saved, _STRAY)

    async def _price(self) -> Price:
        """Ask for the server's price, once."""
        async with self._asking:
            if self._price_said is None:
                self._price_said = await price_of(self._client)
        return self._price_said


_STRAY: Final = "it was in no journal here"
_LONGEST_TIMEOUT: Final = timedelta(hours=4)  # REST reference, plans


def _saved(record: BrowserSession, receipt: Receipt, tariff: Tariff) -> Decimal:
    """Return what the rest of its paid time would have cost."""
    return max(cost(tariff, _duration(record)) - receipt.paid, Decimal(0))


def _left_to_pay(record: BrowserSession, tariff: Tariff) -> Decimal:
    """Return what a stop now would save; by this machine's clock, so only to show."""
    used = min(max(datetime.now(UTC) - record.started_at, timedelta(0)), _duration(record))
    return cost(tariff, _duration(record)) - cost(tariff, used)


def _duration(record: BrowserSession) -> timedelta:
    return max(record.timeout_at - record.started_at, timedelta(0))
