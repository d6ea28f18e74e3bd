"""`Database`: connections, transactions and pages, for the tables of the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from ._engine import open_engine
from ._models import Project

__all__ = ["Database", "changed"]


class Database:
    """Base of the store's classes: a transaction to read in, and one to write in."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reading = async_sessionmaker(engine.execution_options(writing=False), expire_on_commit=False)
        self._writing = async_sessionmaker(engine, expire_on_commit=False)
        # SQLite has one writer; waiting here is fair, its busy handler is not.
        self._turn = asyncio.Lock()

    @classmethod
    async def open(cls, url: str) -> Self:
        """Open the database at `url` and bring its tables up to date."""
        return cls(await open_engine(url))

    async def close(self) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def _read(self) -> AsyncIterator[AsyncSession]:
        async with self._reading() as session:
            yield session

    @asynccontextmanager
    async def _write(self) -> AsyncIterator[AsyncSession]:
        async with self._turn, self._writing.begin() as session:
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
        await session.execute(select(Project.id).where(Project.id == project_id).with_for_update())


async def changed(session: AsyncSession, statement: Any) -> bool:
    """Return True if an update or delete has met a row."""
    result = await session.execute(statement)
    assert isinstance(result, CursorResult)
    return bool(result.rowcount)
