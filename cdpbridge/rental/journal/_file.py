"""The journal's SQLite file: made, opened, checked, put aside when it is unreadable."""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

__all__ = [
    "Unusable",
    "committed",
    "connect",
    "is_broken",
    "make_tables",
    "only_one",
    "opened",
    "put_aside_if_broken",
]

logger = logging.getLogger("cdpbridge")

T = TypeVar("T")

_BUSY_SECONDS: Final = 10.0
_SCHEMA: Final = 1
_TABLES: Final = """
CREATE TABLE salt (value BLOB NOT NULL);
CREATE TABLE rentals (
    rental TEXT PRIMARY KEY,
    place TEXT NOT NULL,
    account TEXT NOT NULL,
    pid INTEGER NOT NULL, pid_started TEXT NOT NULL, boot TEXT NOT NULL, host TEXT NOT NULL, namespace TEXT NOT NULL,
    profile TEXT, country TEXT, label TEXT, scopes TEXT NOT NULL,
    timeout_seconds REAL,
    usd_per_hour TEXT NOT NULL, minimum_minutes INTEGER NOT NULL,
    active_before TEXT,
    intended_at TEXT NOT NULL,
    browser_id TEXT, started_at TEXT, timeout_at TEXT,
    given_up INTEGER NOT NULL DEFAULT 0,
    simulated INTEGER NOT NULL DEFAULT 0,
    ended_at TEXT, outcome TEXT,
    used_seconds REAL, minutes INTEGER, charged_micro INTEGER, refunded_micro INTEGER, booked_micro INTEGER,
    UNIQUE (place, browser_id)
) WITHOUT ROWID;
CREATE INDEX rentals_open ON rentals (place, account) WHERE ended_at IS NULL;
CREATE INDEX rentals_ended ON rentals (ended_at);
CREATE TABLE queue (
    ticket INTEGER PRIMARY KEY AUTOINCREMENT,
    scopes TEXT NOT NULL,
    pid INTEGER NOT NULL, pid_started TEXT NOT NULL, boot TEXT NOT NULL, host TEXT NOT NULL, namespace TEXT NOT NULL,
    seen_at TEXT NOT NULL
);
"""


class Unusable(Exception):
    """The file is whole, but not for us."""


def connect(path: Path | str) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    database.row_factory = sqlite3.Row
    return database


def opened(path: Path) -> sqlite3.Connection:
    """Open a journal of our schema; create a missing file, for this user only."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    database = connect(path)
    try:
        if _version(database) == 0:
            _use_wal(database)
            committed(database, make_tables)
        if (version := _version(database)) != _SCHEMA:
            raise Unusable(
                f"it was written by a newer cdpbridge: its schema is {version}, this one knows {_SCHEMA}"
            )
        if not _has_every_column(database):
            committed(database, _add_columns)
    except BaseException:
        database.close()
        raise
    return database


def _use_wal(database: sqlite3.Connection) -> None:
    """Set WAL mode, with retries: SQLite does not wait for its busy timeout here when two programs open the new file at once."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def make_tables(database: sqlite3.Connection) -> None:
    if _version(database) != 0:  # another process was faster
        return
    for statement in filter(str.strip, _TABLES.split(";")):
        database.execute(statement)
    database.execute("INSERT INTO salt VALUES (?)", (secrets.token_bytes(32),))
    database.execute(f"PRAGMA user_version = {_SCHEMA}")


# Columns that came later. Each has a default, so an older cdpbridge writes the same file and the schema's number stays.
_ADDED: Final = {"simulated": "INTEGER NOT NULL DEFAULT 0"}


def _columns(database: sqlite3.Connection) -> set[str]:
    return {row["name"] for row in database.execute("PRAGMA table_info(rentals)")}


def _has_every_column(database: sqlite3.Connection) -> bool:
    return _ADDED.keys() <= _columns(database)


def _add_columns(database: sqlite3.Connection) -> None:
    for name in sorted(_ADDED.keys() - _columns(database)):  # another process may have been faster
        database.execute(f"ALTER TABLE rentals ADD COLUMN {name} {_ADDED[name]}")


def committed(database: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    database.execute("BEGIN IMMEDIATE")
    try:
        result = work(database)
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # some errors of SQLite have ended it
            database.execute("ROLLBACK")
        raise
    return result


def is_broken(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", None) in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Let one process at a time into a block: by a lock of SQLite on an empty file beside `path`, which every system has."""
    with closing(connect(path.with_name(f"{path.name}.lock"))) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        yield


def put_aside_if_broken(path: Path) -> None:
    try:
        with closing(opened(path)) as database:  # another process may have put a new one there
            reason = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
            if reason == "ok":
                return
    except sqlite3.DatabaseError as error:
        if not is_broken(error):
            raise
        reason = str(error)
    aside = path.with_name(f"{path.name}.unreadable-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    logger.warning(
        "the journal %s was unreadable (%s); it is kept as %s, and a new one is begun. Browsers that only the old one knew are "
        "listed by: cdpbridge browsers",
        path,
        reason,
        aside.name,
    )
