"""`listen`: the application behind a socket, on uvicorn. Loaded when the first browser is starting; see `_foundation`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import uvicorn
from fastapi import FastAPI

from cdpbridge.server._acceptor import Acceptor
from cdpbridge.server._app import create_app
from cdpbridge.server._foundation import Foundation
from cdpbridge.server.gateway import gateway_protocol
from cdpbridge.server.limits import http_protocol
from cdpbridge.server.live import SOCKET_PATHS

__all__ = ["listen"]


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: signals are ours, and the browsers end before the sockets do."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepts = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # Not uvicorn's own, which has the event loop accept whatever waits at once.
        await self.lifespan.startup()
        acceptors = [Acceptor(each, self._protocol) for each in sockets or ()]
        self.servers = cast("list[asyncio.base_events.Server]", acceptors)
        self.started = True
        self.accepts.set()

    def _protocol(self) -> asyncio.Protocol:
        make = cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class)
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def listen(foundation: Foundation, listening: socket.socket, **options: Any) -> AsyncIterator[FastAPI]:
    """Serve on a socket that listens; leaving the block stops the browsers, then the server.

    Args:
        options: For `create_app`.

    Raises:
        ConfigurationError: See `serve`.
    """
    settings, registry, border = foundation.settings, foundation.registry, foundation.border
    app = create_app(
        settings,
        registry=registry,
        border=border,
        foundation=foundation,
        **options,
    )
    app.state.ended = asyncio.Event()
    config = uvicorn.Config(
        app,
        http=http_protocol(border.limits, border.connections),
        ws=gateway_protocol(
            registry,
            passed_on=SOCKET_PATHS,
            border=border,
            max_clients=settings.max_clients_per_browser,
        ),
        ws_max_size=border.limits.driver_bytes,
        ws_per_message_deflate=False,  # pictures are compressed already
        # Run below, so that its errors reach the caller and browsers end first.
        lifespan="off",
        access_log=False,  # addresses of browsers are secrets
        log_config=None,
        log_level="warning",
        server_header=False,
        # uvicorn believes them from every program of this machine; see `ForwardedPeers`.
        proxy_headers=False,
        timeout_keep_alive=border.limits.keep_alive_seconds,
        timeout_graceful_shutdown=border.limits.grace_seconds,
    )
    server = _Server(config)
    async with app.router.lifespan_context(app):
        running = asyncio.create_task(server.serve(sockets=[listening]))
        running.add_done_callback(lambda _task: app.state.ended.set())
        try:
            await _until_started(server, running)
            yield app
            await app.state.services.close()
        finally:
            server.should_exit = True
            await running


async def _until_started(server: _Server, serving: asyncio.Task[None]) -> None:
    waiting = asyncio.ensure_future(server.accepts.wait())
    try:
        await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
