"""Servers of one database: who there is, signs of life, and which browsers are whose. A row is of one start of a server."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import ARRAY, Uuid, bindparam, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from cdpbridge._lifecycle import State

from ._column_types import Instant
from ._database import Database, changed
from ._models import HOLDS_SLOT, NOT_STOPPED, ApiKey, Browser, Server, Worker
from ._recording_states import RecordingState
from ._slots import bumped

__all__ = ["Servers"]

# Ids of servers are random numbers; this many characters of a host's name are kept with one, for people.
_NAME_CHARACTERS: Final = 200
# In one statement: databases allow some thousands of values.
_IDS_AT_ONCE: Final = 500
_HANDED_OVER: Final = "{}, handed over"
# So that no transaction is long, and several servers share the work.
_TAKEN_AT_ONCE: Final = 100
# After half of that, a worker that no server reaches ends its browsers.
_ALONE: Final = timedelta(minutes=1)
# The database's clock: with that of no server it is compared.
_BY_DATABASE: Final = func.now(type_=Instant())


class Servers(Database):
    """Queries and transactions of servers. `server_id` is our own."""

    async def join(self, name: str, *, now: datetime) -> None:
        """Add this server.

        Args:
            name: For people: host and process.
        """
        async with self._write() as session:
            session.add(
                Server(id=self.server_id, name=name[:_NAME_CHARACTERS], beats=0, uptime_ms=0, joined_at=now)
            )

    async def beat(self, uptime: timedelta, answered: Collection[UUID] = ()) -> bool:
        """Give a sign of life, for this server and for workers; False when others have given this server up.

        Args:
            uptime: Since this server has joined.
            answered: Workers that it has heard from since the last time.
        """
        mine = (
            update(Server)
            .where(Server.id == self.server_id)
            .values(
                beats=Server.beats + 1, uptime_ms=uptime // timedelta(milliseconds=1), beaten_at=_BY_DATABASE
            )
        )
        async with self._write() as session:
            if answered and self.one_writer:
                await session.execute(bumped(Worker.id.in_(answered)))
            elif answered:
                # A row that a reservation holds just now is left out: this must wait for no other transaction.
                of = Worker.id == func.any(bindparam("answered", list(answered), ARRAY(Uuid())))
                free = select(Worker.id).where(of).with_for_update(key_share=True, skip_locked=True)
                mine = mine.add_cte(bumped(Worker.id.in_(free)).returning(Worker.id).cte("workers_alive"))
            return await changed(session, mine)

    async def other_servers(self) -> Sequence[Server]:
        """Return the servers that have joined and not left, without this one."""
        async with self._read() as session:
            return (await session.scalars(select(Server).where(Server.id != self.server_id))).all()

    async def forget_server(self, server_id: UUID) -> bool:
        """Remove a server that has ended, and the keys that end with it, unless it still has browsers that have not stopped."""
        has = select(Browser.id).where(Browser.owner == server_id, Browser.state.in_(NOT_STOPPED))
        async with self._write() as session:
            await session.execute(delete(ApiKey).where(ApiKey.server == server_id))
            return await changed(session, delete(Server).where(Server.id == server_id, ~has.exists()))

    async def hand_over(self, ids: Collection[UUID], uptime: timedelta, *, now: datetime) -> Collection[UUID]:
        """Let other servers take active browsers of this one, at once, and return those that they may.

        They are of a server that has only a row, until they are taken: `leaving`.

        Args:
            ids: Of the browsers.
            uptime: Of this server.
            now: The present.
        """
        async with self._write() as session:
            mine = await session.get(Server, self.server_id)
            heir = Server(
                id=uuid4(),
                name=_HANDED_OVER.format("" if mine is None else mine.name)[:_NAME_CHARACTERS],
                beats=0,
                uptime_ms=uptime // timedelta(milliseconds=1),
                joined_at=now,
                beaten_at=_BY_DATABASE,
                leaving=True,
            )
            session.add(heir)
            await session.flush()
            theirs = (Browser.id.in_(ids), Browser.owner == self.server_id, Browser.state == State.ACTIVE)
            # The recorder ends with this server.
            cut = update(Browser).where(*theirs, Browser.recording == RecordingState.RUNNING)
            await session.execute(cut.values(recording=RecordingState.SERVER_LOST))
            given = update(Browser).where(*theirs).values(owner=heir.id, generation=Browser.generation + 1)
            return set((await session.scalars(given.returning(Browser.id))).all())

    async def take_over(
        self, former: Server | None, *, uptime: timedelta = timedelta(0), workers: bool = True
    ) -> Sequence[Browser]:
        """Make some browsers that have not stopped this server's, with the next generation; when none is left, none is returned.

        `last_seen_at` is the last sign of life of its server, then. What runs on a worker has run on since, by the database's clock:
        `started_uptime_ms` says that for this server.

        Args:
            former: The server that has ended. None: of a version that knew one server only.
            uptime: Of this server.
            workers: It reaches workers. Else what runs on some is left to others, as long as it may run.
        """
        whose = Browser.owner == (None if former is None else former.id)
        rows = select(Browser).where(whose, Browser.state.in_(NOT_STOPPED)).limit(_TAKEN_AT_ONCE)
        if not workers and former is not None and not await self._is_long_silent(former):
            rows = rows.where(Browser.worker.is_(None))
        async with self._write() as session:
            # Of several servers at once, each takes what no other has in hand.
            taken = (await session.scalars(rows.with_for_update(skip_locked=True, key_share=True))).all()
            silence = await self._silence(session, former) if taken and former is not None else timedelta(0)
            for browser in taken:
                browser.owner, browser.generation = self.server_id, browser.generation + 1
                if former is not None and browser.started_at and browser.started_uptime_ms is not None:
                    known = timedelta(milliseconds=former.uptime_ms - browser.started_uptime_ms)
                    seen = browser.started_at + known
                    browser.last_seen_at = max(seen, browser.last_seen_at or seen)
                browser.started_uptime_ms = None
                if browser.worker is not None and browser.started_at and browser.last_seen_at:
                    used = browser.last_seen_at - browser.started_at + silence
                    browser.started_uptime_ms = (uptime - used) // timedelta(milliseconds=1)
        return taken

    async def _is_long_silent(self, former: Server) -> bool:
        async with self._read() as session:
            return await self._silence(session, former) > _ALONE

    async def _silence(self, session: AsyncSession, former: Server) -> timedelta:
        """Return how long ago a server has given its last sign of life."""
        beaten_at = select(Server.beaten_at).where(Server.id == former.id).scalar_subquery()
        last, now = (await session.execute(select(beaten_at, _BY_DATABASE))).one()
        return timedelta(0) if last is None else max(now - last, timedelta(0))

    async def owned(self) -> Collection[UUID]:
        """Ids of the browsers that are this server's and have not stopped."""
        rows = select(Browser.id).where(Browser.owner == self.server_id, Browser.state.in_(NOT_STOPPED))
        async with self._read() as session:
            return set((await session.scalars(rows)).all())

    async def browsers_with(self, ids: Collection[UUID]) -> Sequence[Browser]:
        """Return the browsers, of any project, with these ids or places."""
        async with self._read() as session:
            found = Browser.id.in_(ids) | Browser.place_id.in_(ids)
            return (await session.scalars(select(Browser).where(found))).all()

    async def owned_by(self, project_id: UUID, ids: Collection[UUID]) -> list[UUID]:
        """Return those of some browsers that are a project's."""
        asked, found = list(ids), list[UUID]()
        async with self._read() as session:
            for at in range(0, len(asked), _IDS_AT_ONCE):
                some = Browser.id.in_(asked[at : at + _IDS_AT_ONCE])
                mine = select(Browser.id).where(some, Browser.project_id == project_id)
                found += (await session.scalars(mine)).all()
        return found

    # --- between servers ------------------------------------------------------------------------------------------

    async def ask_stop(self, browser_id: UUID) -> bool:
        """Ask the owner of a browser to stop it; False when it is over."""
        async with self._write() as session:
            where = (Browser.id == browser_id, Browser.state.in_(HOLDS_SLOT))
            return await changed(session, update(Browser).where(*where).values(stop_asked=True))

    async def asked_to_stop(self) -> Sequence[UUID]:
        """Ids of browsers of this server whose stop another server was asked for."""
        rows = select(Browser.id).where(
            Browser.owner == self.server_id, Browser.stop_asked, Browser.state.in_(HOLDS_SLOT)
        )
        async with self._read() as session:
            return (await session.scalars(rows)).all()

    async def give_out(self, browser_id: UUID) -> Browser | None:
        """Note that another server than its owner gives a browser to a client; None when the owner takes it back."""
        where = (Browser.id == browser_id, Browser.given_out.is_not(False))
        async with self._write() as session:
            return await session.scalar(
                update(Browser).where(*where).values(given_out=True).returning(Browser)
            )

    async def take_back(self, browser_id: UUID) -> bool:
        """Before a browser is discarded that no client has: False when another server has given it to one."""
        if self.one_writer:
            return True
        where = (Browser.id == browser_id, Browser.owner == self.server_id, Browser.given_out.is_not(True))
        async with self._write() as session:
            return await changed(session, update(Browser).where(*where).values(given_out=False))
