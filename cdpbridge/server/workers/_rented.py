"""`Rented`: one browser on a worker, as the server knows it that has rented it out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final
from uuid import UUID

from cdpbridge.cdp import Connection
from cdpbridge.cdp._connect import connect_over
from cdpbridge.errors import CDPError
from cdpbridge.server.gateway import ContextOrder
from cdpbridge.server.hosts import ContextKeeper, Limit, StopReport

from ._protocol import Figures, Started

__all__ = ["RemoteContexts", "Rented"]

logger = logging.getLogger("cdpbridge.server")

_COMMAND_TIMEOUT: Final = timedelta(seconds=30)


class Rented:
    """A browser on a worker.

    Args:
        browser_id: Of the rental.
        worker: The worker.
        started: What the worker has said of it.
        on_exit: As in `BrowserHosts.start`.
        on_limit: As in `BrowserHosts.start`.

    Attributes:
        own: It is a rental of this server; else it is only reached from here.
        token: What its address on the gateway is made of.
        stopping: It is being stopped, or handed over.
        lost: Its worker has ended.
        figures: As of the last contact.
        taking: Held while its downloads are brought.
    """

    def __init__(
        self,
        browser_id: UUID,
        worker: UUID,
        started: Started,
        on_exit: Callable[[UUID], object],
        on_limit: Callable[[UUID, Limit], object],
    ) -> None:
        self.id = browser_id
        self.worker = worker
        self.started = started
        self.own = True
        self.token = ""
        self.stopping = False
        self.lost = False
        self.figures: Figures | None = None
        self._on_exit, self._on_limit = on_exit, on_limit
        self._exited = self._over = False
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self.taking = asyncio.Lock()

    def exited(self) -> None:
        """Note that it has ended by itself, or is lost with its worker; said once, and not of one that is being stopped."""
        if not (self._exited or self.stopping):
            self._exited = True
            self._on_exit(self.id)

    def belongs(
        self,
        started: Started,
        on_exit: Callable[[UUID], object],
        on_limit: Callable[[UUID, Limit], object],
    ) -> None:
        """Note that it is this server's rental from now on."""
        self.started, self.own = started, True
        self._on_exit, self._on_limit = on_exit, on_limit

    def over(self, limit: Limit) -> None:
        """Note that it has passed a limit."""
        if not (self._over or self.stopping):
            self._over = True
            self._on_limit(self.id, limit)

    @property
    def proxy_bytes(self) -> int:
        """What went through its proxy, as of the last contact."""
        return 0 if self.figures is None else self.figures.proxy_bytes

    def last_report(self) -> StopReport:
        """Return what is known of its end when its worker does not answer."""
        if self.figures is None:
            return StopReport("exited", None, 0)
        return StopReport(
            "exited",
            None,
            self.figures.proxy_bytes,
            self.figures.blocked_requests,
            self.figures.traffic,
        )

    async def connection(
        self, reach: Callable[[asyncio.Protocol], Awaitable[asyncio.Transport]]
    ) -> Connection:
        """Return the server's own DevTools connection, the same until it is lost.

        Raises:
            OSError: The worker, or the browser, cannot be reached.
            CDPError: The browser does not answer.
        """
        async with self._connecting:
            if self._connection is None or self._connection.closed:
                started = self.started
                host = f"[{started.host}]" if ":" in started.host else started.host
                self._connection = await connect_over(
                    reach,
                    f"ws://{host}:{started.port}{started.browser_path}",
                    command_timeout=_COMMAND_TIMEOUT,
                )
                if started.kept is not None:
                    # With events, which tell the live page where each file is.
                    behaviour = {
                        "behavior": "allow",
                        "downloadPath": started.kept,
                        "eventsEnabled": True,
                    }
                    await self._connection.root.send("Browser.setDownloadBehavior", behaviour)
            return self._connection

    async def close_connection(self) -> None:
        """Close it, if it was opened."""
        async with self._connecting:
            if self._connection is not None:
                await self._connection.close()


class RemoteContexts:
    """`ContextOrder` for a browser on a worker, over the server's own connection to it.

    Args:
        connection: Opens that; None when the browser has ended.
    """

    def __init__(self, connection: Callable[[], Awaitable[Connection | None]]) -> None:
        self._connection = connection
        self._keeper: tuple[Connection, ContextOrder] | None = None

    async def begin(self, send: Callable[[], None]) -> None:
        """See `ContextOrder`."""
        keeper = await self._found()
        await (keeper.begin(send) if keeper is not None else _only(send))

    async def end(self, send: Callable[[], None]) -> None:
        """See `ContextOrder`."""
        keeper = await self._found()
        await (keeper.end(send) if keeper is not None else _only(send))

    async def _found(self) -> ContextOrder | None:
        try:
            connection = await self._connection()
        except CDPError as error:
            logger.debug("the contexts of a browser are not kept in order: %s", error)
            connection = None
        if connection is None:
            return None
        if self._keeper is None or self._keeper[0] is not connection:
            self._keeper = connection, ContextKeeper(connection)
        return self._keeper[1]


async def _only(send: Callable[[], None]) -> None:
    send()
