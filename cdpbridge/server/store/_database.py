"""`Database`: connections, transactions and pages, for the tables of the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from datetime import timedelta
from typing import Any, Final, Self, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import Connection, Select, bindparam, func, select, text
from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from ._column_types import unicode_text
from ._engine import open_engine
from ._models import Project
from ._postgresql import DatabaseUnavailable
from ._writer import Writer

__all__ = ["BALANCE", "FOR_CHANGE", "Database", "changed"]

logger = logging.getLogger("cdpbridge.server")

T = TypeVar("T")

# Longer than the last statements of tasks that were cancelled; shorter than what a supervisor grants a stopping server.
_RETURN_SECONDS: Final = 5.0
_CONNECTIONS: Final = 10
_TIMEOUT: Final = timedelta(seconds=10)
# `FOR NO KEY UPDATE`: `FOR UPDATE` would hold up every row that is inserted with a foreign key to this one. SQLite has neither.
FOR_CHANGE: Final = {"key_share": True}
# Of a project, in millionths of a USD. No entry of its ledger is booked by others until the transaction ends: each changes this
# row. SQLite's write lock does that already.
BALANCE: Final = (
    select(Project.balance_micro_usd)
    .where(Project.id == bindparam("of"))
    .with_for_update(of=Project, key_share=True)
)
"""For `session.get(with_for_update=)`: this transaction changes the row, and its key stays."""


class Database:
    """Base of the store's classes: a transaction to read in, and one to write in.

    Attributes:
        one_writer: Transactions that write follow each other, and no other server has the database: SQLite's.
        slot_freed: Set when a browser has returned a worker's slot here, or another server has given one to a browser of this server.
        slot_wanted: Set when a browser has returned a slot here for which others wait, perhaps on other servers only.
        server_id: Of this start of the server; a new one each time. Rows that it owns are changed by it alone.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self.server_id = uuid4()
        self.slot_freed = asyncio.Event()
        self.slot_wanted = asyncio.Event()
        self.one_writer = engine.dialect.name == "sqlite"
        # What is read together is of one moment; SQLite has nothing else.
        moment = {} if self.one_writer else {"isolation_level": "REPEATABLE READ"}
        reading = engine.execution_options(writing=False, **moment)
        self._reading = async_sessionmaker(reading, expire_on_commit=False)
        self._writing = async_sessionmaker(engine, expire_on_commit=False)
        # SQLite has one writer; waiting here is fair, its busy handler is not. PostgreSQL locks rows.
        self._turn = asyncio.Lock() if self.one_writer else nullcontext()
        self._writer = Writer(engine.url) if self.one_writer else None
        # Sessions that are open now.
        self._uses = 0
        self._unused = asyncio.Event()
        self._unused.set()
        self._closed = False

    @classmethod
    async def open(cls, url: str, *, connections: int = _CONNECTIONS, timeout: timedelta = _TIMEOUT) -> Self:
        """Open the database at `url` and bring its tables up to date.

        Args:
            url: `sqlite+aiosqlite:///...` or `postgresql+asyncpg://...`.
            connections: To PostgreSQL, at most.
            timeout: For a connection to PostgreSQL, and for a statement.

        Raises:
            ConfigurationError: It cannot be used.
        """
        return cls(await open_engine(url, connections=connections, timeout=timeout))

    async def close(self) -> None:
        """Close the connections. Tasks that use one get a moment to return it: a pool leaves it to the garbage collector otherwise."""
        self._closed = True
        try:
            async with asyncio.timeout(_RETURN_SECONDS):
                await self._unused.wait()
        except TimeoutError:
            logger.warning("%d tasks still use the database while it is closed", self._uses)
        if self._writer is not None:
            await self._writer.close()
        try:
            async with asyncio.timeout(_RETURN_SECONDS):
                await self._engine.dispose()
        except OSError as error:
            # PostgreSQL is out of reach, or too slow; the sockets go with the process.
            logger.warning("connections to the database could not be closed in order: %r", error)

    @asynccontextmanager
    async def _use(self) -> AsyncIterator[None]:
        if self._closed:
            raise RuntimeError("the database is closed: the server has ended")
        self._uses += 1
        self._unused.clear()
        try:
            yield
        except OSError as error:
            # Of the network, also TimeoutError: SQLAlchemy lets both through as they are.
            raise DatabaseUnavailable.by(error) from error
        finally:
            self._uses -= 1
            if not self._uses:
                self._unused.set()

    @asynccontextmanager
    async def _read(self) -> AsyncIterator[AsyncSession]:
        async with self._use(), self._reading() as session:
            yield session

    @asynccontextmanager
    async def _write(self) -> AsyncIterator[AsyncSession]:
        async with self._use(), self._turn, self._writing.begin() as session:
            yield session

    async def _transact(self, work: Callable[[Connection], T], *, durable: bool = True) -> T:
        """Return what `work` returns, which is called with a connection in a transaction to write in.

        For what each rental does: of SQLite it takes one visit to a thread, and a fifth of the time of `_write`. With SQLite it
        ends when the caller is cancelled, and is committed.

        Args:
            durable: As in `Writer.run`. PostgreSQL makes each so.
        """
        async with self._use(), self._turn:
            if self._writer is not None:
                return await self._writer.run(work, durable=durable)
            async with self._engine.begin() as connection:
                return await connection.run_sync(work)

    def _freed(self, wanted: bool) -> None:
        """Note that a slot has been freed here, and that some wait for it."""
        self.slot_freed.set()
        if wanted:
            self.slot_wanted.set()

    async def _page(
        self, rows: Select[Any], order: Sequence[Any], offset: int, limit: int
    ) -> tuple[Sequence[Any], int]:
        async with self._read() as session:
            total = await session.scalar(select(func.count()).select_from(rows.subquery())) or 0
            page = await session.scalars(rows.order_by(*order).offset(offset).limit(limit))
            return page.all(), total

    async def _lock(self, session: AsyncSession, project_id: UUID) -> int:
        """Admit one browser or profile of a project at a time, and return its balance in millionths of a USD.

        No entry of its ledger is booked by others until this transaction ends: each changes this row. SQLite's write lock does
        that already.
        """
        return (await session.scalars(BALANCE, {"of": project_id})).one()

    def _labels(self, labels: Mapping[str, str] | None) -> dict[str, str] | None:
        """Return `metadata` as every database can keep it and look into it."""
        return {unicode_text(name): unicode_text(value) for name, value in labels.items()} if labels else None

    async def _lock_of(self, session: AsyncSession, number: int) -> None:
        """Let one server at a time through, until this transaction ends: an advisory lock. SQLite has one server."""
        if not self.one_writer:
            await session.execute(text(f"SELECT pg_advisory_xact_lock({number})"))


async def changed(session: AsyncSession, statement: Any) -> bool:
    """Return True if an update or delete has met a row."""
    result = await session.execute(statement)
    assert isinstance(result, CursorResult)
    return bool(result.rowcount)
