"""Connections to SQLite: their settings, and those of `aiosqlite` with one visit to their thread for a statement instead of four.

Each visit wakes up the thread and then the event loop. `aiosqlite` makes one to open a cursor, one to execute, one to fetch the
rows and one to close the cursor. The transactions of each rental go another way, by `Writer`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from functools import partial
from typing import Any, Final, Self

import aiosqlite
from sqlalchemy import URL, Connection, Engine, event

__all__ = ["connector", "prepare_sqlite"]

_BUSY_TIMEOUT_MS: Final = 10_000
# Pages that each connection keeps, which the kernel keeps too. With SQLite's 2 MB, five copies of a growing ledger made the
# server larger by 5.6 kB a rental.
_CACHE_KIB: Final = 256

# Rows for an iteration over a cursor, which we never make: `aiosqlite`'s own number.
_CHUNK_ROWS: Final = 64


class _Cursor:
    """What SQLAlchemy's dialect asks of a cursor. The real one exists while a statement runs."""

    def __init__(self, connection: _Connection) -> None:
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1
        self._connection = connection
        self._rows: list[Any] = []

    async def __aenter__(self) -> Self:
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        """Older releases of SQLAlchemy await it in place of entering it."""
        return self.__aenter__().__await__()

    async def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Self:
        await self._connection.visit(self._run, sqlite3.Cursor.execute, sql, parameters)
        return self

    async def executemany(self, sql: str, parameters: Iterable[Sequence[Any]]) -> Self:
        await self._connection.visit(self._run, sqlite3.Cursor.executemany, sql, parameters)
        return self

    def _run(
        self,
        run: Callable[[sqlite3.Cursor, str, Any], Any],
        sql: str,
        parameters: Any,
        raw: sqlite3.Connection,
    ) -> None:
        cursor = raw.cursor()
        try:
            run(cursor, sql, parameters)
            self._rows = cursor.fetchall() if cursor.description else []
            self.description, self.rowcount = cursor.description, cursor.rowcount
            self.lastrowid = cursor.lastrowid
        finally:
            cursor.close()

    async def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows, []
        return rows

    async def close(self) -> None:
        self._rows = []


class _Connection(aiosqlite.Connection):
    """A connection whose cursors cost one visit to its thread for each statement."""

    # A statement was cancelled or failed: its thread may still be at it, so what it is in is not known.
    _unsure = False

    def cursor(self) -> _Cursor:  # type: ignore[override]  # what SQLAlchemy enters
        return _Cursor(self)

    async def visit(self, work: Callable[..., None], *arguments: Any) -> None:
        """Call `work` in the thread of this connection, with `arguments` and SQLite's own connection."""
        try:
            await self._execute(work, *arguments, self._conn)  # type: ignore[no-untyped-call]
        except BaseException:
            self._unsure = True
            raise

    async def rollback(self) -> None:
        """Roll back, unless there is nothing: a pool does so after each commit, too."""
        if self._unsure or self.in_transaction:
            await super().rollback()
            self._unsure = False


def connector(url: URL) -> Callable[[], Coroutine[Any, Any, aiosqlite.Connection]]:
    """Return what opens connections to the database at `url`, for `create_async_engine(async_creator=)`."""
    arguments, options = url.get_dialect()().create_connect_args(url)

    async def connect() -> aiosqlite.Connection:
        connection = _Connection(partial(sqlite3.connect, *arguments, **options), _CHUNK_ROWS)
        # A thread of its own; before aiosqlite 0.22, the connection was the thread. It must not hold up the interpreter's end.
        thread: Any = getattr(connection, "_thread", connection)
        thread.daemon = True
        return await connection

    return connect


def prepare_sqlite(engine: Engine) -> None:
    """Give every connection of an engine its settings, and begin its transactions, whatever its driver."""

    @event.listens_for(engine, "connect")
    def connected(dbapi_connection: Any, _record: object) -> None:
        # Transactions are ours: the driver would begin them too late.
        dbapi_connection.isolation_level = None
        try:
            cursor = dbapi_connection.cursor()
            # WAL: readers and a writer at once, and a killed process leaves nothing half-written (sqlite.org/wal.html).
            # FULL: what was answered to a client is on the disk, also after a power cut.
            for pragma in (
                "journal_mode=WAL",
                "synchronous=FULL",
                "foreign_keys=ON",
                f"busy_timeout={_BUSY_TIMEOUT_MS}",
                f"cache_size=-{_CACHE_KIB}",
            ):
                cursor.execute(f"PRAGMA {pragma}")
            cursor.close()
        except BaseException:  # cancelled: the pool does not know it yet, so no one else would close it
            dbapi_connection.close()
            raise

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # IMMEDIATE takes the write lock at once; a transaction that upgrades later can fail with SQLITE_BUSY at any time.
        writing = connection.get_execution_options().get("writing", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
