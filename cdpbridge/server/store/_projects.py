"""Projects, their keys, and the ledger that is only ever added to."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid4

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from cdpbridge.lifecycle import State

from ._database import Database
from ._models import HOLDS_SLOT, ApiKey, Browser, LedgerEntry, Project
from ._money import LedgerKind, from_micro_usd, to_micro_usd

__all__ = ["Account", "Projects", "key_hash_of"]


@dataclass(frozen=True, slots=True)
class Account:
    """What a project has.

    Attributes:
        balance: Sum of its ledger, USD.
        active: Browsers that hold a slot.
    """

    project_id: UUID
    name: str
    balance: Decimal
    active: int


class Projects(Database):
    """The room of projects."""

    async def prepare(
        self,
        keys: Mapping[str, Collection[str]],
        *,
        credits: Decimal,  # noqa: A002  # the field's word
        now: datetime,
    ) -> None:
        """Make the projects of `keys` (and `default`), grant new ones their credits, and replace configured keys."""
        async with self._write() as session:
            await session.execute(delete(ApiKey).where(ApiKey.configured))
            for name in {"default": (), **keys}:
                project = await session.scalar(select(Project).where(Project.name == name))
                if project is None:
                    project = Project(id=uuid4(), name=name, created_at=now)
                    session.add(project)
                    await session.flush()
                    amount = to_micro_usd(credits)
                    self._book(
                        session, project.id, kind=LedgerKind.GRANT, entry="start", amount=amount, now=now
                    )
                for key in keys.get(name, ()):
                    await session.merge(_key_row(key, project.id, configured=True, now=now))

    async def has_keys(self) -> bool:
        async with self._read() as session:
            return await session.scalar(select(ApiKey.key_hash).limit(1)) is not None

    async def add_key(self, key: str, *, project: str = "default", now: datetime) -> None:
        """Keep a key that was made here; it outlives changes of the configured ones."""
        async with self._write() as session:
            row = (await session.scalars(select(Project).where(Project.name == project))).one()
            session.add(_key_row(key, row.id, configured=False, now=now))

    async def project_of(self, key: str) -> UUID | None:
        """The project a key belongs to."""
        return await self.project_of_hash(key_hash_of(key))

    async def project_of_hash(self, key_hash: str) -> UUID | None:
        """The project that the key with this hash belongs to."""
        async with self._read() as session:
            return await session.scalar(select(ApiKey.project_id).where(ApiKey.key_hash == key_hash))

    async def project_names(self) -> dict[UUID, str]:
        """Every project and its name in the configuration."""
        async with self._read() as session:
            return {project.id: project.name for project in await session.scalars(select(Project))}

    async def account(self, project_id: UUID) -> Account | None:
        async with self._read() as session:
            project = await session.get(Project, project_id)
            if project is None:
                return None
            balance = await self._balance(session, project_id)
            return Account(
                project_id, project.name, from_micro_usd(balance), await self._slots(session, project_id)
            )

    async def grant(self, project_id: UUID, amount: Decimal, *, entry: str, now: datetime) -> None:
        """Add credits."""
        async with self._write() as session:
            self._book(
                session, project_id, kind=LedgerKind.GRANT, entry=entry, amount=to_micro_usd(amount), now=now
            )

    async def booked(self) -> dict[str, Decimal]:
        """USD by kind of entry, over all projects."""
        statement = select(LedgerEntry.kind, func.sum(LedgerEntry.amount_micro_usd)).group_by(
            LedgerEntry.kind
        )
        async with self._read() as session:
            return {kind: from_micro_usd(int(amount)) for kind, amount in await session.execute(statement)}

    async def ledger(self, project_id: UUID, *, since: datetime | None = None) -> Sequence[LedgerEntry]:
        """Every entry, or those from an instant on, oldest first."""
        rows = select(LedgerEntry).where(LedgerEntry.project_id == project_id).order_by(LedgerEntry.id)
        if since is not None:
            rows = rows.where(LedgerEntry.created_at >= since)
        async with self._read() as session:
            return (await session.scalars(rows)).all()

    async def newest_entries(
        self, project_id: UUID, *, limit: int
    ) -> tuple[Sequence[tuple[LedgerEntry, Decimal]], int]:
        """The newest entries, each with the balance after it in USD, newest first; and how many there are in all."""
        mine = LedgerEntry.project_id == project_id
        async with self._read() as session:
            balance = await self._balance(session, project_id)
            total = await session.scalar(select(func.count()).select_from(LedgerEntry).where(mine)) or 0
            rows = select(LedgerEntry).where(mine).order_by(LedgerEntry.id.desc()).limit(limit)
            found = []
            for entry in await session.scalars(rows):
                found.append((entry, from_micro_usd(balance)))
                balance -= entry.amount_micro_usd
        return found, total

    async def last_entry(self, project_id: UUID) -> int:
        """Number of the newest entry, 0 without one: it tells whether the ledger has moved."""
        newest = select(func.max(LedgerEntry.id)).where(LedgerEntry.project_id == project_id)
        async with self._read() as session:
            return await session.scalar(newest) or 0

    async def _balance(self, session: AsyncSession, project_id: UUID) -> int:
        amounts = select(func.sum(LedgerEntry.amount_micro_usd)).where(LedgerEntry.project_id == project_id)
        return int(await session.scalar(amounts) or 0)

    async def _slots(
        self, session: AsyncSession, project_id: UUID, states: Collection[State] = HOLDS_SLOT
    ) -> int:
        where = (Browser.project_id == project_id, Browser.state.in_(states))
        return await session.scalar(select(func.count()).select_from(Browser).where(*where)) or 0

    def _book(
        self,
        session: AsyncSession,
        project_id: UUID,
        *,
        kind: LedgerKind,
        entry: str,
        amount: int,
        now: datetime,
        browser_id: UUID | None = None,
    ) -> None:
        session.add(
            LedgerEntry(
                project_id=project_id,
                browser_id=browser_id,
                kind=kind,
                entry=entry,
                amount_micro_usd=amount,
                created_at=now,
            )
        )


def key_hash_of(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def _key_row(key: str, project_id: UUID, *, configured: bool, now: datetime) -> ApiKey:
    return ApiKey(key_hash=key_hash_of(key), project_id=project_id, configured=configured, created_at=now)
