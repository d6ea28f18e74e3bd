"""`Agency`: the parts that put agents to work, imported and made on first use: most servers only rent browsers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from cdpbridge.server.hosts import hidden_folders
from cdpbridge.server.rentals import StartWithdrawn

if TYPE_CHECKING:
    from cdpbridge.chromium import UidPool
    from cdpbridge.server._views import Views
    from cdpbridge.server.files import FileStore
    from cdpbridge.server.hosts import BrowserHosts, Isolator
    from cdpbridge.server.rentals import Rentals
    from cdpbridge.server.settings import Settings
    from cdpbridge.server.store import Store
    from cdpbridge.server.tasks._agent_sessions import AgentSessions
    from cdpbridge.server.tasks._tasks import Tasks
    from cdpbridge.server.tasks.agent import Agents

__all__ = ["Agency"]

logger = logging.getLogger("cdpbridge.server")


class Agency:
    """Tasks and agent sessions of one server.

    Args:
        agents: Makes what runs agents; default: browser-use in processes of its own.
        isolator: Of the browsers: agents get places as they do. None for none.
        uids: Where uids come from, in a root process.
        wall: Where dates come from.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        hosts: BrowserHosts,
        files: FileStore,
        *,
        rentals: Rentals,
        views: Views,
        agents: Callable[[Settings], Agents] | None,
        isolator: Isolator | None,
        uids: UidPool | None,
        wall: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._store = store
        self._hosts = hosts
        self._files = files
        self._rentals = rentals
        self._views = views
        self._agents = agents
        self._isolator = isolator
        self._uids = uids
        self._wall = wall
        self._closed = False

    @cached_property
    def tasks(self) -> Tasks:
        """What agents work on.

        Raises:
            StartWithdrawn: The server is stopping.
        """
        from cdpbridge.server.tasks._reach import Reach  # noqa: PLC0415  # on first use
        from cdpbridge.server.tasks._tasks import Tasks  # noqa: PLC0415  # as above

        if self._closed:
            raise StartWithdrawn("the server is stopping")
        return Tasks(
            self._store,
            self._rentals,
            self._processes() if self._agents is None else self._agents(self._settings),
            self._files,
            Reach(self._hosts),
            wall=self._wall,
        )

    def _processes(self) -> Agents:
        from cdpbridge.server.tasks.agent import AgentPlaces, AgentProcesses  # noqa: PLC0415  # on first use

        if self._isolator is None:
            return AgentProcesses(self._settings)
        isolator = self._isolator
        places = AgentPlaces(isolator.launcher, isolator.means, self._uids, hidden_folders(self._settings))
        return AgentProcesses(self._settings, places)

    @cached_property
    def sessions(self) -> AgentSessions:
        """Browsers that take tasks; errors as of `tasks`."""
        from cdpbridge.server.tasks._agent_sessions import AgentSessions  # noqa: PLC0415  # on first use

        return AgentSessions(self._store, self._rentals, self.tasks, self._files, self._views.shares)

    async def recover(self) -> None:
        """End the tasks that a killed server left, and remove their files."""
        await asyncio.to_thread(self._files.tidy)
        lost = await self._store.lose_tasks(now=self._wall())
        if lost:
            logger.warning("%d tasks of a server that ended without stopping them were ended", lost)

    async def close(self) -> None:
        """Stop every agent, and note why. May be repeated."""
        self._closed = True
        if "tasks" in vars(self):
            await self.tasks.close()
