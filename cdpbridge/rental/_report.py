"""What rentals have cost, summed as asked. Pure: entries of the journal in, rows out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from cdpbridge._loopback import is_loopback
from cdpbridge.api._place import LOCAL, place_name
from cdpbridge.billing import cost

from .journal import Entry, Outcome

__all__ = ["GROUPS", "Spending", "spending"]

GROUPS: Final = ("day", "profile", "country", "label", "place")
"""What can be summed by; days are UTC, as the server's dates are."""


@dataclass(frozen=True, slots=True)
class Spending:
    """One row.

    Attributes:
        group: Its value of each word that was summed by; empty where a rental has none.
        browsers: How many were rented.
        minutes: Billed.
        usd: Paid, as the server booked it, else by the written rule.
        simulated_usd: The same of servers whose money is simulated; not in `usd`.
        running: How many run; they count with what they would cost if they were stopped now.
        unknown: How many ended at a cost that is not known here; they count as nothing.
    """

    group: Mapping[str, str]
    browsers: int
    minutes: int
    usd: Decimal
    simulated_usd: Decimal
    running: int
    unknown: int


def spending(entries: Iterable[Entry], by: Sequence[str], *, now: datetime) -> list[Spending]:
    """Sum what `entries` cost, a row for each group, in order; creates that rented nothing are left out.

    Args:
        entries: Of the journal.
        by: Words of `GROUPS`; without one, all is one row.
        now: For what still runs.
    """
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        if entry.browser_id is not None and entry.outcome not in {Outcome.REFUSED, Outcome.NOTHING}:
            groups.setdefault(tuple(_value(entry, word) for word in by), []).append(entry)
    return [_row(dict(zip(by, key, strict=True)), groups[key], now) for key in sorted(groups)]


def _value(entry: Entry, word: str) -> str:
    if word == "day":
        return f"{(entry.started_at or entry.intended_at).astimezone(UTC):%Y-%m-%d}"
    if word == "place":
        return _place(entry)
    value = getattr(entry, word)
    return "" if value is None else str(value)


def _place(entry: Entry) -> str:
    """Return where it ran. A server of one test run has another port each time, and is this machine all the same."""
    name = place_name(entry.place)
    host = urlsplit(f"//{name}").hostname or ""
    return place_name(LOCAL) if entry.simulated and is_loopback(host) else name


def _row(group: dict[str, str], entries: list[Entry], now: datetime) -> Spending:
    minutes, running, unknown = 0, 0, 0
    usd = {False: Decimal(0), True: Decimal(0)}  # by `simulated`
    for entry in entries:
        receipt = entry.receipt
        if receipt is not None:
            minutes += receipt.billed_minutes
            usd[entry.simulated] += receipt.cost
        elif entry.is_open:
            running += 1
            usd[entry.simulated] += cost(entry.tariff, _used(entry, now))
        else:
            unknown += 1
    return Spending(MappingProxyType(group), len(entries), minutes, usd[False], usd[True], running, unknown)


def _used(entry: Entry, now: datetime) -> timedelta:
    assert entry.started_at is not None  # it has a browser
    assert entry.timeout_at is not None
    return max(min(now, entry.timeout_at) - entry.started_at, timedelta(0))
