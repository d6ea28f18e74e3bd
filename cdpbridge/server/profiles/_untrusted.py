"""Files that a browser can write, read without trust: plain files of bounded size, and SQLite databases in bounded time.

A client that drives a browser can put anything into its folder, also a database whose `cookies` is a view that never ends.
So a database is read into memory through a descriptor that was checked, and opened there: no journal is replayed, no file is
locked, written or looked up beside it, and no link is followed.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from cdpbridge.errors import CDPBridgeError

__all__ = ["Hostile", "open_plain", "read_plain", "read_table"]

# Chromium keeps at most 3300 cookies of 4 KiB each (net/cookies/cookie_monster.h): 13 MiB, and as much again for free pages.
_MAX_DATABASE_BYTES: Final = 64 * 1024**2
_QUERY_SECONDS: Final = 1.0
# Instructions of SQLite's machine between two looks at the clock; some 0.1 ms.
_LOOK_EVERY: Final = 10_000
_MAX_ROWS: Final = 100_000
# A single value, or the text of one statement of the schema: Chromium's own have some 500 bytes.
_LIMITS: Final = {
    sqlite3.SQLITE_LIMIT_LENGTH: 1024**2,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 64 * 1024,
    sqlite3.SQLITE_LIMIT_COLUMN: 200,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 50,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
# Positions 18 and 19 of the header: 2 is write-ahead logging, which a database in memory cannot have (sqlite.org/fileformat.html).
_JOURNAL_VERSIONS: Final = slice(18, 20)
_HEADER_BYTES: Final = 100
_READING: Final = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION})


class Hostile(CDPBridgeError):
    """A file is not what a browser writes by itself; with the reason. A database that is only damaged is no such file."""


def open_plain(path: Path, root: Path) -> int:
    """Return a descriptor of the regular file `path` below the folder `root`, for reading; no link on the way is followed.

    Raises:
        FileNotFoundError: There is none.
        Hostile: It is a link, a device, a pipe, or below a link.
        OSError: From the disk.
    """
    *folders, name = path.relative_to(root).parts
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            inner = _open_at(folder, descriptor, path, os.O_DIRECTORY)
            os.close(descriptor)
            descriptor = inner
        # NONBLOCK: opening a pipe would wait for its writer.
        found = _open_at(name, descriptor, path, os.O_NONBLOCK)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise Hostile(f"{path.name} is not a regular file")
    return found


def _open_at(name: str, folder: int, path: Path, flags: int) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        kind = _kind(name, folder, folder_wanted=bool(flags & os.O_DIRECTORY))
        if kind is None:
            raise
        raise Hostile(f"{path.name}: {name} is {kind}") from error


def _kind(name: str, folder: int, *, folder_wanted: bool) -> str | None:
    """Return what a name is that could not be opened, if that is the reason."""
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except OSError:
        return None
    kinds = {
        stat.S_IFLNK: "a link",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "no folder" if folder_wanted and not stat.S_ISDIR(mode) else None)


def read_plain(path: Path, root: Path, *, max_bytes: int) -> bytes:
    """Return the content of a regular file below `root`.

    Raises:
        Hostile: See `open_plain`; or it has more than `max_bytes`.
        FileNotFoundError: There is none.
        OSError: From the disk.
    """
    with open(open_plain(path, root), "rb") as file:  # a descriptor
        # Its size first: a sparse file of terabytes costs its writer nothing.
        if (
            os.fstat(file.fileno()).st_size <= max_bytes
            and len(data := file.read(max_bytes + 1)) <= max_bytes
        ):
            return data
    raise Hostile(f"{path.name} has more than {max_bytes} bytes")


def read_table(
    path: Path, root: Path, table: str, query: str, *, seconds: float = _QUERY_SECONDS
) -> list[tuple[Any, ...]] | None:
    """Return the rows of `query`, which reads from `table` alone, in a database that is not trusted; None when there is no such file.

    Args:
        path: The database, below `root`.
        query: One SELECT, of ours.
        seconds: Limit for reading the schema and the rows together.

    Raises:
        Hostile: `table` is a view, a virtual table or has computed columns, or the limits were reached.
        sqlite3.Error: It is damaged, or of a version without these columns.
        OSError: From the disk.
    """
    try:
        data = bytearray(read_plain(path, root, max_bytes=_MAX_DATABASE_BYTES))
    except FileNotFoundError:
        return None
    if not data:
        raise sqlite3.DatabaseError("it is empty")
    if len(data) >= _HEADER_BYTES:
        data[_JOURNAL_VERSIONS] = b"\x01\x01"
    deadline = time.monotonic() + seconds
    with closing(sqlite3.connect(":memory:")) as connection:
        for limit, most in _LIMITS.items():
            connection.setlimit(limit, most)
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("PRAGMA cell_size_check=ON")
        connection.deserialize(bytes(data))
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _LOOK_EVERY)
        try:
            _check_table(connection, table)
            connection.set_authorizer(_reader_of(table))
            rows: list[tuple[Any, ...]] = connection.execute(query).fetchmany(_MAX_ROWS + 1)
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", None)
            if code == sqlite3.SQLITE_INTERRUPT:
                raise Hostile(f"{path.name} cannot be read within {seconds:g} s") from error
            if code in {sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_NOMEM}:
                raise Hostile(f"{path.name} holds what no browser writes: {error}") from error
            raise
    if len(rows) > _MAX_ROWS:
        raise Hostile(f"{path.name} has more than {_MAX_ROWS} rows")
    return rows


def _check_table(connection: sqlite3.Connection, table: str) -> None:
    """Raise `Hostile` unless `table` is stored rows and nothing that is computed."""
    found = connection.execute(
        "SELECT type, rootpage, substr(sql, 1, 13) FROM sqlite_schema WHERE name = ? COLLATE NOCASE", (table,)
    ).fetchmany(2)
    if not found:
        raise sqlite3.DatabaseError(f"it has no table {table}")
    # A virtual table calls itself a table, too, but has no pages.
    if (
        len(found) > 1
        or found[0][0] != "table"
        or not found[0][1]
        or str(found[0][2]).upper() != "CREATE TABLE "
    ):
        raise Hostile(f"its {table} is not a table")
    # 2 and 3 are computed columns (sqlite.org/pragma.html#pragma_table_xinfo).
    if any(row[6] > 1 for row in connection.execute(f"PRAGMA table_xinfo({table})").fetchall()):
        raise Hostile(f"its {table} has computed columns")


def _reader_of(table: str) -> Callable[..., int]:
    def allow(
        action: int, first: str | None, _second: str | None, _database: str | None, _inner: str | None
    ) -> int:
        if action == sqlite3.SQLITE_READ and first != table:
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY

    return allow
