"""The tunnel's own connection to the browser: it hears of downloads that a client's connection does not hear of."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from cdpbridge.cdp import Connection, connect
from cdpbridge.errors import CDPBridgeError, CDPError

__all__ = ["Control", "DownloadEvent"]

DownloadEvent = Callable[[str, dict[str, Any]], object]
"""Takes the method and the parameters of an event of `Browser`."""


class Control:
    """Opened when it is needed first.

    Args:
        address: WebSocket address of the browser.

    Attributes:
        hidden: Ids of the tunnel's own browser contexts and targets; add to it by `hide`.
        hidden_downloads: Ids of downloads that are the tunnel's own.
    """

    def __init__(self, address: str) -> None:
        self.hidden: set[str] = set()
        self.hidden_downloads: set[str] = set()
        self._hiding: set[Callable[[], object]] = set()
        self._address = address
        self._opening: asyncio.Lock = asyncio.Lock()
        self._connection: Connection | None = None
        self._listeners: set[DownloadEvent] = set()
        self._default_context: str | None = None

    async def connection(self) -> Connection:
        """Return the connection, and open it if there is none.

        Raises:
            CDPError: The browser cannot be reached.
        """
        async with self._opening:
            if self._connection is None or self._connection.closed:
                self._connection = await connect(self._address)
                for method in ("Browser.downloadWillBegin", "Browser.downloadProgress"):
                    self._connection.root.on(method, self._teller(method))
            return self._connection

    def _teller(self, method: str) -> Callable[[Any], None]:
        def tell(event: Any) -> None:
            for listener in tuple(self._listeners):
                listener(method, event)

        return tell

    def hide(self, identifier: str) -> None:
        """Keep a context or target from every client, before the browser tells them of it."""
        self.hidden.add(identifier)
        for tell in self._hiding:
            tell()

    def when_hiding(self, tell: Callable[[], object]) -> None:
        """Call `tell` when there is something to hide; at once, if there is already."""
        self._hiding.add(tell)
        if self.hidden:
            tell()

    def stop_telling(self, tell: Callable[[], object]) -> None:
        """Call it no more."""
        self._hiding.discard(tell)

    def listen(self, listener: DownloadEvent) -> None:
        """Tell `listener` of downloads in every context; see `send_downloads_to`."""
        self._listeners.add(listener)

    def forget(self, listener: DownloadEvent) -> None:
        """Tell it no more."""
        self._listeners.discard(listener)

    async def send_downloads_to(self, folder: str, context_id: str | None) -> None:
        """Have the browser save downloads of a context there, under their ids, and hear of them.

        Raises:
            CDPError: The browser refuses.
        """
        connection = await self.connection()
        parameters = {"behavior": "allowAndName", "downloadPath": folder, "eventsEnabled": True}
        if context_id is not None:
            parameters["browserContextId"] = context_id
        await connection.root.send("Browser.setDownloadBehavior", parameters)

    async def default_context(self) -> str | None:
        """Id of the browser's own context, None where it is not known."""
        if self._default_context is None:
            with suppress(CDPBridgeError):
                connection = await self.connection()
                found = await connection.root.send("Target.getBrowserContexts")
                self._default_context = found.get("defaultBrowserContextId")
        return self._default_context

    async def close(self) -> None:
        """End the connection."""
        async with self._opening:
            if self._connection is not None:
                with suppress(CDPError):
                    await self._connection.close()

    def name(self) -> str:
        """Return the same name for the same browser, and no secret."""
        return hashlib.sha256(self._address.encode()).hexdigest()[:16]
