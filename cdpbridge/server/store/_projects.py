"""Projects, and the ledger that is only ever added to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import bindparam, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from cdpbridge._lifecycle import State

from ._keys import Keys, key_hash_of
from ._models import HOLDS_SLOT, ApiKey, Browser, LedgerEntry, Project
from ._money import AT_THE_START, TOP_UP, LedgerKind, from_micro_usd, to_micro_usd
from ._postgresql import LOCK_OF_KEYS

__all__ = ["OWN_CREDITS", "Account", "ProjectOverview", "Projects"]

# Something, if the operator has given a project credits.
OWN_CREDITS: Final = (
    select(LedgerEntry.id)
    .where(
        LedgerEntry.project_id == bindparam("of"),
        LedgerEntry.kind == LedgerKind.GRANT,
        LedgerEntry.entry.not_in((AT_THE_START, TOP_UP)),
    )
    .limit(1)
)


@dataclass(frozen=True, slots=True)
class Account:
    """The account of a project.

    Attributes:
        balance: Sum of its ledger, USD.
        active: Browsers that hold a slot.
        has_own_credits: The operator has given it credits: they count, also where money is simulated otherwise.
    """

    project_id: UUID
    name: str
    balance: Decimal
    active: int
    has_own_credits: bool


@dataclass(frozen=True, slots=True)
class ProjectOverview:
    """A project as the operator sees it.

    Attributes:
        balance: Sum of its ledger, USD.
        active: Browsers that hold a slot.
    """

    project: Project
    balance: Decimal
    active: int


class Projects(Keys):
    """Projects and their money."""

    async def prepare(
        self,
        keys: Mapping[str, Collection[str]],
        *,
        credits: Decimal,  # noqa: A002  # the field's word
        now: datetime,
        admin_keys: Collection[str] = (),
        of_this_server: bool = False,
    ) -> Sequence[ApiKey]:
        """Make the projects of `keys` (and `default`), grant new ones their credits, and bring configured keys up to date.

        SQLite has one server, so keys that were configured and are no more are forgotten. In PostgreSQL they stay until they are
        revoked: another server may have them in its configuration.

        Args:
            keys: The configured keys of each project.
            credits: USD that a new project gets.
            now: The present.
            admin_keys: Configured keys of the operator; they belong to `default`.
            of_this_server: In PostgreSQL, the keys end with this server, also when it is killed: those of an embedded one.

        Returns:
            Configured keys that have been revoked, and stay so.
        """
        wanted = {(key_hash_of(key)): (name, False) for name, each in keys.items() for key in each}
        wanted |= {key_hash_of(key): ("default", True) for key in admin_keys}
        async with self._write() as session:
            await self._lock_of(session, LOCK_OF_KEYS)
            if self.one_writer:
                left = (ApiKey.configured, ApiKey.key_hash.not_in(wanted), ApiKey.revoked_at.is_(None))
                await session.execute(delete(ApiKey).where(*left))
            projects = {}
            for name in {"default": (), **keys}:
                project = await session.scalar(select(Project).where(Project.name == name))
                projects[name] = project or await self._add_project(session, name, credits=credits, now=now)
            revoked = []
            for key_hash, (name, admin) in wanted.items():
                row = await session.get(ApiKey, key_hash)
                if row is None:
                    row = ApiKey(id=uuid4(), key_hash=key_hash, created_at=now)
                    session.add(row)
                row.project_id, row.admin, row.configured = projects[name].id, admin, True
                row.server = self.server_id if of_this_server and not self.one_writer else None
                if row.revoked_at is not None:
                    revoked.append(row)
        return revoked

    async def project_names(self) -> dict[UUID, str]:
        """Return every project and its name in the configuration."""
        async with self._read() as session:
            return {project.id: project.name for project in await session.scalars(select(Project))}

    async def projects(self) -> Sequence[ProjectOverview]:
        """Return every project, by name, with what the operator wants to know of it."""
        async with self._read() as session:
            rows = (await session.scalars(select(Project).order_by(Project.name))).all()
            return [
                ProjectOverview(
                    project,
                    from_micro_usd(project.balance_micro_usd),
                    await self._slots(session, project.id),
                )
                for project in rows
            ]

    async def create_project(
        self,
        name: str,
        *,
        plan: str | None,
        max_browsers: int | None,
        credits: Decimal,  # noqa: A002  # the field's word
        now: datetime,
        entry: str = AT_THE_START,
    ) -> Project | None:
        """Insert a project with its first credits; None when there is one of this name.

        Args:
            name: Its name.
            plan: None for the setting's.
            max_browsers: None for the setting's.
            credits: USD.
            now: The present.
            entry: Of the ledger; any other than the default means that the operator has given them.
        """
        async with self._write() as session:
            await self._lock_of(session, LOCK_OF_KEYS)
            if await session.scalar(select(Project.id).where(Project.name == name)) is not None:
                return None
            project = await self._add_project(session, name, credits=credits, now=now, entry=entry)
            project.plan, project.max_browsers = plan, max_browsers
        return project

    async def change_project(self, project_id: UUID, values: Mapping[str, Any]) -> Project | None:
        """Set `plan` or `max_browsers`; None when there is no such project."""
        async with self._write() as session:
            project = await session.get(Project, project_id)
            if project is not None:
                for name, value in values.items():
                    setattr(project, name, value)
        return project

    async def _add_project(
        self,
        session: AsyncSession,
        name: str,
        *,
        credits: Decimal,  # noqa: A002  # the field's word
        now: datetime,
        entry: str = AT_THE_START,
    ) -> Project:
        project = Project(id=uuid4(), name=name, created_at=now)
        session.add(project)
        await session.flush()
        amount = to_micro_usd(credits)
        self._book(session, project.id, kind=LedgerKind.GRANT, entry=entry, amount=amount, now=now)
        return project

    async def account(self, project_id: UUID) -> Account | None:
        async with self._read() as session:
            project = await session.get(Project, project_id)
            if project is None:
                return None
            return Account(
                project_id,
                project.name,
                from_micro_usd(project.balance_micro_usd),
                await self._slots(session, project_id),
                await self._has_own_credits(session, project_id),
            )

    async def grant(self, project_id: UUID, amount: Decimal, *, entry: str, now: datetime) -> Decimal:
        """Add credits; the balance after that, USD."""
        async with self._write() as session:
            self._book(
                session, project_id, kind=LedgerKind.GRANT, entry=entry, amount=to_micro_usd(amount), now=now
            )
            await session.flush()
            return from_micro_usd(await self._balance(session, project_id))

    async def booked(self) -> dict[str, Decimal]:
        """USD by kind of entry, over all projects."""
        statement = select(LedgerEntry.kind, func.sum(LedgerEntry.amount_micro_usd)).group_by(
            LedgerEntry.kind
        )
        async with self._read() as session:
            return {kind: from_micro_usd(int(amount)) for kind, amount in await session.execute(statement)}

    async def ledger(self, project_id: UUID, *, since: datetime | None = None) -> Sequence[LedgerEntry]:
        """Return every entry, or those from an instant on, oldest first."""
        rows = select(LedgerEntry).where(LedgerEntry.project_id == project_id).order_by(LedgerEntry.id)
        if since is not None:
            rows = rows.where(LedgerEntry.created_at >= since)
        async with self._read() as session:
            return (await session.scalars(rows)).all()

    async def newest_entries(
        self, project_id: UUID, *, limit: int
    ) -> tuple[Sequence[tuple[LedgerEntry, Decimal]], int]:
        """Return the newest entries, each with the balance after it in USD, newest first; and how many there are in all."""
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
        """Return the number of the newest entry, 0 without one: it tells whether the ledger has moved."""
        newest = select(func.max(LedgerEntry.id)).where(LedgerEntry.project_id == project_id)
        async with self._read() as session:
            return await session.scalar(newest) or 0

    async def _balance(self, session: AsyncSession, project_id: UUID) -> int:
        row = select(Project.balance_micro_usd).where(Project.id == project_id)
        return await session.scalar(row) or 0

    async def _has_own_credits(self, session: AsyncSession, project_id: UUID) -> bool:
        """Return True if the operator has given it credits: then they count, also where money is simulated otherwise."""
        return await session.scalar(OWN_CREDITS, {"of": project_id}) is not None

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
