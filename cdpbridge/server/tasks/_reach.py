"""The hosts that a session's browser reaches while a task with `allowedDomains` runs.

The promise is kept below the agent, by the browser's forwarding proxy: nothing that a page, a script, a model or a client of
the browser does gets around it. What the browser shows from elsewhere is left before the agent sees it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from cdpbridge.cdp import Connection
from cdpbridge.errors import CDPBridgeError
from cdpbridge.server.hosts import BrowserHosts
from cdpbridge.server.tasks.agent import AllowedDomain, allowed_domains, outside

__all__ = ["Reach", "ReachNotLimited"]

logger = logging.getLogger("cdpbridge.server")

# For one page to be left; one that does not answer is closed.
_PAGE_SECONDS: Final = 3.0
# A page that is left may have opened another one just before.
_ROUNDS: Final = 3


class ReachNotLimited(CDPBridgeError):
    """The browser cannot be kept to some hosts."""


class Reach:
    """The domains that browsers of agent sessions reach."""

    def __init__(self, hosts: BrowserHosts) -> None:
        self._hosts = hosts

    async def limit(self, browser_id: UUID, given: Sequence[str]) -> None:
        """Keep a browser to these domains from now on, open connections too, and leave the pages outside for `about:blank`.

        Raises:
            ReachNotLimited: It does not run.
            ValueError: A domain that cannot be enforced.
        """
        domains = allowed_domains(given)
        if not await self._hosts.limit_hosts(browser_id, allowed=[domain.rule for domain in domains]):
            raise ReachNotLimited(
                "allowedDomains cannot be kept: the session's browser does not run; use a new session"
            )
        connection = await self._hosts.connection(browser_id)
        if connection is not None:
            await self._leave(connection, domains)

    async def lift(self, browser_id: UUID) -> None:
        """Let a browser reach what it did before; nothing when it does not run any more."""
        await self._hosts.limit_hosts(browser_id, allowed=None)

    async def _leave(self, connection: Connection, domains: Sequence[AllowedDomain]) -> None:
        for _ in range(_ROUNDS):
            pages = [target for target in await connection.targets() if target.type == "page"]
            away = [target.target_id for target in pages if outside(target.url, domains)]
            if not away:
                return
            await asyncio.gather(*(self._blank(connection, target_id) for target_id in away))
        logger.warning(
            "a browser still shows a page outside a task's allowedDomains; it reaches nothing there"
        )

    async def _blank(self, connection: Connection, target_id: str) -> None:
        """Let a page show nothing; one that does not, e.g. because it hangs or asks its user something, gives way to another."""
        try:
            async with asyncio.timeout(_PAGE_SECONDS):
                session = await connection.attach(target_id)
                try:
                    await session.send("Page.navigate", {"url": "about:blank"})
                finally:
                    await session.detach()
        except (TimeoutError, CDPBridgeError) as error:
            logger.info("a page outside a task's allowedDomains is closed: %s", type(error).__name__)
        else:
            return
        try:
            async with asyncio.timeout(_PAGE_SECONDS):
                await connection.root.send("Target.createTarget", {"url": "about:blank"})
                await connection.root.send("Target.closeTarget", {"targetId": target_id})
        except (TimeoutError, CDPBridgeError) as error:  # it has closed by itself, or the browser has
            logger.info("a page could not be closed: %s", type(error).__name__)
