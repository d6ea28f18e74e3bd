"""Agent sessions, and the public views of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, update

from cdpbridge._lifecycle import State

from ._database import FOR_CHANGE, Database, changed
from ._models import HOLDS_SLOT, OVER, AgentSession, Browser, Share, not_rented_with

__all__ = ["AgentSessions"]


class AgentSessions(Database):
    """Queries and transactions of agent sessions. Each is inserted with its browser, in one transaction."""

    async def agent_session(self, project_id: UUID, session_id: UUID) -> tuple[AgentSession, Browser] | None:
        async with self._read() as session:
            row = (await session.execute(_sessions(project_id).where(AgentSession.id == session_id))).first()
            return None if row is None else (row[0], row[1])

    async def agent_session_of(self, browser_id: UUID) -> AgentSession | None:
        """Return the session that a browser belongs to."""
        async with self._read() as session:
            return await session.scalar(select(AgentSession).where(AgentSession.browser_id == browser_id))

    async def agent_sessions(
        self,
        project_id: UUID,
        *,
        active: bool | None,
        offset: int,
        limit: int,
        hidden: Collection[UUID] = (),
    ) -> tuple[Sequence[tuple[AgentSession, Browser]], int]:
        """Return one page, newest first, and how many there are; sessions whose browser never started are left out.

        Args:
            hidden: Keys; what was rented with one of them is left out.
        """
        rows = _sessions(project_id).where((Browser.state != State.STOPPED) | Browser.started_at.is_not(None))
        if active is not None:
            rows = rows.where(Browser.state.in_(HOLDS_SLOT if active else OVER))
        if hidden:
            rows = rows.where(not_rented_with(hidden))
        async with self._read() as session:
            counted = rows.with_only_columns(func.count(), maintain_column_froms=True)
            total = await session.scalar(counted) or 0
            page = await session.execute(
                rows.order_by(AgentSession.created_at.desc(), AgentSession.id).offset(offset).limit(limit)
            )
            return [(row[0], row[1]) for row in page], total

    async def delete_agent_session(self, session_id: UUID) -> bool:
        """Remove it with its tasks and share; its browser stays, for the ledger. Whether there was one."""
        async with self._write() as session:
            browsers = update(Browser).where(Browser.agent_session_id == session_id)
            await session.execute(browsers.values(agent_session_id=None))
            return await changed(session, delete(AgentSession).where(AgentSession.id == session_id))

    # --- shares ---------------------------------------------------------------------------------------------------

    async def share(self, session_id: UUID) -> Share | None:
        async with self._read() as session:
            return await session.scalar(select(Share).where(Share.session_id == session_id))

    async def shares(self, project_id: UUID) -> Sequence[Share]:
        """Return every share of a project, newest first."""
        rows = select(Share).join(AgentSession, AgentSession.id == Share.session_id)
        mine = rows.where(AgentSession.project_id == project_id).order_by(
            Share.created_at.desc(), Share.token
        )
        async with self._read() as session:
            return (await session.scalars(mine)).all()

    async def create_share(self, session_id: UUID, token: str, *, now: datetime) -> Share | None:
        """Return the session's share, created with `token` if there is none; None when the session was deleted."""
        async with self._write() as session:
            # Of two at once, the second finds the share of the first.
            known = await session.get(AgentSession, session_id, with_for_update=FOR_CHANGE)
            share = await session.scalar(select(Share).where(Share.session_id == session_id))
            if share is None and known is not None:
                share = Share(
                    token=token, session_id=session_id, view_count=0, last_viewed_at=None, created_at=now
                )
                session.add(share)
        return share

    async def delete_share(self, session_id: UUID) -> Share | None:
        """Delete a session's share, and return it; None when there was none."""
        async with self._write() as session:
            share = await session.scalar(select(Share).where(Share.session_id == session_id))
            if share is not None:
                await session.delete(share)
        return share

    async def view_share(self, token: str, *, now: datetime) -> UUID | None:
        """Count a view; the browser that is shared, None when there is no such share."""
        async with self._write() as session:
            viewed = update(Share).where(Share.token == token)
            if not await changed(session, viewed.values(view_count=Share.view_count + 1, last_viewed_at=now)):
                return None
            found = select(AgentSession.browser_id).join(Share, Share.session_id == AgentSession.id)
            return await session.scalar(found.where(Share.token == token))


def _sessions(project_id: UUID) -> Any:
    joined = select(AgentSession, Browser).join(Browser, Browser.id == AgentSession.browser_id)
    return joined.where(AgentSession.project_id == project_id)
