"""Which server tells an engine how many workers are wanted: a lease of one row, by generation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from ._database import Database, changed
from ._models import EngineRow, Worker

__all__ = ["EngineRows"]


class EngineRows(Database):
    """Queries and transactions of engines."""

    async def engine(self, name: str) -> EngineRow | None:
        """Return an engine's row; None when no server has had it yet."""
        async with self._read() as session:
            return await session.get(EngineRow, name)

    async def take_engine(self, name: str, seen: EngineRow | None) -> int | None:
        """Make an engine this server's, and return the generation; None when another server was faster, or still lives.

        Args:
            seen: The row as it was when its owner was found to have ended, or to have left; None: there was none.
        """
        if seen is None:
            try:
                async with self._write() as session:
                    session.add(EngineRow(name=name, owner=self.server_id, generation=1, beats=0))
            except IntegrityError:
                return None
            return 1
        row = (EngineRow.generation == seen.generation, EngineRow.beats == seen.beats)
        taken = update(EngineRow).where(EngineRow.name == name, *row)
        mine = {"owner": self.server_id, "generation": EngineRow.generation + 1, "beats": EngineRow.beats + 1}
        async with self._write() as session:
            return await session.scalar(taken.values(mine).returning(EngineRow.generation))

    async def keep_engine(self, name: str, generation: int, report: Mapping[str, Any]) -> bool:
        """Give a sign of life as the owner of an engine; False when another server has taken it."""
        return await self._change(name, generation, {"beats": EngineRow.beats + 1, "report": {**report}})

    async def leave_engine(self, name: str, generation: int) -> bool:
        """Let another server have an engine at once."""
        return await self._change(name, generation, {"beats": EngineRow.beats + 1, "owner": None})

    async def _change(self, name: str, generation: int, values: Mapping[str, Any]) -> bool:
        mine = (EngineRow.owner == self.server_id, EngineRow.generation == generation)
        async with self._write() as session:
            return await changed(
                session, update(EngineRow).where(EngineRow.name == name, *mine).values(values)
            )

    async def use_worker_again(self, worker_id: UUID) -> Worker | None:
        """Give a worker that drains browsers again. None when there is no such worker."""
        async with self._write() as session:
            used = update(Worker).where(Worker.id == worker_id).values(draining=False).returning(Worker)
            worker = await session.scalar(used)
        self._freed(True)
        return worker
