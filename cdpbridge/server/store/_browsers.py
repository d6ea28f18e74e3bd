"""Browsers, from the slot they take to the refund; each change of state with its ledger entry in one transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, delete, func, select, update

from cdpbridge._lifecycle import EndReason, State
from cdpbridge.billing import Tariff

from . import _rental_steps
from ._browser_files import BrowserFiles
from ._models import HOLDS_SLOT, NOT_STOPPED, OVER, Browser, IdempotencyKey, not_rented_with
from ._projects import Projects
from ._recording_states import RecordingState
from ._rental_steps import Owned, Settlement
from ._slots import needs_no_slot

__all__ = ["Browsers", "NewAgentSession"]

# How long a repeated request finds the browser of the first: long enough for any client's retries.
_IDEMPOTENCY_AGE: Final = timedelta(hours=24)
_FORGET_EVERY: Final = timedelta(hours=1)
# Generation of a browser whose server is its first.
_FIRST: Final = 1


@dataclass(frozen=True, slots=True)
class NewAgentSession:
    """An agent session that is made with its browser.

    Attributes:
        keep_alive: Whether it stays open after a task.
        persist_memory: Whether a task gets the outputs of the ones before.
    """

    id: UUID
    start_url: str | None
    keep_alive: bool
    persist_memory: bool


class Browsers(BrowserFiles, Projects):
    """Queries and transactions of browsers."""

    _keys_forgotten: datetime | None = None

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
        labels: Mapping[str, str] | None = None,
        agent_session: NewAgentSession | None = None,
        recording: bool = False,
        key_id: UUID | None = None,
        proxy_simulated: bool = False,
        ignored_fields: Sequence[str] | None = None,
        top_up: Decimal | None = None,
        allowed_hosts: Collection[str] | None = None,
        denied_hosts: Collection[str] | None = None,
    ) -> Browser:
        """Insert a browser that starts: it takes a slot, and nothing is charged yet.

        Args:
            browser_id: A new one; chosen by the caller, who can withdraw it without having seen the answer.
            limit: Browsers the project may have at once.
            idempotency: The request's key and the hash of its body.
            labels: The caller's `metadata`.
            agent_session: Made with it, when it is to have one.
            recording: It is to be recorded.
            key_id: The key that asks.
            proxy_simulated: Its country has no upstream.
            ignored_fields: Of the request; see `Unused`.
            top_up: USD that are granted when credits are missing, as often as it takes; None to refuse then, as a project is
                whose credits the operator has given.
            allowed_hosts: Of the request.
            denied_hosts: Of the request.

        Raises:
            KeyRevoked: The key was revoked since the request came.
            KeyTaken: Another server has begun a browser for the same `Idempotency-Key`.
            TooManyBrowsers: No slot is free.
            InsufficientCredits: The first hour cannot be paid, counting the browsers that are starting as well.
        """
        browser = {
            "id": browser_id,
            "project_id": project_id,
            "profile_id": profile_id,
            "proxy_country": proxy_country,
            "state": State.STARTING,
            "timeout_minutes": timeout // timedelta(minutes=1),
            "usd_per_hour": str(tariff.usd_per_hour),
            "minimum_minutes": tariff.minimum_minutes,
            "created_at": now,
            "charged_micro_usd": 0,
            "refunded_micro_usd": 0,
            "proxy_bytes": 0,
            "labels": self._labels(labels),
            "agent_session_id": None if agent_session is None else agent_session.id,
            "recording": RecordingState.RUNNING if recording else None,
            "key_id": key_id,
            "proxy_simulated": proxy_simulated or None,
            "ignored_fields": list(ignored_fields) if ignored_fields else None,
            "allowed_hosts": _listed(allowed_hosts),
            "denied_hosts": _listed(denied_hosts),
            "owner": self.server_id,
            "generation": _FIRST,
        }
        its = {"project_id": project_id, "browser_id": browser_id, "created_at": now}
        # Once an hour, since it looks at each.
        forget = idempotency is not None and (
            self._keys_forgotten is None or now - self._keys_forgotten > _FORGET_EVERY
        )
        work = partial(
            _rental_steps.reserve,
            browser=browser,
            tariff=tariff,
            limit=limit,
            top_up=top_up,
            agent_session=None if agent_session is None else its | asdict(agent_session),
            idempotency=None
            if idempotency is None
            else its | {"key": idempotency[0], "body_hash": idempotency[1]},
            others=not self.one_writer,
            forget_before=now - _IDEMPOTENCY_AGE if forget else None,
        )
        # Nothing is answered or paid before it is active.
        await self._transact(work, durable=False)
        if forget:
            self._keys_forgotten = now
        return Browser(**browser)

    async def repeated(self, project_id: UUID, key: str) -> tuple[str, Browser] | None:
        """Return the body's hash and the browser of an earlier request with this `Idempotency-Key`."""
        async with self._read() as session:
            row = await session.get(IdempotencyKey, (project_id, key))
            if row is None:
                return None
            browser = await session.get(Browser, row.browser_id)
            assert browser is not None  # the foreign key says so
            return row.body_hash, browser

    def _owned(self, browser_id: UUID, generation: int) -> Owned:
        return Owned(browser_id, self.server_id, generation)

    def _where_owned(
        self, browser_id: UUID, generation: int, state: State
    ) -> tuple[ColumnElement[bool], ...]:
        mine = (Browser.owner == self.server_id, Browser.generation == generation)
        return (Browser.id == browser_id, *mine, Browser.state == state)

    async def activate(
        self,
        browser_id: UUID,
        *,
        started_at: datetime,
        profile_writable: bool | None,
        place_id: UUID | None = None,
        uptime: timedelta = timedelta(0),
        generation: int = _FIRST,
    ) -> Browser | None:
        """Move a browser from starting to active and charge its first hour; None when it was stopped meanwhile.

        Its `profile_writable` becomes False when another browser, of whatever server, may save the profile.

        Args:
            place_id: By what its folders on the machine are named.
            uptime: Of this server, as its beats give it.
            generation: As it was reserved or taken over.
        """
        return await self._transact(
            partial(
                _rental_steps.activate,
                owned=self._owned(browser_id, generation),
                started_at=started_at,
                profile_writable=profile_writable,
                place_id=place_id,
                uptime=uptime,
            )
        )

    async def abandon(
        self, browser_id: UUID, reason: EndReason, *, now: datetime, generation: int = _FIRST
    ) -> bool:
        """Move a browser from starting to stopped: nothing was charged, and its `Idempotency-Key` may be used again."""
        async with self._write() as session:
            values = {"state": State.STOPPED, "end_reason": reason, "finished_at": now, "recording": None}
            where = self._where_owned(browser_id, generation, State.STARTING)
            statement = update(Browser).where(*where).values(values).returning(Browser.worker)
            abandoned = (await session.execute(statement)).one_or_none()
            if abandoned is None:
                return False
            await session.execute(delete(IdempotencyKey).where(IdempotencyKey.browser_id == browser_id))
            server_ended = reason == EndReason.SERVER_LOST
            wanted = await needs_no_slot(session, browser_id, abandoned.worker, server_ended=server_ended)
        self._freed(wanted)
        return True

    async def seen(self, traffic: Mapping[UUID, int]) -> None:
        """Note what went through the proxies of browsers so far, in bytes."""
        rows = [{"of": browser_id, "bytes": count} for browser_id, count in traffic.items()]
        where = (
            Browser.id == bindparam("of"),
            Browser.owner == self.server_id,
            Browser.state == State.ACTIVE,
        )
        counted = update(Browser).where(*where).values(proxy_bytes=bindparam("bytes"))
        async with self._write() as session:
            # The connection's, since the session has no statement for many rows with a condition of its own.
            await (await session.connection()).execute(counted, rows)

    async def charge_started_hours(
        self, browser_id: UUID, used: timedelta, *, now: datetime, generation: int = _FIRST
    ) -> None:
        """Book the hours that have started after `used`, except those that are booked already."""
        owned = self._owned(browser_id, generation)
        await self._transact(partial(_rental_steps.charge_started_hours, owned=owned, used=used, now=now))

    async def settle(
        self,
        browser_id: UUID,
        reason: EndReason,
        used: timedelta,
        *,
        now: datetime,
        discarded: bool = False,
        generation: int = _FIRST,
    ) -> Settlement | None:
        """Move a browser from active to stopping; book its last charge and its refund.

        Args:
            discarded: Refund everything, because no client received it.
            generation: As it was reserved or taken over.

        Returns:
            None when that has happened already, or another server has taken it over.
        """
        work = partial(
            _rental_steps.settle,
            owned=self._owned(browser_id, generation),
            reason=reason,
            used=used,
            now=now,
            discarded=discarded,
        )
        # A stop is answered after `finish`, and who finds a browser active whose server has ended settles it.
        return await self._transact(work, durable=False)

    async def finish(
        self,
        browser_id: UUID,
        *,
        proxy_bytes: int,
        blocked_requests: int | None = None,
        host_traffic: Sequence[tuple[str | None, int, int]] | None = None,
        generation: int = _FIRST,
    ) -> Browser | None:
        """Move a browser from stopping to stopped and return it; None when it has stopped before, or is another server's."""
        browser, wanted = await self._transact(
            partial(
                _rental_steps.finish,
                owned=self._owned(browser_id, generation),
                proxy_bytes=proxy_bytes,
                blocked_requests=blocked_requests,
                host_traffic=host_traffic,
            )
        )
        self._freed(wanted)
        return browser

    async def rental(self, browser_id: UUID) -> Browser | None:
        """Return a browser of any project: for a client that has the browser's own credential."""
        async with self._read() as session:
            return await session.get(Browser, browser_id)

    async def unfinished(self) -> Sequence[Browser]:
        """Browsers that are not stopped, of all servers."""
        async with self._read() as session:
            return (await session.scalars(select(Browser).where(Browser.state.in_(NOT_STOPPED)))).all()

    async def browser(self, project_id: UUID, browser_id: UUID) -> Browser | None:
        async with self._read() as session:
            where = (Browser.id == browser_id, Browser.project_id == project_id)
            return await session.scalar(select(Browser).where(*where))

    async def browsers(
        self,
        project_id: UUID,
        *,
        active: bool | None,
        offset: int,
        limit: int,
        agent_session_id: UUID | None = None,
        labels: Mapping[str, str] | None = None,
        hidden: Collection[UUID] = (),
    ) -> tuple[Sequence[Browser], int]:
        """Return one page, newest first, and how many there are; browsers that never started are left out.

        Args:
            active: Only those that hold a slot, or only those that do not.
            agent_session_id: Only that session's.
            labels: Only those whose `metadata` has each of these pairs.
            hidden: Keys; what was rented with one of them is left out.
        """
        rows = select(Browser).where(
            Browser.project_id == project_id,
            (Browser.state != State.STOPPED) | Browser.started_at.is_not(None),
        )
        if active is not None:
            rows = rows.where(Browser.state.in_(HOLDS_SLOT if active else OVER))
        if agent_session_id is not None:
            rows = rows.where(Browser.agent_session_id == agent_session_id)
        for name, value in (self._labels(labels) or {}).items():
            rows = rows.where(self._has_label(name, value))
        if hidden:
            rows = rows.where(not_rented_with(hidden))
        return await self._page(rows, (Browser.created_at.desc(), Browser.id), offset, limit)

    def _has_label(self, name: str, value: str) -> ColumnElement[bool]:
        if not self.one_writer:
            found: ColumnElement[bool] = Browser.labels[name].as_string() == value
            return found
        # SQLite's paths into JSON take no name with a quotation mark in it.
        each = func.json_each(Browser.labels).table_valued("key", "value")
        return select(1).select_from(each).where(each.c.key == name, each.c.value == value).exists()


def _listed(values: Collection[str] | None) -> list[str] | None:
    return None if values is None else list(values)
