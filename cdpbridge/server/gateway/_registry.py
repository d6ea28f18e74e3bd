"""The table of addresses: which token leads to which browser, who is connected, and what has passed."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cdpbridge.errors import CDPBridgeError

if TYPE_CHECKING:
    from ._file_access import FileAccess

__all__ = [
    "BrowserFiles",
    "Client",
    "ContextOrder",
    "ContextProxy",
    "Entry",
    "NotReachable",
    "ProxyFailures",
    "Registry",
    "Resolver",
    "Upstream",
    "Usage",
]

ProxyFailures = Callable[[], Awaitable[list[dict[str, object]]]]
"""Gives what a browser's proxy could not do lately: `host`, `port`, `text`, `error`, and `age` in seconds, the latest at the end."""

ContextProxy = Callable[[str, str], Awaitable[str]]
"""Gives the `host:port` of a forwarder for a context, by the proxy and the bypass list that a client has named.

It raises `ConfigurationError` for a proxy that cannot be used, and `OSError` when no port is free.
"""

Resolver = Callable[[str], Awaitable[bool]]
"""Adds the browser of a token that the table does not hold, if this server can reach it; True when it did.

It raises `NotReachable` for a browser that runs where this server cannot reach it.
"""


class NotReachable(CDPBridgeError):
    """The browser of an address may run, and this server does not lead to it.

    Attributes:
        status: Of the answer: 421 for a browser of another server, 503 when that cannot be found out now.
    """

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Upstream:
    """A browser's debugging port.

    Attributes:
        host: IP address.
        port: TCP port.
        browser_path: Path of its browser-level WebSocket, `/devtools/browser/...`.
        connect: Makes a socket that is connected to the port, where that lies in another network; raises OSError.
        reach: Connects a protocol with the port, where the way there is more than a socket; raises OSError.
    """

    host: str
    port: int
    browser_path: str
    connect: Callable[[], Awaitable[socket.socket]] | None = field(default=None, repr=False)
    reach: Callable[[asyncio.BaseProtocol], Awaitable[asyncio.Transport]] | None = field(
        default=None, repr=False
    )

    async def open(self, protocol: asyncio.BaseProtocol) -> asyncio.Transport:
        """Connect a protocol with the port.

        Raises:
            OSError: It does not listen.
        """
        if self.reach is not None:
            return await self.reach(protocol)
        loop = asyncio.get_running_loop()
        if self.connect is None:
            transport, _ = await loop.create_connection(lambda: protocol, self.host, self.port)
        else:
            transport, _ = await loop.create_connection(lambda: protocol, sock=await self.connect())
        return transport

    @property
    def authority(self) -> str:
        """The value that Chromium accepts as `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class BrowserFiles:
    """The folders of a browser's files, on this machine and by the same names for the browser.

    Attributes:
        downloads: For clients that carry what is downloaded elsewhere; removed with the browser.
        uploads: For files that clients give to pages; removed with the browser.
        kept: Where downloads go that no client has sent elsewhere.
        disk: `disk_identity` of the browser; None when it is confined, or not known.
    """

    downloads: Path
    uploads: Path
    kept: Path | None = None
    disk: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Traffic of the clients of one browser.

    Attributes:
        clients: WebSockets open now.
        messages_sent: From clients to the browser, since its token was added.
        messages_received: From the browser to clients.
        active_at: When a client last sent a message, by the event loop's clock; None before the first.
    """

    clients: int = 0
    messages_sent: int = 0
    messages_received: int = 0
    active_at: float | None = None


class Client(Protocol):
    """A WebSocket of a client, from its upgrade request on."""

    @property
    def ended(self) -> asyncio.Future[None]:
        """Done when the browser is free of it; `finish` brings that about in bounded time."""

    def finish(self, code: int, reason: str) -> None:
        """Send a close frame on a frame boundary, and end."""


class ContextOrder(Protocol):
    """Lets the contexts of a browser begin and end one after the other, whatever clients do at once. It raises nothing."""

    async def begin(self, send: Callable[[], None]) -> None:
        """Call `send`, which sends the command that makes a context, and return when it is there."""

    async def end(self, send: Callable[[], None]) -> None:
        """Call `send`, which sends the command that ends a context, and return when it has ended."""


@dataclass(slots=True, eq=False)
class Entry:
    """A token's browser; the mutable form of `Usage`, which the relays count in."""

    upstream: Upstream
    files: FileAccess | None = None
    downloads_reset: Callable[[], object] | None = None
    proxy_failures: ProxyFailures | None = None
    context_proxy: ContextProxy | None = None
    context_order: ContextOrder | None = None
    clients: set[Client] = field(default_factory=set, repr=False)
    open_clients: int = 0
    messages_sent: int = 0
    messages_received: int = 0
    active_at: float | None = None
    protocol: bytes | None = field(default=None, repr=False)  # answer of /json/protocol


class Registry:
    """Tokens and their browsers. Tokens are kept and looked up by their SHA-256, so time says nothing about them."""

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {}
        self._hosts: frozenset[str] = frozenset()
        self._resolver: Resolver | None = None
        self._sent_before = self._received_before = 0  # of browsers that were removed

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """Names accepted in `Host`, lower case, besides IP addresses and `localhost`."""
        return self._hosts

    def allow_hosts(self, names: Iterable[str]) -> None:
        """Accept these names in `Host` and `Origin`."""
        self._hosts |= {name.lower().rstrip(".") for name in names}

    def resolve_with(self, resolver: Resolver) -> None:
        """Ask `resolver` for tokens that are not held here: browsers of other servers."""
        self._resolver = resolver

    async def resolved(self, token: str) -> Entry | None:
        """Return the browser behind a token, also one that another server has started.

        Raises:
            NotReachable: It runs where this server cannot reach it.
        """
        entry = self.find(token)
        if entry is None and self._resolver is not None and await self._resolver(token):
            entry = self.find(token)
        return entry

    def add(
        self,
        token: str,
        upstream: Upstream,
        files: FileAccess | None = None,
        *,
        downloads_reset: Callable[[], object] | None = None,
        proxy_failures: ProxyFailures | None = None,
        context_proxy: ContextProxy | None = None,
        context_order: ContextOrder | None = None,
    ) -> None:
        """Let `token` lead to `upstream`, whose `files` are reached below its address.

        Args:
            downloads_reset: Called when the browser has forgotten what becomes of downloads, as a client that had set it has left.
            proxy_failures: For clients that want to know why a page did not load; None for a browser without a proxy.
            context_proxy: For contexts with a proxy of their own; None to let the browser connect to it.
            context_order: For a browser whose contexts must begin and end one after the other.

        Raises:
            ValueError: The token leads somewhere already.
        """
        entry = Entry(upstream, files, downloads_reset, proxy_failures, context_proxy, context_order)
        if self._entries.setdefault(_digest(token), entry) is not entry:
            raise ValueError("this token is in use")

    def find(self, token: str) -> Entry | None:
        """Return the browser behind a token, if it is held here."""
        return self._entries.get(_digest(token))

    def usage(self, token: str) -> Usage | None:
        """Return what the clients behind a token do; None when it is unknown."""
        entry = self.find(token)
        if entry is None:
            return None
        return Usage(entry.open_clients, entry.messages_sent, entry.messages_received, entry.active_at)

    def total_usage(self) -> Usage:
        """Return what all clients do, with what was relayed to browsers that were removed."""
        entries = self._entries.values()
        return Usage(
            sum(entry.open_clients for entry in entries),
            self._sent_before + sum(entry.messages_sent for entry in entries),
            self._received_before + sum(entry.messages_received for entry in entries),
            max((entry.active_at for entry in entries if entry.active_at is not None), default=None),
        )

    async def close(self, token: str, code: int, reason: str) -> None:
        """Forget `token`, tell its clients why, and return when the browser is free of them, in bounded time."""
        entry = self._entries.pop(_digest(token), None)
        if entry is None:
            return
        clients = tuple(entry.clients)
        for client in clients:
            client.finish(code, reason)
        if clients:
            await asyncio.wait([client.ended for client in clients])
        self._sent_before += entry.messages_sent
        self._received_before += entry.messages_received

    def keep_protocol(self, entry: Entry, body: bytes) -> None:
        """Remember an answer of /json/protocol; browsers of one build share its 1.6 MB."""
        same = (other.protocol for other in self._entries.values() if other.protocol == body)
        entry.protocol = next(same, body)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
