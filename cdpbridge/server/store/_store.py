"""`Store`: every read and every change of the database, each change in one transaction."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Self
from uuid import UUID, uuid4

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from cdpbridge import billing
from cdpbridge.billing import Tariff
from cdpbridge.errors import CDPBridgeError
from cdpbridge.lifecycle import EndReason, State

from ._engine import open_engine
from ._models import ApiKey, Browser, IdempotencyKey, LedgerEntry, Profile, Project
from ._money import LedgerKind, from_micro_usd, to_micro_usd

__all__ = ["Account", "AdmissionRefused", "InsufficientCredits", "Settlement", "Store", "TooManyBrowsers"]

_SLOTS: Final = (State.STARTING, State.ACTIVE)
_OVER: Final = (State.STOPPING, State.STOPPED)
# How long a repeated request finds the browser of the first: long enough for any client's retries.
_IDEMPOTENCY_AGE: Final = timedelta(hours=24)


class AdmissionRefused(CDPBridgeError):
    """A browser or profile may not be made now."""


class TooManyBrowsers(AdmissionRefused):
    """The project holds as many browsers as it may.

    Attributes:
        limit: That number.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} browsers are active, the limit")
        self.limit = limit


class InsufficientCredits(AdmissionRefused):
    """The project's credits do not pay for the first hour."""


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


@dataclass(frozen=True, slots=True)
class Settlement:
    """What the end of a browser booked, in USD; made once per browser."""

    charged: Decimal
    refunded: Decimal


class Store:
    """The database. Objects it returns are detached copies."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reading = async_sessionmaker(engine.execution_options(writing=False), expire_on_commit=False)
        self._writing = async_sessionmaker(engine, expire_on_commit=False)
        self._turn = asyncio.Lock()  # SQLite has one writer; waiting here is fair, its busy handler is not

    @classmethod
    async def open(cls, url: str) -> Self:
        """The database at `url`, with its tables up to date."""
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

    # --- projects and keys ----------------------------------------------------------------------------------------

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

    async def last_entry(self, project_id: UUID) -> int:
        """Number of the newest entry, 0 without one: it tells whether the ledger has moved."""
        newest = select(func.max(LedgerEntry.id)).where(LedgerEntry.project_id == project_id)
        async with self._read() as session:
            return await session.scalar(newest) or 0

    # --- profiles -------------------------------------------------------------------------------------------------

    async def create_profile(
        self, project_id: UUID, name: str | None, *, limit: int | None, now: datetime
    ) -> Profile:
        """A new profile.

        Raises:
            AdmissionRefused: The project has `limit` profiles already.
        """
        async with self._write() as session:
            await self._lock(session, project_id)
            if limit is not None:
                rows = select(func.count()).select_from(Profile).where(Profile.project_id == project_id)
                if (await session.scalar(rows) or 0) >= limit:
                    raise AdmissionRefused(f"the plan includes {limit} profile")
            profile = Profile(id=uuid4(), project_id=project_id, name=name, created_at=now, updated_at=now)
            session.add(profile)
        return profile

    async def profile(self, project_id: UUID, profile_id: UUID) -> Profile | None:
        async with self._read() as session:
            profile: Profile | None = await session.scalar(_profile(project_id, profile_id))
            return profile

    async def profiles(self, project_id: UUID, *, offset: int, limit: int) -> tuple[Sequence[Profile], int]:
        """One page, newest first, and how many there are."""
        rows = select(Profile).where(Profile.project_id == project_id)
        return await self._page(rows, (Profile.created_at.desc(), Profile.id), offset, limit)

    async def rename_profile(
        self, project_id: UUID, profile_id: UUID, name: str | None, *, now: datetime
    ) -> Profile | None:
        async with self._write() as session:
            profile: Profile | None = await session.scalar(_profile(project_id, profile_id))
            if profile is not None:
                profile.name, profile.updated_at = name, now
        return profile

    async def delete_profile(self, project_id: UUID, profile_id: UUID) -> bool:
        """Whether there was one."""
        async with self._write() as session:
            profile = await session.scalar(_profile(project_id, profile_id))
            if profile is not None:
                await session.delete(profile)
        return profile is not None

    async def profile_exists(self, profile_id: UUID) -> bool:
        async with self._read() as session:
            return await session.get(Profile, profile_id) is not None

    async def profile_saved(self, profile_id: UUID, cookie_domains: list[str], *, now: datetime) -> bool:
        """Note a new version; False when the profile was deleted meanwhile."""
        values = {"cookie_domains": cookie_domains, "updated_at": now}
        async with self._write() as session:
            return await _changed(session, update(Profile).where(Profile.id == profile_id).values(values))

    # --- browsers -------------------------------------------------------------------------------------------------

    async def reserve(
        self,
        project_id: UUID,
        browser_id: UUID,
        *,
        profile_id: UUID | None,
        proxy_country: str | None,
        timeout: timedelta,
        tariff: Tariff,
        limit: int,
        now: datetime,
        idempotency: tuple[str, str] | None = None,
    ) -> Browser:
        """A browser that starts: it takes a slot, and nothing is charged yet.

        Args:
            browser_id: A new one; chosen by the caller, who can withdraw it without having seen the answer.
            limit: Browsers the project may have at once.
            idempotency: The request's key and the hash of its body.

        Raises:
            TooManyBrowsers: No slot is free.
            InsufficientCredits: The first hour cannot be paid, counting the browsers that are starting as well.
        """
        async with self._write() as session:
            await self._lock(session, project_id)
            if await self._slots(session, project_id) >= limit:
                raise TooManyBrowsers(limit)
            price = to_micro_usd(billing.charge(tariff, timedelta(0)))
            starting = await self._slots(session, project_id, (State.STARTING,))
            if price and await self._balance(session, project_id) < price * (starting + 1):
                raise InsufficientCredits("the credits do not pay for another hour")
            browser = Browser(
                id=browser_id,
                project_id=project_id,
                profile_id=profile_id,
                proxy_country=proxy_country,
                state=State.STARTING,
                timeout_minutes=timeout // timedelta(minutes=1),
                usd_per_hour=str(tariff.usd_per_hour),
                minimum_minutes=tariff.minimum_minutes,
                created_at=now,
                charged_micro_usd=0,
                refunded_micro_usd=0,
                proxy_bytes=0,
            )
            session.add(browser)
            await session.flush()
            if idempotency is not None:
                old = IdempotencyKey.created_at < now - _IDEMPOTENCY_AGE
                await session.execute(delete(IdempotencyKey).where(old))
                key, body_hash = idempotency
                session.add(
                    IdempotencyKey(
                        project_id=project_id,
                        key=key,
                        body_hash=body_hash,
                        browser_id=browser.id,
                        created_at=now,
                    )
                )
        return browser

    async def repeated(self, project_id: UUID, key: str) -> tuple[str, Browser] | None:
        """The body's hash and the browser of an earlier request with this `Idempotency-Key`."""
        async with self._read() as session:
            row = await session.get(IdempotencyKey, (project_id, key))
            if row is None:
                return None
            browser = await session.get(Browser, row.browser_id)
            assert browser is not None  # the foreign key says so
            return row.body_hash, browser

    async def activate(
        self, browser_id: UUID, *, started_at: datetime, profile_writable: bool | None
    ) -> Browser | None:
        """starting -> active, and the charge for the first hour; None when it was stopped meanwhile."""
        async with self._write() as session:
            values = {
                "state": State.ACTIVE,
                "started_at": started_at,
                "last_seen_at": started_at,
                "profile_writable": profile_writable,
            }
            where = (Browser.id == browser_id, Browser.state == State.STARTING)
            if not await _changed(session, update(Browser).where(*where).values(values)):
                return None
            browser = (await session.scalars(select(Browser).where(Browser.id == browser_id))).one()
            self._charge(session, browser, timedelta(0), started_at)
            if browser.profile_id is not None:
                profile = update(Profile).where(Profile.id == browser.profile_id)
                await session.execute(profile.values(last_used_at=started_at))
        return browser

    async def abandon(self, browser_id: UUID, reason: EndReason, *, now: datetime) -> bool:
        """starting -> stopped: nothing was charged, and its `Idempotency-Key` may be used again."""
        async with self._write() as session:
            values = {"state": State.STOPPED, "end_reason": reason, "finished_at": now}
            where = (Browser.id == browser_id, Browser.state == State.STARTING)
            changed = await _changed(session, update(Browser).where(*where).values(values))
            if changed:
                await session.execute(delete(IdempotencyKey).where(IdempotencyKey.browser_id == browser_id))
        return changed

    async def seen(self, used: Mapping[UUID, timedelta], traffic: Mapping[UUID, int]) -> None:
        """Note that browsers are alive, after how much time, and what went through their proxies."""
        async with self._write() as session:
            for browser_id, elapsed in used.items():
                browser = await session.get(Browser, browser_id)
                if browser is not None and browser.state == State.ACTIVE and browser.started_at:
                    browser.last_seen_at = browser.started_at + elapsed
                    browser.proxy_bytes = traffic.get(browser_id, browser.proxy_bytes)

    async def charge_started_hours(self, browser_id: UUID, used: timedelta, *, now: datetime) -> None:
        """Book the hours that have started after `used`, those that are booked already excepted."""
        async with self._write() as session:
            browser = await session.get(Browser, browser_id, with_for_update=True)
            if browser is not None and browser.state == State.ACTIVE and browser.started_at:
                self._charge(session, browser, used, now)
                browser.last_seen_at = browser.started_at + used  # what is charged was seen

    async def settle(
        self, browser_id: UUID, reason: EndReason, used: timedelta, *, now: datetime, void: bool = False
    ) -> Settlement | None:
        """active -> stopping, with what is still to be charged and the refund; None when that has happened already.

        Args:
            void: Give everything back: its client never learnt of it.
        """
        async with self._write() as session:
            where = (Browser.id == browser_id, Browser.state == State.ACTIVE)
            values = {"state": State.STOPPING, "end_reason": reason}
            if not await _changed(session, update(Browser).where(*where).values(values)):
                return None
            browser = (await session.scalars(select(Browser).where(Browser.id == browser_id))).one()
            assert browser.started_at is not None  # it was active
            browser.last_seen_at = browser.finished_at = browser.started_at + used
            self._charge(session, browser, used, now)
            # Not `billing.refund`: an hour may be booked that a killed server did not live to see used.
            unused = browser.charged_micro_usd - to_micro_usd(billing.cost(browser.tariff, used))
            refunded = browser.charged_micro_usd if void else unused
            if refunded:
                self._book(
                    session,
                    browser.project_id,
                    browser_id=browser.id,
                    kind=LedgerKind.REFUND,
                    entry="refund",
                    amount=refunded,
                    now=now,
                )
                browser.refunded_micro_usd = refunded
            return Settlement(from_micro_usd(browser.charged_micro_usd), from_micro_usd(refunded))

    async def finish(self, browser_id: UUID, *, proxy_bytes: int) -> bool:
        """stopping -> stopped."""
        async with self._write() as session:
            where = (Browser.id == browser_id, Browser.state == State.STOPPING)
            values = {"state": State.STOPPED, "proxy_bytes": proxy_bytes}
            return await _changed(session, update(Browser).where(*where).values(values))

    async def unfinished(self) -> Sequence[Browser]:
        """Browsers that are not stopped: at start-up, those of a server that was killed."""
        async with self._read() as session:
            return (await session.scalars(select(Browser).where(Browser.state != State.STOPPED))).all()

    async def browser(self, project_id: UUID, browser_id: UUID) -> Browser | None:
        async with self._read() as session:
            where = (Browser.id == browser_id, Browser.project_id == project_id)
            return await session.scalar(select(Browser).where(*where))

    async def browsers(
        self, project_id: UUID, *, active: bool | None, offset: int, limit: int
    ) -> tuple[Sequence[Browser], int]:
        """One page, newest first, and how many there are; browsers that never started are left out.

        Args:
            active: Only those that hold a slot, or only those that do not.
        """
        rows = select(Browser).where(
            Browser.project_id == project_id,
            (Browser.state != State.STOPPED) | Browser.started_at.is_not(None),
        )
        if active is not None:
            rows = rows.where(Browser.state.in_(_SLOTS if active else _OVER))
        return await self._page(rows, (Browser.created_at.desc(), Browser.id), offset, limit)

    # --- parts of transactions ------------------------------------------------------------------------------------

    async def _page(
        self, rows: Select[Any], order: Sequence[Any], offset: int, limit: int
    ) -> tuple[Sequence[Any], int]:
        async with self._read() as session:
            total = await session.scalar(select(func.count()).select_from(rows.subquery())) or 0
            page = await session.scalars(rows.order_by(*order).offset(offset).limit(limit))
            return page.all(), total

    async def _lock(self, session: AsyncSession, project_id: UUID) -> None:
        """One admission of a project at a time; SQLite's write lock does that already."""
        await session.execute(select(Project.id).where(Project.id == project_id).with_for_update())

    async def _slots(
        self, session: AsyncSession, project_id: UUID, states: Collection[State] = _SLOTS
    ) -> int:
        where = (Browser.project_id == project_id, Browser.state.in_(states))
        return await session.scalar(select(func.count()).select_from(Browser).where(*where)) or 0

    async def _balance(self, session: AsyncSession, project_id: UUID) -> int:
        amounts = select(func.sum(LedgerEntry.amount_micro_usd)).where(LedgerEntry.project_id == project_id)
        return int(await session.scalar(amounts) or 0)

    def _charge(self, session: AsyncSession, browser: Browser, used: timedelta, now: datetime) -> None:
        total = to_micro_usd(billing.charge(browser.tariff, used))
        missing = total - browser.charged_micro_usd
        if missing > 0:
            hours = -(-billing.billed_minutes(browser.tariff, used) // 60)
            self._book(
                session,
                browser.project_id,
                browser_id=browser.id,
                kind=LedgerKind.CHARGE,
                entry=f"hour {hours}",
                amount=-missing,
                now=now,
            )
            browser.charged_micro_usd = total

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


def _profile(project_id: UUID, profile_id: UUID) -> Select[Any]:
    return select(Profile).where(Profile.id == profile_id, Profile.project_id == project_id)


def key_hash_of(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def _key_row(key: str, project_id: UUID, *, configured: bool, now: datetime) -> ApiKey:
    return ApiKey(key_hash=key_hash_of(key), project_id=project_id, configured=configured, created_at=now)


async def _changed(session: AsyncSession, statement: Any) -> bool:
    result = await session.execute(statement)
    assert isinstance(result, CursorResult)
    return bool(result.rowcount)
