"""An engine with its tables up to date."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.resources import files
from typing import Final

from sqlalchemy import URL, Connection, insert, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from cdpbridge.errors import ConfigurationError

from ._models import Base, Tables
from ._postgresql import LOCK_OF_TABLES, migrating_engine, postgresql_engine
from ._sqlite import connector, prepare_sqlite

__all__ = ["OLDEST", "newest_revision", "open_engine"]

logger = logging.getLogger("cdpbridge.server")

# One connection writes at a time, and reads are short: more connections, each with a thread, would only wait for each other.
_CONNECTIONS: Final = 5
_CONNECTION_SECONDS: Final = 60.0
OLDEST: Final = "0012"
"""The oldest version of the tables whose servers may work with those of today: migrations add, and what they add has a default."""
_ALEMBIC: Final = threading.Lock()
_ALEMBIC_POLL_SECONDS: Final = 0.02
# At DEBUG, they write parameters and rows, which are keys' hashes, tokens and tasks; `hide_parameters` is for INFO alone.
_TALKATIVE: Final = ("aiosqlite", "sqlalchemy.engine.Engine")


async def open_engine(url: str, *, connections: int, timeout: timedelta) -> AsyncEngine:
    """Open a connected engine, migrated to this version's tables.

    Args:
        url: Its driver is `sqlite+aiosqlite` or `postgresql+asyncpg`.
        connections: To PostgreSQL, at most.
        timeout: Of what is asked of PostgreSQL.

    Raises:
        ConfigurationError: The database cannot be reached or read, or belongs to a newer version.
    """
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_no_values)
    address = make_url(url)
    if address.get_backend_name() == "sqlite":
        engine = create_async_engine(
            address,
            hide_parameters=True,
            async_creator=connector(address),
            poolclass=AsyncAdaptedQueuePool,  # the default for files since SQLAlchemy 2.0.38; before, none, which takes no size
            pool_size=_CONNECTIONS,
            max_overflow=0,
            pool_timeout=_CONNECTION_SECONDS,
        )
        prepare_sqlite(engine.sync_engine)
    else:
        engine = postgresql_engine(address, connections=connections, timeout=timeout)
    try:
        async with engine.connect() as connection:
            current = await connection.run_sync(_is_usable)
            if not current and connection.dialect.name == "sqlite":
                async with _migrating():
                    await connection.run_sync(_migrate)
        if not current and engine.dialect.name != "sqlite":
            await _migrate_postgresql(address, timeout)
    except (SQLAlchemyError, OSError, _MigrationError) as error:
        await engine.dispose()
        shown = address.render_as_string(hide_password=True)
        cause = error.orig if isinstance(error, DBAPIError) else error
        advice = (
            "check `database_url` and `data_dir`, or move the file away to begin with an empty one"
            if engine.dialect.name == "sqlite"
            else "check `database_url`, that PostgreSQL runs there, and that its user may create tables"
        )
        raise ConfigurationError(f"database {shown} cannot be used: {cause}; {advice}") from error
    except BaseException:
        await engine.dispose()
        raise
    return engine


@asynccontextmanager
async def _migrating() -> AsyncIterator[None]:
    """Let one store of this process migrate at a time, in whatever loops they are: Alembic's context is global to the process."""
    while not _ALEMBIC.acquire(blocking=False):  # noqa: ASYNC110  # held by another loop, too
        await asyncio.sleep(_ALEMBIC_POLL_SECONDS)
    try:
        yield
    finally:
        _ALEMBIC.release()


async def _migrate_postgresql(address: URL, timeout: timedelta) -> None:
    engine = migrating_engine(address, timeout=timeout)
    try:
        async with _migrating(), engine.connect() as connection:
            # Until the end of the transaction, which is the migrations' own. Who waited here finds them done.
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK_OF_TABLES})"))
            await connection.run_sync(_migrate)
    finally:
        await engine.dispose()


class _MigrationError(Exception):
    """The tables are of a version that this one does not know, or cannot work with."""


def _is_usable(connection: Connection) -> bool:
    """Return True if the tables are of this version, or of a newer one that this one can work with.

    Raises:
        _MigrationError: They are of a newer one that it cannot work with.
    """
    if not connection.dialect.has_table(connection, "alembic_version"):
        return False
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    own = newest_revision()
    if found == [own]:
        return True
    newer = next((each for each in found if each.isdecimal() and int(each) > int(own)), None)
    if newer is None:
        return False
    oldest = connection.execute(select(Tables.oldest)).scalar_one()
    if int(oldest) > int(own):
        raise _MigrationError(
            f"its tables are of version {newer}, which servers from {oldest} on can use, and this is {own}: "
            "install the version that made them, or go back to the backup made before"
        )
    logger.info("the database has tables of version %s; this server, of %s, works with them", newer, own)
    return True


def _migrate(connection: Connection) -> None:
    if _is_empty_sqlite(connection):
        _create_tables(connection)
        return
    # A server's start takes 0.2 s of CPU less without it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "cdpbridge.server.store:migrations")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise _MigrationError(str(error)) from error


def _is_empty_sqlite(connection: Connection) -> bool:
    if connection.dialect.name != "sqlite":
        return False
    return connection.execute(text("SELECT count(*) FROM sqlite_master")).scalar() == 0


def _create_tables(connection: Connection) -> None:
    """Give an empty SQLite database the newest tables at once, in one transaction; a test compares them with the migrations'."""
    Base.metadata.create_all(connection)
    # As Alembic makes it (alembic/runtime/migration.py).
    connection.execute(
        text(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
            "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
    )
    connection.execute(text("INSERT INTO alembic_version VALUES (:newest)"), {"newest": newest_revision()})
    connection.execute(insert(Tables).values(id=1, oldest=OLDEST))
    connection.commit()


def newest_revision() -> str:
    """Return the revision of this version's tables: the number that the last file of `migrations/versions` begins with."""
    names = (each.name for each in files("cdpbridge.server.store").joinpath("migrations/versions").iterdir())
    return max(name[:4] for name in names if name[:4].isdecimal())


def _no_values(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG
