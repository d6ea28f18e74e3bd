"""A forwarding proxy for one rented browser: no credentials towards it, the upstream's credentials away from it.

Chromium takes no credentials in a proxy address, and answering its challenges over CDP would pause every request
and race with the user's own client. So it gets a proxy of its own on the loopback, which adds them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import Container
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, Self

from cdpbridge._loopback import is_loopback_address
from cdpbridge.errors import ConfigurationError

from ._block_list import BlockList
from ._connection import ClientConnection
from ._dial import CHUNK_BYTES
from ._route import Failure, Route
from ._rules import Rules
from ._traffic import HostTraffic
from ._upstream import Upstream

__all__ = ["ForwardingProxy"]

logger = logging.getLogger("cdpbridge.proxy")

# Of one browser, through all of its forwarders: each takes two descriptors of the server.
# A page of Chromium 156 keeps 100 WebSockets and 100 other streams open at once through a proxy (measured, both builds).
_MAX_CLIENTS: Final = 1024


class ForwardingProxy:
    """An HTTP proxy on the loopback for one browser. Made by `start`, ended by `close`."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], ClientConnection] = {}
        self._address = ""

    @classmethod
    async def start(
        cls,
        upstream: str | Upstream | None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        sock: socket.socket | None = None,
        rules: Rules | None = None,
        trusted_upstream: bool = True,
        own_ports: Container[int] = (),
        block_list: BlockList | None = None,
        connect_timeout: timedelta = timedelta(seconds=30),
        unseen: bool = False,
    ) -> Self:
        """Start a proxy and listen.

        Args:
            upstream: `http://user:password@host:port` or `socks5://...` with percent-encoded credentials, or None to
                connect directly.
            host: A loopback address: a program that reaches the proxy uses the upstream's credentials.
            port: 0 takes a free one.
            sock: A bound socket to listen on instead, e.g. one made inside the browser's network namespace.
            rules: What may be reached; default: everything. What they refuse is answered with 403. A name is resolved once,
                and the checked address dialled. With an upstream only what the request says is checked:
                names are resolved there. `apply` replaces them.
            trusted_upstream: False for an upstream that a client has named: private addresses and ports of this server are
                refused for it too.
            own_ports: Ports of this server and of its browsers: refused at every address of this machine, whatever
                the rules say. May change.
            block_list: Hosts of advertisements and the like: answered with 403, and counted.
            connect_timeout: Limit for one connection with its handshake.
            unseen: No proxy was ordered: where a server cannot be reached, the browser gets no answer instead of one that says so.

        Raises:
            ConfigurationError: No such upstream, or `host` is not on the loopback.
            OSError: The port is taken.
        """
        if isinstance(upstream, str):
            upstream = Upstream.parse(upstream)
        route = Route(
            upstream,
            rules or Rules(),
            trusted_upstream,
            own_ports,
            connect_timeout.total_seconds(),
            block_list or BlockList(),
            unseen=unseen,
        )
        return await cls.serve(route, host=host, port=port, sock=sock)

    @classmethod
    async def serve(
        cls, route: Route, *, host: str = "127.0.0.1", port: int = 0, sock: socket.socket | None = None
    ) -> Self:
        """Start a proxy for a route. Arguments and errors as `start`."""
        if sock is not None:
            host = str(sock.getsockname()[0])
        if not is_loopback_address(host):
            raise ConfigurationError(
                f"the proxy of a browser listens on a loopback address only, not {host!r}"
            )
        proxy = cls(route)
        where: dict[str, Any] = {"host": host, "port": port} if sock is None else {"sock": sock}
        server = await asyncio.start_server(
            proxy._accept, limit=CHUNK_BYTES, backlog=_MAX_CLIENTS, start_serving=False, **where
        )
        try:
            await server.start_serving()
        except BaseException:  # cancelled: without this, its socket would stay open
            server.close()
            raise
        proxy._server = server
        bound = server.sockets[0].getsockname()
        proxy._address = f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}"
        return proxy

    @property
    def address(self) -> str:
        """`host:port` for Chromium's `--proxy-server`."""
        return self._address

    @property
    def upstream(self) -> Upstream | None:
        """The upstream that traffic goes to; None is directly to the servers."""
        return self._route.upstream

    @property
    def idle(self) -> bool:
        """True if no connection is open."""
        return not self._clients

    @property
    def rules(self) -> Rules:
        """The rules of what may be reached at the moment."""
        return self._route.rules

    def apply(self, rules: Rules) -> int:
        """Replace the rules, for requests, open tunnels, WebSockets and answers on their way alike.

        Returns:
            How many connections were closed because the new rules refuse what they served.
        """
        self._route.rules = rules
        breaking = [task for task, connection in self._clients.items() if connection.forbidden]
        for task in breaking:
            task.cancel()
        return len(breaking)

    def serve_route(self, route: Route) -> None:
        """Go on with another route, and its counters; connections of the former one are closed."""
        self._route = route
        for task in self._clients:
            task.cancel()

    @property
    def blocked(self) -> int:
        """The number of requests that the block list has refused."""
        return self._route.blocked

    @property
    def bytes_sent(self) -> int:
        """Payload towards the internet: tunnelled bytes and HTTP bodies, without heads, chunk framing, handshakes."""
        return self._route.bytes_sent

    @property
    def bytes_received(self) -> int:
        """Payload from the internet, counted in the same way."""
        return self._route.bytes_received

    @property
    def traffic(self) -> list[HostTraffic]:
        """The same by host, the most first, for a bounded number of hosts."""
        return self._route.traffic.hosts()

    @property
    def last_failure(self) -> str | None:
        """The last failure that the browser was sent by us rather than by a server, without credentials."""
        failures = self._route.failures
        return failures[-1].text if failures else None

    @property
    def failures(self) -> list[Failure]:
        """The last failures, the latest at the end."""
        return list(self._route.failures)

    def __repr__(self) -> str:
        return f"ForwardingProxy({self._address!r}, upstream={str(self.upstream) if self.upstream else 'direct'!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening and end every connection. Harmless when repeated."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        clients = dict(self._clients)
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        for connection in clients.values():
            with suppress(OSError):
                await connection.writer.wait_closed()
        await server.wait_closed()

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        if self._server is None or self._route.open.count >= _MAX_CLIENTS:
            writer.transport.abort()
            return
        connection = ClientConnection(self._route, reader, writer)
        task = asyncio.get_running_loop().create_task(connection.run())
        self._clients[task] = connection
        self._route.open.count += 1
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        connection = self._clients.pop(task)
        connection.route.open.count -= 1
        # A task that was cancelled before its first step could not.
        connection.writer.transport.abort()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error(
                "proxy %s: a connection ended with an unexpected error", self._address, exc_info=error
            )
