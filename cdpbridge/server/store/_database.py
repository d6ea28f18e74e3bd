"""`Database`: connections, transactions and pages, for the tables of the store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Self
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from ._engine import open_engine
from ._models import Project

__all__ = ["Database", "changed"]

logger = logging.getLogger("cdpbridge.server")

# Longer than the last statements of tasks that were cancelled; shorter than what a supervisor grants a stopping server.
_RETURN_SECONDS: Final = 5.0


class Database:
    """Base of the store's classes: a transaction to read in, and one to write in.

    Attributes:
        one_writer: Transactions that write follow each other, and no other server has the database: SQLite's.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self.one_writer = engine.dialect.name == "sqlite"
        self._reading = async_sessionmaker(engine.execution_options(writing=False), expire_on_commit=False)
        self._writing = async_sessionmaker(engine, expire_on_commit=False)
        # SQLite has one writer; waiting here is fair, its busy handler is not.
        self._turn = asyncio.Lock()
        # Sessions that are open now.
        self._uses = 0
        self._unused = asyncio.Event()
        self._unused.set()
        self._closed = False

    @classmethod
    async def open(cls, url: str) -> Self:
        """Open the database at `url` and bring its tables up to date."""
        return cls(await open_engine(url))

    async def close(self) -> None:
        """Close the connections. Tasks that use one get a moment to return it: a pool leaves it to the garbage collector otherwise."""
        self._closed = True
        try:
            async with asyncio.timeout(_RETURN_SECONDS):
                await self._unused.wait()
        except TimeoutError:
            logger.warning("%d tasks still use the database while it is closed", self._uses)
        await self._engine.dispose()

    @asynccontextmanager
    async def _use(self) -> AsyncIterator[None]:
        if self._closed:
            raise RuntimeError("the database is closed: the server has ended")
        self._uses += 1
        self._unused.clear()
        try:
            yield
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

    async def _page(
        self, rows: Select[Any], order: Sequence[Any], offset: int, limit: int
    ) -> tuple[Sequence[Any], int]:
        async with self._read() as session:
            total = await session.scalar(select(func.count()).select_from(rows.subquery())) or 0
            page = await session.scalars(rows.order_by(*order).offset(offset).limit(limit))
            return page.all(), total

    async def _lock(self, session: AsyncSession, project_id: UUID) -> None:
        """Admit one browser of a project at a time; SQLite's write lock does that already."""
        if not self.one_writer:
            await session.execute(select(Project.id).where(Project.id == project_id).with_for_update())


async def changed(session: AsyncSession, statement: Any) -> bool:
    """Return True if an update or delete has met a row."""
    result = await session.execute(statement)
    assert isinstance(result, CursorResult)
    return bool(result.rowcount)
