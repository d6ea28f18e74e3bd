"""Budgets and queues in the journal: queries and changes inside one exclusive transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from datetime import datetime

from cdpbridge.rental._budget import MACHINE, Usage

from ._entry import Entry
from ._owner import Fate, Owner
from ._rows import MICRO, entry_of, insert, owner_of, owner_values, text_of

__all__ = ["Admission"]


class Admission:
    """Queries and changes inside one exclusive transaction."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def usage(self, scope: str, *, since: datetime) -> tuple[Usage, list[Entry]]:
        """Return the usage in a budget's scope, and the rentals that run."""
        rows = self._database.execute(
            "SELECT * FROM rentals WHERE ended_at IS NULL ORDER BY intended_at"
        ).fetchall()
        running = [entry for entry in map(entry_of, rows) if scope == MACHINE or scope in entry.scopes]
        spent = self._database.execute(
            "SELECT coalesce(sum(coalesce(booked_micro, charged_micro - refunded_micro)), 0), coalesce(sum(minutes), 0)"
            " FROM rentals WHERE ended_at >= ? AND (? OR instr(scopes, ?))",
            (text_of(since), scope == MACHINE, json.dumps(scope)),
        )
        micro, minutes = spent.fetchone()
        return Usage(micro / MICRO, minutes, [entry.claim for entry in running]), running

    def holders(self, place: str, account: str) -> list[Entry]:
        """List the rentals that hold slots of an account."""
        rows = self._database.execute(
            "SELECT * FROM rentals WHERE ended_at IS NULL AND place = ? AND account = ? ORDER BY intended_at",
            (place, account),
        )
        return [entry_of(row) for row in rows.fetchall()]

    def ahead(self, scope: str, ticket: int | None, *, alive_since: datetime) -> int:
        """Count the running programs that wait in `scope` and came before `ticket`, or before now."""
        self._forget_the_dead(alive_since)
        return sum(
            scope in json.loads(row["scopes"])
            for row in self._database.execute("SELECT ticket, scopes FROM queue ORDER BY ticket").fetchall()
            if ticket is None or row["ticket"] < ticket
        )

    def _forget_the_dead(self, alive_since: datetime) -> None:
        for row in self._database.execute("SELECT * FROM queue").fetchall():
            if row["seen_at"] < text_of(alive_since) or owner_of(row).fate is Fate.DEAD:
                self._database.execute("DELETE FROM queue WHERE ticket = ?", (row["ticket"],))

    def number(self, owner: Owner, *, now: datetime) -> int:
        """Draw a number later than all before. It blocks no ticket until `wait` is called with it."""
        number = self.wait((), None, owner, now=now)
        self.leave(number)
        return number

    def wait(self, scopes: Collection[str], ticket: int | None, owner: Owner, *, now: datetime) -> int:
        """Queue for `scopes`, at the end, or at the position of `ticket`; return the number."""
        cursor = self._database.execute(
            "INSERT OR REPLACE INTO queue VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (ticket, json.dumps(sorted(scopes)), *owner_values(owner), text_of(now)),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def leave(self, ticket: int) -> None:
        """Release a queue position."""
        self._database.execute("DELETE FROM queue WHERE ticket = ?", (ticket,))

    def intend(self, entry: Entry) -> None:
        """Admit a rental: write its intention."""
        insert(self._database, entry)
