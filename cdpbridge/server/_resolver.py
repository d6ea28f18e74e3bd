"""`BrowserResolver`: from the token of a browser that another server has started to the browser, or to why it cannot be reached here."""

from __future__ import annotations

import logging
from http import HTTPStatus
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError

from cdpbridge._lifecycle import State
from cdpbridge.server._tokens import BrowserTokens
from cdpbridge.server.gateway import NotReachable
from cdpbridge.server.hosts import BrowserHosts
from cdpbridge.server.store import Browser, Store, Task

__all__ = ["BrowserResolver"]

logger = logging.getLogger("cdpbridge.server")


class BrowserResolver:
    """Browsers of any server of the database, for requests that this one is asked to serve.

    Args:
        tokens: Of browsers' addresses.
    """

    def __init__(self, tokens: BrowserTokens, hosts: BrowserHosts, store: Store) -> None:
        self._tokens = tokens
        self._hosts = hosts
        self._store = store

    async def __call__(self, token: str) -> bool:
        """Let the gateway lead to the browser of a token; see `Resolver`.

        Raises:
            NotReachable: It runs where this server cannot reach it.
        """
        browser_id = self._tokens.read(token)
        if browser_id is None:
            return False
        # Asked first: what runs is reached while the database is away.
        placement = await self._hosts.attach(browser_id)
        if placement is not None:
            return placement.token == token
        try:
            await self.check_runs_nowhere(browser_id)
        except SQLAlchemyError as error:
            logger.warning("the server of browser %s could not be looked up: %s", browser_id, error)
            raise NotReachable(
                HTTPStatus.SERVICE_UNAVAILABLE, "the database is away; try again in some seconds"
            ) from None
        return False

    async def reach(self, browser: Browser) -> None:
        """Let this server's own clients reach a browser that runs.

        Raises:
            NotReachable: It runs where this server cannot reach it.
        """
        if await self._hosts.attach(browser.id) is None:
            self._check(browser)

    async def check_files(self, owner: UUID | None) -> None:
        """Refuse a request for files that are not here, when another server has them: the one that ran what they are of.

        Args:
            owner: That server.

        Raises:
            NotReachable: It runs, so the files are there, if there are any.
            SQLAlchemyError: From the database.
        """
        if self._store.one_writer or owner in {None, self._store.server_id}:
            return
        if owner in {each.id for each in await self._store.other_servers()}:
            raise NotReachable(
                HTTPStatus.MISDIRECTED_REQUEST,
                "the files are with the server that made them; ask that server, or let its operator set `storage_url`, so that all "
                "servers have them some seconds after the end",
            )

    def is_own(self, task: Task) -> bool:
        """Return True unless an agent of another server works on a task."""
        return not task.working or task.owner in {None, self._store.server_id}

    def check_agent(self, task: Task) -> None:
        """Refuse a request to the agent of a task that works on another server.

        Raises:
            NotReachable: It does.
        """
        if not self.is_own(task):
            raise NotReachable(
                HTTPStatus.MISDIRECTED_REQUEST,
                "the agent of this task works on another server; ask that server, or stop the task with its session",
            )

    async def check_runs_nowhere(self, browser_id: UUID) -> None:
        """Refuse a request for a browser that runs where this server does not reach it; nothing happens when it does not run.

        Raises:
            NotReachable: It runs, or may run.
            SQLAlchemyError: From the database.
        """
        browser = await self._store.rental(browser_id)
        if browser is not None:
            self._check(browser)

    def _check(self, browser: Browser) -> None:
        if browser.state != State.ACTIVE:
            return
        if browser.worker is not None:
            # It may be cut off for a moment, or have ended: then that is in the books soon.
            raise NotReachable(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "the worker of this browser does not answer this server now; try again in some seconds",
            )
        if browser.owner != self._store.server_id:
            raise NotReachable(
                HTTPStatus.MISDIRECTED_REQUEST,
                "this browser runs in the process of another server; connect by the address of that server, or let all of a "
                "client's connections go to the server that it rents from",
            )
