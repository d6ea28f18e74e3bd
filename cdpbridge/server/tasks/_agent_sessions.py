"""`AgentSessions`: an agent session is a rented browser that takes tasks. Its life, price and end are the browser's."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

from cdpbridge.server.files import FileStore
from cdpbridge.server.rentals import Order, Rentals
from cdpbridge.server.store import AgentSession, Browser, NewAgentSession, Share, Store

from ._tasks import Tasks

__all__ = ["AgentSessions", "Shares"]

_TOKEN_BYTES: Final = 24


class Shares:
    """Public, read-only views of agent sessions.

    Args:
        store: Open.
        cut: Closes the open viewers of a share, by its token.
        wall: Where dates come from.
    """

    def __init__(
        self,
        store: Store,
        *,
        cut: Callable[[str], Awaitable[None]],
        wall: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._cut = cut
        self._wall = wall

    async def create(self, session_id: UUID) -> Share | None:
        """Return the session's share, the same one at each call; None when the session was deleted."""
        return await self._store.create_share(
            session_id, secrets.token_urlsafe(_TOKEN_BYTES), now=self._wall()
        )

    async def delete(self, session: AgentSession) -> None:
        """Delete the session's share, if there is one, and close its viewers."""
        share = await self._store.delete_share(session.id)
        if share is not None:
            await self._cut(share.token)


class AgentSessions:
    """Every agent session of this server."""

    def __init__(
        self, store: Store, rentals: Rentals, tasks: Tasks, files: FileStore, shares: Shares
    ) -> None:
        self._store = store
        self._rentals = rentals
        self._tasks = tasks
        self._files = files
        self._shares = shares

    async def create(
        self,
        project_id: UUID,
        order: Order,
        *,
        keep_alive: bool,
        persist_memory: bool,
        client_left: Callable[[], Awaitable[None]],
        key: str | None = None,
        body_hash: str = "",
    ) -> tuple[AgentSession, Browser]:
        """Create a session over a running browser; arguments and errors as `Rentals.create`."""
        made = NewAgentSession(uuid4(), order.start_url, keep_alive, persist_memory)
        order = replace(order, agent_session=made)
        browser = await self._rentals.create(
            project_id,
            order,
            client_left=client_left,
            key=key,
            body_hash=body_hash,
            on_end=self._tasks.browser_ended,
        )
        session = await self._store.agent_session_of(browser.id)
        assert session is not None  # made in one transaction with the browser
        return session, browser

    async def stop(self, project_id: UUID, session: AgentSession) -> None:
        """Stop its browser, which ends its task as well; answered when both have ended. May be repeated."""
        await self._rentals.stop(project_id, session.browser_id)
        await self._tasks.idle(session.id)

    async def delete(self, project_id: UUID, session: AgentSession) -> None:
        """Stop it, and remove it with its tasks, files and share."""
        await self.stop(project_id, session)
        await self._shares.delete(session)
        # Files first: it can be asked again while there is a session.
        await self._remove_files(session)
        await self._store.delete_agent_session(session.id)

    async def purge(self, project_id: UUID, session: AgentSession) -> None:
        """Stop it, and remove what its tasks have seen and written: the whole content, and nothing of the record."""
        await self.stop(project_id, session)
        await self._remove_files(session)
        await self._store.purge_tasks(session.id)

    async def _remove_files(self, session: AgentSession) -> None:
        for task in await self._store.tasks_of_session(session.id):
            await asyncio.to_thread(self._files.remove, task_id=task.id)
        await asyncio.to_thread(self._files.remove, browser_id=session.browser_id)
        browser = await self._store.rental(session.browser_id)
        if browser is not None and browser.kept_bytes:
            await self._store.files_kept(browser.id, 0, video=False)
