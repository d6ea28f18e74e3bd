"""What this user has rented and not yet seen stopped. It survives whatever ends the program: SIGKILL, power loss.

One SQLite file for all programs of a user. A rental has one row, written in three steps, each on disk before the program
goes on:

    intention   before `POST /browsers`: who (process), where (server, fingerprint of the key), what
    rented      the browser's id and dates, as soon as they are known
    ended       after a stop that the server confirmed, with the receipt

A row without an end whose owner is dead is a leak, and `cdpbridge.reap` stops it. Queues of waiting programs are kept here too,
so that slots are given first come, first served across processes.

A connection is opened for one transaction (some ms, most of them the flush to disk): nothing is held open, so forks, threads, a
deleted file and closed loops need no care. API keys are never written: a keyed hash tells which key a rental belongs to.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

import platformdirs

from cdpbridge._journal_file import (
    Unusable,
    committed,
    connect,
    is_broken,
    make_tables,
    only_one,
    opened,
    put_aside_if_broken,
)
from cdpbridge._owner import Fate, Owner
from cdpbridge.billing import Receipt, Tariff
from cdpbridge.budget import MACHINE, Claim, Usage
from cdpbridge.errors import ConfigurationError

__all__ = ["LOCAL", "Admission", "Entry", "Journal", "Outcome", "journal_at"]

logger = logging.getLogger("cdpbridge")

T = TypeVar("T")

VARIABLE: Final = "CDPBRIDGE_JOURNAL"
OFF: Final = "off"
LOCAL: Final = "local"
"""Place of embedded servers: each ends with its owner, and what then listens on its port is something else."""

_MICRO: Final = Decimal(1_000_000)


class Outcome(StrEnum):
    """How an entry was closed."""

    STOPPED = "stopped"
    """The server confirmed that the browser is stopped, or has forgotten it."""
    REFUSED = "refused"
    """The server refused the create; nothing was rented."""
    NOTHING = "nothing"
    """The create was sent, but no browser came of it."""
    SERVER_ENDED = "server_ended"
    """It ran on an embedded server, and ended with it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One rental.

    Attributes:
        rental: Our id, sent as `Idempotency-Key`.
        place: Base URL of the server; `"local"` for an embedded one.
        account: Fingerprint of the API key.
        owner: The process that rented it.
        tariff: Price rule of its receipt.
        intended_at: When it was ordered, by this machine's clock.
        timeout: As ordered; None for the server's default.
        profile: As ordered: a name or an id.
        country: Country of the proxy as ordered; None for none or the server's choice.
        label: The program's own word for it.
        scopes: Of the budgets that count it.
        active_before: Browsers that were active when it was ordered; None where the server did not tell.
        browser_id: None until the server's answer.
        started_at: By the server's clock.
        timeout_at: By the server's clock.
        given_up: Its owner could not stop it, or could not learn what its create brought, and leaves it to `reap`.
        ended_at: When the end was known here; None before.
        outcome: How it ended.
        receipt: What it cost; None where that is not known.
    """

    rental: UUID
    place: str
    account: str
    owner: Owner
    tariff: Tariff
    intended_at: datetime
    timeout: timedelta | None = None
    profile: str | None = None
    country: str | None = None
    label: str | None = None
    scopes: tuple[str, ...] = ()
    active_before: frozenset[UUID] | None = None
    browser_id: UUID | None = None
    started_at: datetime | None = None
    timeout_at: datetime | None = None
    given_up: bool = False
    ended_at: datetime | None = None
    outcome: Outcome | None = None
    receipt: Receipt | None = None

    @property
    def is_open(self) -> bool:
        """Whether it may still cost money."""
        return self.ended_at is None

    @property
    def claim(self) -> Claim:
        """What it may use at most."""
        if self.timeout_at is not None and self.started_at is not None:
            return Claim(self.tariff, self.timeout_at - self.started_at)
        return Claim(self.tariff, self.timeout)

    def __str__(self) -> str:
        name = f" ({self.label})" if self.label else ""
        what = f"browser {self.browser_id}" if self.browser_id else "a browser that is being rented"
        end = f", until {self.timeout_at:%H:%M:%S %Z}" if self.timeout_at else ""
        return f"{what} of {self.owner}{name}, since {self.started_at or self.intended_at:%H:%M:%S %Z}{end}"


class Journal:
    """The journal in one file. Every method is one transaction; all may be called from any thread, and block for a few ms.

    A file that cannot be used never stops a rental: it is said once, and this process goes on with a journal in memory, which
    still enforces budgets but cannot be reaped after a crash.

    Args:
        path: The file; its folder is made if missing. Default: `CDPBRIDGE_JOURNAL`, else `journal.sqlite3` in the platform's
            state folder; the word `off` keeps none.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        given = (
            path
            or os.environ.get(VARIABLE)
            or Path(platformdirs.user_state_dir("cdpbridge")) / "journal.sqlite3"
        )
        self.path: Path | None = None if str(given) == OFF else Path(given)
        self._memory: sqlite3.Connection | None = None
        self._memory_lock = threading.RLock()
        self._salt: bytes | None = None

    def __repr__(self) -> str:
        return f"<Journal {self.path if self._memory is None and self.path else 'in memory'}>"

    # --- rentals --------------------------------------------------------------------------------------------------

    def fingerprint(self, api_key: str) -> str:
        """What stands for an API key in this journal; another journal has another one for the same key."""
        if self._salt is None:
            self._salt = self._run(
                lambda database: bytes(database.execute("SELECT value FROM salt").fetchone()[0]),
                durable=False,
            )
        return hashlib.blake2b(api_key.encode(), key=self._salt, digest_size=16).hexdigest()

    def intend(self, entry: Entry) -> None:
        """Write that a browser is going to be rented; on disk when this returns."""
        self._run(lambda database: _insert(database, entry))

    def looked(self, rental: UUID, active_before: frozenset[UUID] | None) -> None:
        """Write which browsers were active just before it was ordered."""
        self._update(rental, active_before=_ids_text(active_before))

    def rented(self, rental: UUID, browser_id: UUID, *, started_at: datetime, timeout_at: datetime) -> bool:
        """Write which browser it became.

        Returns:
            False when another entry has that browser, so that this one cannot.
        """
        try:
            self._update(
                rental, browser_id=str(browser_id), started_at=_text(started_at), timeout_at=_text(timeout_at)
            )
        except sqlite3.IntegrityError:
            return False
        return True

    def give_up(self, rental: UUID) -> None:
        """Write that its owner leaves it to `reap`."""
        self._update(rental, given_up=1)

    def _update(self, rental: UUID, **values: Any) -> bool:
        columns = ", ".join(f"{column} = ?" for column in values)
        return self._run(
            lambda database: (
                database.execute(
                    f"UPDATE rentals SET {columns} WHERE rental = ? AND ended_at IS NULL",  # noqa: S608  # names of ours
                    (*values.values(), str(rental)),
                ).rowcount
                == 1
            )
        )

    def end(self, rental: UUID, outcome: Outcome, receipt: Receipt | None, *, now: datetime) -> bool:
        """Write that it is over.

        Returns:
            False when that was written before.
        """
        return self._update(
            rental,
            ended_at=_text(now),
            outcome=str(outcome),
            **({} if receipt is None else _receipt_values(receipt)),
        )

    def withdraw(self, rental: UUID) -> None:
        """Forget an intention that the server refused for want of a slot."""
        self._run(
            lambda database: database.execute(
                "DELETE FROM rentals WHERE rental = ? AND browser_id IS NULL", (str(rental),)
            ),
            durable=False,
        )

    def entry(self, rental: UUID) -> Entry | None:
        """One rental."""
        found = self._entries("WHERE rental = ?", (str(rental),))
        return found[0] if found else None

    def open_entries(self) -> list[Entry]:
        """Rentals without an end, the oldest first."""
        return self._entries("WHERE ended_at IS NULL")

    def entries(self, *, since: datetime | None = None) -> list[Entry]:
        """Rentals that ended after `since`, and those that are still open, the oldest first."""
        if since is None:
            return self._entries("")
        return self._entries("WHERE ended_at IS NULL OR ended_at >= ?", (_text(since),))

    def known_browsers(self, place: str) -> frozenset[UUID]:
        """Every browser of a server that is some entry's own."""
        rows = self._rows(
            "SELECT browser_id FROM rentals WHERE place = ? AND browser_id IS NOT NULL", (place,)
        )
        return frozenset(UUID(row[0]) for row in rows)

    def _entries(self, where: str, values: Sequence[Any] = ()) -> list[Entry]:
        rows = self._rows(f"SELECT * FROM rentals {where} ORDER BY intended_at, rental", values)  # noqa: S608
        return [_entry(row) for row in rows]

    def _rows(self, query: str, values: Sequence[Any]) -> list[sqlite3.Row]:
        return self._run(lambda database: database.execute(query, values).fetchall(), durable=False)

    # --- budgets and queues ---------------------------------------------------------------------------------------

    def admit(self, work: Callable[[Admission], T]) -> T:
        """The result of `work`, during which nobody else is let in."""
        return self._run(lambda database: work(Admission(database)))

    def leave(self, ticket: int) -> None:
        """Give up a place in the queue."""
        self._run(
            lambda database: database.execute("DELETE FROM queue WHERE ticket = ?", (ticket,)), durable=False
        )

    # --- the file -------------------------------------------------------------------------------------------------

    def _run(self, work: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        """The result of `work` in one transaction; what it writes is on disk then if `durable`, and whole in any case.

        `work` may be called again: after an unreadable file was replaced, or in memory when there is no usable file.
        """
        for last in (False, True):
            path = self.path
            if path is None:
                break
            try:
                with closing(opened(path)) as database:
                    database.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                    return committed(database, work)
            except sqlite3.IntegrityError:
                raise
            except (OSError, sqlite3.Error, Unusable) as error:
                if last or not is_broken(error):
                    self._go_without(path, error)
                    break
                self._replace(path)
        with self._memory_lock:
            if self._memory is None:
                self._memory = connect(":memory:")
                committed(self._memory, make_tables)
            return committed(self._memory, work)

    def _replace(self, path: Path) -> None:
        """Put an unreadable file aside."""
        try:
            with only_one(path):
                put_aside_if_broken(path)
        except (OSError, sqlite3.Error, Unusable) as error:
            self._go_without(path, error)

    def _go_without(self, path: Path, error: Exception) -> None:
        reason = error.strerror if isinstance(error, OSError) else error
        logger.warning(
            "the journal %s cannot be used (%s): browsers that this program leaves behind when it is killed will not be found by "
            "`cdpbridge reap`. Set %s to a file that can be written, or to `%s`",
            path,
            reason,
            VARIABLE,
            OFF,
        )
        self.path = None


_journals: dict[str, Journal] = {}


def journal_at(path: Journal | Path | str | None) -> Journal:
    """The journal of a path, the same one for all of this process, so that what is wrong with it is said once."""
    if isinstance(path, Journal):
        return path
    made = Journal(path)
    return _journals.setdefault(str(made.path), made)


class Admission:
    """What may be asked and done while nobody else is let in."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def usage(self, scope: str, *, since: datetime) -> tuple[Usage, list[Entry]]:
        """What has been rented in a budget's scope, and those that run."""
        rows = self._database.execute(
            "SELECT * FROM rentals WHERE ended_at IS NULL ORDER BY intended_at"
        ).fetchall()
        running = [entry for entry in map(_entry, rows) if scope == MACHINE or scope in entry.scopes]
        spent = self._database.execute(
            "SELECT coalesce(sum(coalesce(booked_micro, charged_micro - refunded_micro)), 0), coalesce(sum(minutes), 0)"
            " FROM rentals WHERE ended_at >= ? AND (? OR instr(scopes, ?))",
            (_text(since), scope == MACHINE, json.dumps(scope)),
        )
        micro, minutes = spent.fetchone()
        return Usage(micro / _MICRO, minutes, [entry.claim for entry in running]), running

    def holders(self, place: str, account: str) -> list[Entry]:
        """Rentals that hold slots of an account."""
        rows = self._database.execute(
            "SELECT * FROM rentals WHERE ended_at IS NULL AND place = ? AND account = ? ORDER BY intended_at",
            (place, account),
        )
        return [_entry(row) for row in rows.fetchall()]

    def ahead(self, scope: str, ticket: int | None, *, alive_since: datetime) -> int:
        """How many living programs wait in `scope` and came before `ticket`, or before now."""
        self._forget_the_dead(alive_since)
        return sum(
            scope in json.loads(row["scopes"])
            for row in self._database.execute("SELECT ticket, scopes FROM queue ORDER BY ticket").fetchall()
            if ticket is None or row["ticket"] < ticket
        )

    def _forget_the_dead(self, alive_since: datetime) -> None:
        for row in self._database.execute("SELECT * FROM queue").fetchall():
            if row["seen_at"] < _text(alive_since) or _owner(row).fate is Fate.DEAD:
                self._database.execute("DELETE FROM queue WHERE ticket = ?", (row["ticket"],))

    def wait(self, scopes: Collection[str], ticket: int | None, owner: Owner, *, now: datetime) -> int:
        """Queue for `scopes`, at the end, or at the place that `ticket` has; its number."""
        cursor = self._database.execute(
            "INSERT OR REPLACE INTO queue VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (ticket, json.dumps(sorted(scopes)), *_owner_values(owner), _text(now)),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def leave(self, ticket: int) -> None:
        """Give up a place in the queue."""
        self._database.execute("DELETE FROM queue WHERE ticket = ?", (ticket,))

    def intend(self, entry: Entry) -> None:
        """Let a rental in."""
        _insert(self._database, entry)


# --- rows -------------------------------------------------------------------------------------------------------------


def _insert(database: sqlite3.Connection, entry: Entry) -> None:
    values: Mapping[str, Any] = {
        "rental": str(entry.rental),
        "place": entry.place,
        "account": entry.account,
        **dict(zip(_OWNER_COLUMNS, _owner_values(entry.owner), strict=True)),
        "profile": entry.profile,
        "country": entry.country,
        "label": entry.label,
        "scopes": json.dumps(entry.scopes),
        "timeout_seconds": None if entry.timeout is None else entry.timeout.total_seconds(),
        "usd_per_hour": str(entry.tariff.usd_per_hour),
        "minimum_minutes": entry.tariff.minimum_minutes,
        "active_before": _ids_text(entry.active_before),
        "intended_at": _text(entry.intended_at),
    }
    marks = ", ".join("?" * len(values))
    database.execute(f"INSERT INTO rentals ({', '.join(values)}) VALUES ({marks})", list(values.values()))  # noqa: S608


_OWNER_COLUMNS: Final = ("pid", "pid_started", "boot", "host", "namespace")


def _owner_values(owner: Owner) -> tuple[Any, ...]:
    return owner.pid, owner.started, owner.boot, owner.host, owner.namespace


def _owner(row: sqlite3.Row) -> Owner:
    return Owner(*(row[column] for column in _OWNER_COLUMNS))


def _entry(row: sqlite3.Row) -> Entry:
    entry = Entry(
        rental=UUID(row["rental"]),
        place=row["place"],
        account=row["account"],
        owner=_owner(row),
        tariff=Tariff(Decimal(row["usd_per_hour"]), row["minimum_minutes"]),
        intended_at=datetime.fromisoformat(row["intended_at"]),
        timeout=None if row["timeout_seconds"] is None else timedelta(seconds=row["timeout_seconds"]),
        profile=row["profile"],
        country=row["country"],
        label=row["label"],
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


def _receipt_values(receipt: Receipt) -> dict[str, Any]:
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
        row["charged_micro"] / _MICRO,
        row["refunded_micro"] / _MICRO,
        None if booked is None else booked / _MICRO,
    )


def _micro(amount: Decimal | None) -> int | None:
    return None if amount is None else int(amount * _MICRO)


def _ids_text(ids: frozenset[UUID] | None) -> str | None:
    return None if ids is None else json.dumps(sorted(map(str, ids)))


def _text(instant: datetime) -> str:
    """As text that sorts as time does."""
    if instant.tzinfo is None:
        raise ConfigurationError(f"an instant needs a time zone, e.g. datetime.now(UTC), not {instant!r}")
    return instant.astimezone(UTC).isoformat(timespec="microseconds")
