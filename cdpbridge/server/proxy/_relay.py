"""`Relay`: carries what a listening socket accepts to one address, for a program that has no other way out."""

from __future__ import annotations

import asyncio
import logging
import socket
from asyncio import StreamReader, StreamWriter
from contextlib import suppress
from typing import Final, Self

from ._dial import CHUNK_BYTES, Link, dial
from ._messages import Target
from ._route import Route
from ._tunnel import carry
from ._upstream import ProxyFailure, Upstream

__all__ = ["Relay"]

logger = logging.getLogger("cdpbridge.server")

_MAX_CLIENTS: Final = 64
_CONNECT_SECONDS: Final = 30.0


class Relay:
    """Carries the connections of one socket, made by `start`, ended by `close`. Their bytes are not looked at.

    Args:
        host: Name or address to connect to, IPv6 without brackets.
        port: TCP port there.
        upstream: The proxy on the way.
    """

    def __init__(self, host: str, port: int, upstream: Upstream | None = None) -> None:
        self._target = Target(host, port, b"")
        self._route = Route(upstream, connect_seconds=_CONNECT_SECONDS)
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], StreamWriter] = {}

    def __repr__(self) -> str:
        return f"<Relay to {self._target.tunnel_authority.decode()}>"

    async def start(self, sock: socket.socket) -> Self:
        """Accept on a socket that is bound; it is this object's from now on."""
        server = await asyncio.start_server(self._accept, sock=sock, limit=CHUNK_BYTES, start_serving=False)
        self._server = server
        await server.start_serving()
        return self

    async def close(self) -> None:
        """Stop listening, and end every connection. Again, it does nothing."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for task in (clients := dict(self._clients)):
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        await server.wait_closed()

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        if self._server is None or len(self._clients) >= _MAX_CLIENTS:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._carry(reader, writer))
        self._clients[task] = writer
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        # A task that was cancelled before its first step could not.
        self._clients.pop(task).close()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%r: a connection ended with an unexpected error", self, exc_info=error)

    async def _carry(self, reader: StreamReader, writer: StreamWriter) -> None:
        link: Link | None = None
        try:
            link = await dial(self._route, self._target, tunnel=True)
            await carry(
                (reader, writer),
                (link.reader, link.writer),
                sent=b"",
                received=link.received,
                on_sent=_uncounted,
                on_received=_uncounted,
            )
            link.writer.close()
            with suppress(OSError):
                await link.writer.wait_closed()
        except ProxyFailure as failure:
            logger.warning("%r: %s", self, failure)
            writer.transport.abort()
        except OSError:
            writer.transport.abort()
        finally:
            if link is not None:
                link.writer.transport.abort()


def _uncounted(_count: int) -> None:
    pass
