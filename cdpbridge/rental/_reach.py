"""How a rented browser is reached, in as few round trips as its server allows.

A server of ours accepts the WebSocket at the `cdpUrl` itself, which no discovery needs to find, and on the host where it did last
time, or where its REST API is. So the socket to there is opened while the server still starts the browser.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from cdpbridge.api import AsyncClient
from cdpbridge.cdp._ahead import SocketAhead
from cdpbridge.cdp._connect import Connecting, connect, connect_directly

from ._price import Price

__all__ = ["Reach"]

# Scheme and host of the last `cdpUrl`.
_last_hosts: Final[WeakKeyDictionary[AsyncClient, str]] = WeakKeyDictionary()


class Reach:
    """The way to one browser.

    Args:
        client: Of the server.
        price: What it says of itself.
    """

    def __init__(self, client: AsyncClient, price: Price) -> None:
        self._client = client
        self._is_ours = price.own_fields
        self._ahead: SocketAhead | None = None

    def prepare(self) -> None:
        """Open the socket ahead: the browser is being rented."""
        if self._is_ours and not self._client.is_local:  # this machine is near
            self.drop()
            self._ahead = SocketAhead(_last_hosts.get(self._client) or self._client.address()["base_url"])

    def drop(self) -> None:
        """Close the socket if no connection has used it."""
        if self._ahead is not None:
            self._ahead.drop()
            self._ahead = None

    def connect(self, cdp_url: str, **options: Any) -> Connecting:
        """Connect as `cdpbridge.cdp.connect` does, whose options it takes."""
        if not self._is_ours:
            return connect(cdp_url, reconnect=True, **options)
        url = urlsplit(cdp_url)
        _last_hosts[self._client] = f"{url.scheme}://{url.netloc}"
        ahead, self._ahead = self._ahead, None
        return connect_directly(cdp_url, ahead=ahead, **options)
