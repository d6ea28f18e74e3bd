"""`Journal`: what is asked of it, each in one transaction."""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

import platformdirs

from cdpbridge.billing import Receipt

from ._admission import Admission
from ._entry import Entry, Outcome
from ._file import Unusable, committed, connect, is_broken, make_tables, only_one, opened, put_aside_if_broken
from ._rows import entry_of, ids_text, insert, receipt_values, text_of

__all__ = ["LOCAL", "Journal", "journal_at"]

logger = logging.getLogger("cdpbridge")

T = TypeVar("T")

VARIABLE: Final = "CDPBRIDGE_JOURNAL"
OFF: Final = "off"
LOCAL: Final = "local"
"""Place of embedded servers: each ends with its owner, and what then listens on its port is something else."""


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
        """Return the fingerprint of an API key in this journal; another journal has another one for the same key."""
        if self._salt is None:
            self._salt = self._run(
                lambda database: bytes(database.execute("SELECT value FROM salt").fetchone()[0]),
                durable=False,
            )
        return hashlib.blake2b(api_key.encode(), key=self._salt, digest_size=16).hexdigest()

    def intend(self, entry: Entry) -> None:
        """Write that a browser is going to be rented; on disk when this returns."""
        self._run(lambda database: insert(database, entry))

    def looked(self, rental: UUID, active_before: frozenset[UUID] | None) -> None:
        """Write which browsers were active just before it was ordered."""
        self._update(rental, active_before=ids_text(active_before))

    def rented(self, rental: UUID, browser_id: UUID, *, started_at: datetime, timeout_at: datetime) -> bool:
        """Write which browser it became.

        Returns:
            False when another entry has that browser, so that this one cannot.
        """
        try:
            self._update(
                rental,
                browser_id=str(browser_id),
                started_at=text_of(started_at),
                timeout_at=text_of(timeout_at),
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
            ended_at=text_of(now),
            outcome=str(outcome),
            **({} if receipt is None else receipt_values(receipt)),
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
        """Return one rental."""
        found = self._entries("WHERE rental = ?", (str(rental),))
        return found[0] if found else None

    def open_entries(self) -> list[Entry]:
        """List rentals without an end, the oldest first."""
        return self._entries("WHERE ended_at IS NULL")

    def entries(self, *, since: datetime | None = None) -> list[Entry]:
        """List rentals that ended after `since`, and those that are still open, the oldest first."""
        if since is None:
            return self._entries("")
        return self._entries("WHERE ended_at IS NULL OR ended_at >= ?", (text_of(since),))

    def known_browsers(self, place: str) -> frozenset[UUID]:
        """Return every browser of a server that belongs to an entry."""
        rows = self._rows(
            "SELECT browser_id FROM rentals WHERE place = ? AND browser_id IS NOT NULL", (place,)
        )
        return frozenset(UUID(row[0]) for row in rows)

    def _entries(self, where: str, values: Sequence[Any] = ()) -> list[Entry]:
        rows = self._rows(f"SELECT * FROM rentals {where} ORDER BY intended_at, rental", values)  # noqa: S608
        return [entry_of(row) for row in rows]

    def _rows(self, query: str, values: Sequence[Any]) -> list[sqlite3.Row]:
        return self._run(lambda database: database.execute(query, values).fetchall(), durable=False)

    # --- budgets and queues ---------------------------------------------------------------------------------------

    def admit(self, work: Callable[[Admission], T]) -> T:
        """Run `work` in one exclusive transaction; return its result."""
        return self._run(lambda database: work(Admission(database)))

    def leave(self, ticket: int) -> None:
        """Release a queue position."""
        self._run(
            lambda database: database.execute("DELETE FROM queue WHERE ticket = ?", (ticket,)), durable=False
        )

    # --- the file -------------------------------------------------------------------------------------------------

    def _run(self, work: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        """Run `work` in one transaction; what it writes is on disk afterwards if `durable`, and whole in any case.

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
    """Return the journal of a path, the same one for all of this process, so that a problem with it is logged once."""
    if isinstance(path, Journal):
        return path
    made = Journal(path)
    return _journals.setdefault(str(made.path), made)
