"""Enable the domains that the listeners of a session need: the shell around `_domains`."""

from __future__ import annotations

import asyncio
import functools
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from cdpbridge._durations import waiting_seconds
from cdpbridge.cdp._domains import NAVIGATING, domains_of, silence
from cdpbridge.errors import CDPError, TargetCrashed

if TYPE_CHECKING:
    from cdpbridge.cdp._connection import Connection
    from cdpbridge.cdp._targets import Node

__all__ = ["Enabling"]

logger = logging.getLogger("cdpbridge")

_ANSWER: Final = 10.0
"""Seconds a navigation waits for `enable`. A page answers it as soon as its process has started; a hung one never does."""


class Enabling:
    """What one session has to enable, and could not.

    A reconnect enables again what was enabled, as it does for the program's own commands.
    """

    __slots__ = ("_asked", "_connection", "_node", "_refused", "_waiting")

    def __init__(self, connection: Connection, node: Node) -> None:
        self._connection = connection
        self._node = node
        self._waiting: list[str] = []
        self._asked: set[asyncio.Future[Any]] = set()
        self._refused: dict[str, str] = {}  # domain to the browser's words

    def want(self, event: str) -> None:
        """A listener begins to wait for `event`: send `enable` of its domain now, or before the next command."""
        new = [domain for domain in domains_of(event) if domain not in self._node.enabled]
        if new:
            self._waiting += new
            self.go_on()

    def go_on(self) -> None:
        """Send what waits, as soon as it can be sent."""
        connection, node = self._connection, self._node
        if not self._waiting:
            return
        if connection._gate(node) is not None or asyncio._get_running_loop() is not connection._loop:
            connection.spawn(self._later())
            return
        while self._waiting:
            domain = self._waiting[0]
            if domain not in node.enabled:
                method = f"{domain}.enable"
                try:
                    _, reply = connection.begin(node, method, None, None)
                except TargetCrashed:
                    return  # until the page is loaded again
                except CDPError as error:  # it has ended, and every listener learns that
                    logger.debug("%s for a listener was not sent: %s", method, error)
                    self._waiting.clear()
                    return
                self._asked.add(reply)
                connection.enabling(+1)
                reply.add_done_callback(functools.partial(self._answered, domain))
            del self._waiting[0]

    async def _later(self) -> None:
        if self._connection.held:
            try:
                await self._connection.room(self._node, "enable")
            except CDPError as error:  # the next command, if any goes out, tries again
                logger.debug("no domain was enabled for a listener: %s", error)
                return
        self.go_on()

    async def before(self, method: str, timeout: float | timedelta | None) -> None:
        """What has to happen before a command goes out, while the connection is held."""
        self.go_on()
        if method in NAVIGATING and self._asked:
            seconds = self._connection._timeout if timeout is None else waiting_seconds("timeout", timeout)
            await asyncio.wait(self._asked, timeout=min(seconds / 2, _ANSWER))

    def _answered(self, domain: str, reply: asyncio.Future[Any]) -> None:
        self._asked.discard(reply)
        self._connection.enabling(-1)
        error = None if reply.cancelled() else reply.exception()
        if error is None:
            self._refused.pop(domain, None)
            return
        # A target without the domain, e.g. a worker without `Page`: its listeners hear nothing, as before.
        self._refused[domain] = str(error)
        logger.debug("%s.enable of %s for a listener failed: %s", domain, self._node.describe(), error)

    def silence(self, event: str) -> str | None:
        """Why `event` may not come; None when nothing speaks against it."""
        return silence(event, self._node.enabled, self._refused)
