"""Connections to PostgreSQL: bounded in number and in time, and checked for being open before each use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final, Self

from sqlalchemy import URL, event
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

__all__ = [
    "CHANNEL_OF_SLOTS",
    "LOCK_OF_KEYS",
    "LOCK_OF_QUEUE",
    "LOCK_OF_TABLES",
    "LOCK_OF_WORKERS",
    "DatabaseUnavailable",
    "listening",
    "migrating_engine",
    "postgresql_engine",
]

# PostgreSQL ends a statement at the limit and says so; we wait a little longer, for one that cannot be reached at all.
_GRACE_SECONDS: Final = 2.0
# Numbers of advisory locks, which servers of one database share; any that its other programs do not use.
LOCK_OF_TABLES: Final = 0x6364_7062_0001
"""Advisory lock of migrations: servers that start at once migrate one after the other."""
LOCK_OF_KEYS: Final = 0x6364_7062_0002
"""Advisory lock of the configured projects and keys."""
LOCK_OF_WORKERS: Final = 0x6364_7062_0003
"""Advisory lock of the workers that register."""
LOCK_OF_QUEUE: Final = 0x6364_7062_0004
"""Advisory lock of the server that gives slots to those that wait."""
CHANNEL_OF_SLOTS: Final = "cdpbridge_slots"
"""Channel of `NOTIFY` on which a server hears, by its id, that its browsers were given slots."""
_LISTEN_SECONDS: Final = 10.0


class DatabaseUnavailable(SQLAlchemyError):
    """The database cannot be reached, or has not answered in time."""

    @classmethod
    def by(cls, cause: BaseException) -> Self:
        """Name the kind of the cause, too: a timeout has no text of its own."""
        return cls(f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__)


def postgresql_engine(address: URL, *, connections: int, timeout: timedelta) -> AsyncEngine:
    """Create an engine.

    Args:
        address: `postgresql+asyncpg://...`.
        connections: As many at most.
        timeout: For a free connection, for opening one, for one statement, and for a pause within a transaction.
    """
    seconds = timeout.total_seconds()
    milliseconds = str(round(seconds * 1000))
    engine = create_async_engine(
        address,
        hide_parameters=True,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=seconds,
        connect_args={
            "async_creator_fn": _connected,
            "timeout": seconds,
            "command_timeout": seconds + _GRACE_SECONDS,
            "server_settings": {
                "application_name": "cdpbridge",
                "statement_timeout": milliseconds,
                "idle_in_transaction_session_timeout": milliseconds,
                # What the transactions of this package are written for, whatever the database's own default.
                "default_transaction_isolation": "read committed",
            },
        },
    )

    # asyncpg knows when the connection was closed. To ask PostgreSQL before each use would cost a round trip.
    @event.listens_for(engine.sync_engine, "checkout")
    def checked(_adapted: object, record: Any, _proxy: object) -> None:
        if record.driver_connection.is_closed():
            raise DisconnectionError("PostgreSQL has closed this connection")

    return engine


def migrating_engine(address: URL, *, timeout: timedelta) -> AsyncEngine:
    """Create an engine for one migration: that takes as long as the tables are large, or as another server is at it."""
    return create_async_engine(
        address,
        hide_parameters=True,
        poolclass=NullPool,
        connect_args={
            "async_creator_fn": _connected,
            "timeout": timeout.total_seconds(),
            "server_settings": {
                "application_name": "cdpbridge migration",
                "statement_timeout": "0",
                "idle_in_transaction_session_timeout": "0",
            },
        },
    )


@asynccontextmanager
async def listening(
    address: URL, channel: str, heard: Callable[[object, int, str, object], object]
) -> AsyncIterator[asyncio.Event]:
    """Listen on a channel, over a connection of its own; gives an event that is set when that is lost.

    A connection pooler that gives each transaction another connection lets nothing be heard.

    Args:
        address: `postgresql+asyncpg://...`.
        channel: Its name.
        heard: Called with the connection, the sender's process, the channel, and what was sent.

    Raises:
        DatabaseUnavailable: It cannot be connected.
    """
    engine = create_async_engine(
        address,
        hide_parameters=True,
        poolclass=NullPool,
        connect_args={
            "async_creator_fn": _connected,
            "timeout": _LISTEN_SECONDS,
            "command_timeout": _LISTEN_SECONDS,
            "server_settings": {"application_name": "cdpbridge listener"},
        },
    )
    try:
        async with engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            ended = asyncio.Event()
            driver.add_termination_listener(lambda _connection: ended.set())
            await driver.add_listener(channel, heard)
            try:
                yield ended
            finally:
                driver.terminate()
    finally:
        await engine.dispose()


async def _connected(*arguments: Any, **options: Any) -> Any:
    """Open a connection; SQLAlchemy lets errors of this step through as they are."""
    import asyncpg  # noqa: PLC0415  # of the extra `cluster`

    try:
        return await asyncpg.connect(*arguments, **options)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseUnavailable.by(error) from error
