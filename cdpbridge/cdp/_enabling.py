"""Enable the domains that the listeners of a session need: the shell around `_domains`."""

from __future__ import annotations

import asyncio
import functools
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from cdpbridge.cdp._domains import NAVIGATING, domains_of, silence
from cdpbridge.cdp._owner import running_loop
from cdpbridge.errors import CDPError, TargetCrashed

if TYPE_CHECKING:
    from cdpbridge.cdp._link import Link
    from cdpbridge.cdp._targets import Node

__all__ = ["Enabling"]

logger = logging.getLogger("cdpbridge")

_ANSWER: Final = 10.0
"""Seconds a navigation waits for `enable`. A page answers it as soon as its process has started; a hung one never does."""


class Enabling:
    """The domains that one session has to enable, and those that were refused.

    A reconnect enables again what was enabled, as it does for the program's own commands.
    """

    __slots__ = ("_asked", "_link", "_node", "_refused", "_waiting")

    def __init__(self, link: Link, node: Node) -> None:
        self._link = link
        self._node = node
        self._waiting: list[str] = []
        self._asked: set[asyncio.Future[Any]] = set()
        # domain to the browser's words
        self._refused: dict[str, str] = {}

    def want(self, event: str) -> None:
        """Send `enable` of the domain of `event`, which has a listener, now or before the next command."""
        new = [domain for domain in domains_of(event) if domain not in self._node.enabled]
        if new:
            self._waiting += new
            self.proceed()

    def proceed(self) -> None:
        """Send what waits, as soon as it can be sent."""
        link, node = self._link, self._node
        if not self._waiting:
            return
        if link.gate(node) is not None or running_loop() is not link.owner.loop:
            link.run(self._later())
            return
        while self._waiting:
            domain = self._waiting[0]
            if domain not in node.enabled:
                method = f"{domain}.enable"
                try:
                    _, reply = link.begin(node, method, None, None)
                except TargetCrashed:
                    return  # until the page is loaded again
                except CDPError as error:  # it has ended, and every listener learns that
                    logger.debug("%s for a listener was not sent: %s", method, error)
                    self._waiting.clear()
                    return
                self._asked.add(reply)
                link.domains_pending(+1)
                reply.add_done_callback(functools.partial(self._answered, domain))
            del self._waiting[0]

    async def _later(self) -> None:
        if self._link.send_blocked:
            try:
                await self._link.wait_sendable(self._node, "enable")
            except CDPError as error:  # the next command, if any goes out, tries again
                logger.debug("no domain was enabled for a listener: %s", error)
                return
        self.proceed()

    async def before(self, method: str, timeout: float | timedelta | None) -> None:
        """Do what must precede a command, while commands are held back."""
        self.proceed()
        if method in NAVIGATING and self._asked:
            await asyncio.wait(self._asked, timeout=min(self._link.seconds(timeout) / 2, _ANSWER))

    def _answered(self, domain: str, reply: asyncio.Future[Any]) -> None:
        self._asked.discard(reply)
        self._link.domains_pending(-1)
        error = None if reply.cancelled() else reply.exception()
        if error is None:
            self._refused.pop(domain, None)
            return
        # A target without the domain, e.g. a worker without `Page`: its listeners get no events, as before.
        self._refused[domain] = str(error)
        logger.debug("%s.enable of %s for a listener failed: %s", domain, self._node.describe(), error)

    def silence(self, event: str) -> str | None:
        """Return why `event` may not come; None when no reason is known."""
        return silence(event, self._node.enabled, self._refused)
