"""The two sockets of a relay, as asyncio sees them."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

__all__ = ["BrowserEnd", "ClientEnd", "Ends"]

_READ_BYTES: Final = 256 * 1024


class Ends(Protocol):
    """What a relay is notified of."""

    def from_client(self, data: bytes) -> None: ...

    def from_browser(self, data: bytes) -> None: ...

    def client_lost(self) -> None: ...

    def browser_lost(self) -> None: ...

    def pause(self, *, client: bool) -> None: ...

    def resume(self, *, client: bool) -> None: ...


class _End(asyncio.BufferedProtocol):
    def __init__(self, relay: Ends) -> None:
        self._relay = relay
        self._view = memoryview(bytearray(_READ_BYTES))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view


class ClientEnd(_End):
    """The client's socket."""

    def buffer_updated(self, nbytes: int) -> None:
        self._relay.from_client(bytes(self._view[:nbytes]))

    def pause_writing(self) -> None:
        self._relay.pause(client=True)

    def resume_writing(self) -> None:
        self._relay.resume(client=True)

    def eof_received(self) -> None:
        self._relay.client_lost()

    def connection_lost(self, exc: Exception | None) -> None:
        self._relay.client_lost()


class BrowserEnd(_End):
    """The browser's socket."""

    def buffer_updated(self, nbytes: int) -> None:
        self._relay.from_browser(bytes(self._view[:nbytes]))

    def pause_writing(self) -> None:
        self._relay.pause(client=False)

    def resume_writing(self) -> None:
        self._relay.resume(client=False)

    def eof_received(self) -> None:
        self._relay.browser_lost()

    def connection_lost(self, exc: Exception | None) -> None:
        self._relay.browser_lost()
