"""Rows of the journal's file: what is written of a rental, and read of it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from cdpbridge.api._place import LOCAL, place_name
from cdpbridge.billing import Receipt, Tariff
from cdpbridge.errors import ConfigurationError

from ._entry import Entry, Outcome
from ._owner import Owner

__all__ = ["MICRO", "entry_of", "ids_text", "insert", "owner_of", "owner_values", "receipt_values", "text_of"]

MICRO: Final = Decimal(1_000_000)
"""Money is kept in whole millionths of a USD."""


def insert(database: sqlite3.Connection, entry: Entry) -> None:
    values: Mapping[str, Any] = {
        "rental": str(entry.rental),
        "place": entry.place,
        "account": entry.account,
        **dict(zip(_OWNER_COLUMNS, owner_values(entry.owner), strict=True)),
        "profile": entry.profile,
        "country": entry.country,
        "label": entry.label,
        "scopes": json.dumps(entry.scopes),
        "timeout_seconds": None if entry.timeout is None else entry.timeout.total_seconds(),
        "usd_per_hour": str(entry.tariff.usd_per_hour),
        "simulated": int(entry.simulated),
        "minimum_minutes": entry.tariff.minimum_minutes,
        "active_before": ids_text(entry.active_before),
        "intended_at": text_of(entry.intended_at),
    }
    marks = ", ".join("?" * len(values))
    database.execute(f"INSERT INTO rentals ({', '.join(values)}) VALUES ({marks})", list(values.values()))  # noqa: S608


_OWNER_COLUMNS: Final = ("pid", "pid_started", "boot", "host", "namespace")


def owner_values(owner: Owner) -> tuple[Any, ...]:
    return owner.pid, owner.started, owner.boot, owner.host, owner.namespace


def owner_of(row: sqlite3.Row) -> Owner:
    return Owner(*(row[column] for column in _OWNER_COLUMNS))


def entry_of(row: sqlite3.Row) -> Entry:
    entry = Entry(
        rental=UUID(row["rental"]),
        place=row["place"],
        account=row["account"],
        owner=owner_of(row),
        tariff=Tariff(Decimal(row["usd_per_hour"]), row["minimum_minutes"]),
        intended_at=datetime.fromisoformat(row["intended_at"]),
        timeout=None if row["timeout_seconds"] is None else timedelta(seconds=row["timeout_seconds"]),
        profile=row["profile"],
        country=row["country"],
        label=row["label"],
        simulated=_simulated(row),
        scopes=tuple(json.loads(row["scopes"])),
        active_before=None
        if row["active_before"] is None
        else frozenset(map(UUID, json.loads(row["active_before"]))),
        given_up=bool(row["given_up"]),
    )
    if row["browser_id"] is not None:
        entry = replace(
            entry,
            browser_id=UUID(row["browser_id"]),
            started_at=datetime.fromisoformat(row["started_at"]),
            timeout_at=datetime.fromisoformat(row["timeout_at"]),
        )
    if row["ended_at"] is not None:
        entry = replace(
            entry,
            ended_at=datetime.fromisoformat(row["ended_at"]),
            outcome=Outcome(row["outcome"]),
            receipt=_receipt(row),
        )
    return entry


def receipt_values(receipt: Receipt) -> dict[str, Any]:
    return {
        "used_seconds": receipt.used.total_seconds(),
        "minutes": receipt.billed_minutes,
        "charged_micro": _micro(receipt.charged),
        "refunded_micro": _micro(receipt.refunded),
        "booked_micro": _micro(receipt.booked),
    }


def _receipt(row: sqlite3.Row) -> Receipt | None:
    if row["used_seconds"] is None:
        return None
    booked = row["booked_micro"]
    return Receipt(
        timedelta(seconds=row["used_seconds"]),
        row["minutes"],
        row["charged_micro"] / MICRO,
        row["refunded_micro"] / MICRO,
        None if booked is None else booked / MICRO,
        simulated=_simulated(row),
        place=place_name(row["place"]),
    )


def _simulated(row: sqlite3.Row) -> bool:
    """Return True for simulated money; an older cdpbridge did not write it, but local() never took any other."""
    return bool(row["simulated"]) or row["place"] == LOCAL


def _micro(amount: Decimal | None) -> int | None:
    return None if amount is None else int(amount * MICRO)


def ids_text(ids: frozenset[UUID] | None) -> str | None:
    return None if ids is None else json.dumps(sorted(map(str, ids)))


def text_of(instant: datetime) -> str:
    """Return a text that sorts as time does."""
    if instant.tzinfo is None:
        raise ConfigurationError(f"an instant needs a time zone, e.g. datetime.now(UTC), not {instant!r}")
    return instant.astimezone(UTC).isoformat(timespec="microseconds")
