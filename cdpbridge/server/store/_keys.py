"""API keys: kept as hashes, looked up at each request, revoked for good."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import delete, func, or_, select, update

from ._database import Database
from ._models import HOLDS_SLOT, AgentSession, ApiKey, Browser, Project, Task

__all__ = ["Keys", "key_hash_of"]

# Of a key, to tell keys apart by; of a short one no more than a third.
_HINT_CHARACTERS: Final = 9


def key_hash_of(key: str) -> str:
    """Return what is kept of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


class Keys(Database):
    """API keys."""

    async def has_keys(self) -> bool:
        """Return True if there is or was a key, revoked ones included."""
        async with self._read() as session:
            return await session.scalar(select(ApiKey.key_hash).limit(1)) is not None

    async def add_key(
        self,
        key: str,
        *,
        project: str = "default",
        now: datetime,
        name: str | None = None,
        admin: bool = False,
    ) -> ApiKey:
        """Keep a key that was made here; it outlives changes of the configured ones."""
        async with self._write() as session:
            project_id = (await session.scalars(select(Project.id).where(Project.name == project))).one()
            row = ApiKey(
                id=uuid4(),
                key_hash=key_hash_of(key),
                project_id=project_id,
                configured=False,
                created_at=now,
                name=name,
                hint=f"{key[: min(_HINT_CHARACTERS, len(key) // 3)]}...",
                admin=admin,
            )
            session.add(row)
        return row

    async def key_of_hash(self, key_hash: str) -> ApiKey | None:
        """Return the key with this hash, unless it was revoked."""
        where = (ApiKey.key_hash == key_hash, ApiKey.revoked_at.is_(None))
        async with self._read() as session:
            return await session.scalar(select(ApiKey).where(*where))

    async def project_of(self, key: str) -> UUID | None:
        """Return the project a key belongs to."""
        return await self.project_of_hash(key_hash_of(key))

    async def project_of_hash(self, key_hash: str) -> UUID | None:
        """Return the project that the key with this hash belongs to."""
        key = await self.key_of_hash(key_hash)
        return None if key is None else key.project_id

    async def keys(self) -> Sequence[tuple[ApiKey, str]]:
        """Return every key with the name of its project, oldest first; revoked ones too."""
        rows = select(ApiKey, Project.name).join(Project, Project.id == ApiKey.project_id)
        async with self._read() as session:
            found = await session.execute(rows.order_by(ApiKey.created_at, ApiKey.id))
            return [(row[0], row[1]) for row in found]

    async def projects_with_keys(self) -> int:
        """Return how many projects have a key that was not revoked."""
        count = select(func.count(ApiKey.project_id.distinct())).where(ApiKey.revoked_at.is_(None))
        async with self._read() as session:
            return await session.scalar(count) or 0

    async def revoke_key(
        self, key_id: UUID, *, all_browsers: bool = False, now: datetime
    ) -> tuple[ApiKey, Sequence[UUID]] | None:
        """Revoke a key; from then on no browser is reserved with it.

        Args:
            key_id: Of the key; None is returned when there is none.
            all_browsers: Name every running browser of its project, not only those that were rented with it.
            now: The present; a key that is revoked already keeps its instant.

        Returns:
            The key, and the browsers that are to be stopped.
        """
        async with self._write() as session:
            found = select(ApiKey).where(ApiKey.id == key_id)
            row = await session.scalar(found.with_for_update(key_share=True))
            if row is None:
                return None
            # Against a browser that is being reserved.
            await self._lock(session, row.project_id)
            row.revoked_at = row.revoked_at or now
            whose = Browser.project_id == row.project_id if all_browsers else Browser.key_id == key_id
            running = select(Browser.id).where(whose, Browser.state.in_(HOLDS_SLOT))
            return row, (await session.scalars(running)).all()

    async def forget_keys(self, keys: Collection[str]) -> None:
        """Delete configured keys."""
        hashes = [key_hash_of(key) for key in keys]
        async with self._write() as session:
            await session.execute(delete(ApiKey).where(ApiKey.key_hash.in_(hashes), ApiKey.configured))

    async def running_of_key(self, key_id: UUID) -> Sequence[UUID]:
        """Return the browsers that hold a slot and were rented with this key."""
        running = select(Browser.id).where(Browser.key_id == key_id, Browser.state.in_(HOLDS_SLOT))
        async with self._read() as session:
            return (await session.scalars(running)).all()

    async def rented_with(self, keys: Collection[UUID], some_id: UUID) -> bool:
        """Return True if this id is of a browser that was rented with one of these keys, of its agent session, or of a task there."""
        found = (
            select(Browser.id)
            .outerjoin(AgentSession, AgentSession.browser_id == Browser.id)
            .outerjoin(Task, Task.session_id == AgentSession.id)
            .where(
                Browser.key_id.in_(keys),
                or_(Browser.id == some_id, AgentSession.id == some_id, Task.id == some_id),
            )
        )
        async with self._read() as session:
            return await session.scalar(found.limit(1)) is not None

    async def keys_used(self, used: Mapping[UUID, datetime]) -> None:
        """Note when keys were last used."""
        async with self._write() as session:
            for key_id, instant in used.items():
                await session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=instant))
