"""`create_app`: the HTTP side of a server, over its open parts."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Any

from fastapi import FastAPI
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from cdpbridge._clock import Clock
from cdpbridge._version import __version__
from cdpbridge.api.admin import ADMIN_PATH
from cdpbridge.server import gateway
from cdpbridge.server._parts import open_parts
from cdpbridge.server.console import SIGN_IN_PATH, ConsoleCookie, SignIns, Snapshots, console_router
from cdpbridge.server.data_dir import operator_file
from cdpbridge.server.gateway import Registry
from cdpbridge.server.hosts import BrowserHosts
from cdpbridge.server.limits import BodyLimit, Border, ForwardedPeers
from cdpbridge.server.live import router as live_router
from cdpbridge.server.profiles import ProfileStore
from cdpbridge.server.rentals import utc_now
from cdpbridge.server.routes import (
    BASE_PATH,
    FILES_PATH,
    REST_ROUTES,
    Authentication,
    KnownHost,
    SafeHeaders,
    Services,
    Timing,
    admin_routes,
    external_base,
    health,
    install_problems,
    profile_script,
    public_files,
)
from cdpbridge.server.settings import Settings
from cdpbridge.server.tasks.agent import Agents

__all__ = ["create_app"]


class _App(FastAPI):
    """FastAPI with what has to stand in front of its own answers to errors, too."""

    def __init__(self, border: Border, registry: Registry, **options: Any) -> None:
        self._border = border
        self._registry = registry
        super().__init__(**options)

    def build_middleware_stack(self) -> ASGIApp:
        limits = self._border.limits
        app: ASGIApp = BodyLimit(
            super().build_middleware_stack(),
            most=limits.body_bytes,
            paths={SIGN_IN_PATH: limits.sign_in_bytes, FILES_PATH: None},
            own=gateway.FILE_CONTENT_PATH,
        )
        app = KnownHost(app, self._registry)
        app = ForwardedPeers(app, self._border.peers)
        return SafeHeaders(app)


def create_app(
    settings: Settings,
    *,
    registry: Registry | None = None,
    border: Border | None = None,
    clock: Clock | None = None,
    wall: Callable[[], datetime] = utc_now,
    hosts: Callable[[ProfileStore, Registry], BrowserHosts] | None = None,
    agents: Callable[[Settings], Agents] | None = None,
    show_key: Callable[[str], object] | None = None,
    own_ports: Collection[int] = (),
    local_address: str | None = None,
) -> FastAPI:
    """Return the server as an ASGI application. WebSockets need the gateway's protocol class, so use `serve` to run it.

    Args:
        settings: From `Settings.load`.
        registry: The gateway's table of addresses; default: a new one.
        border: Limits of what peers may do; default: new ones.
        clock: Where deadlines come from; default: the event loop.
        wall: Where the dates in answers come from.
        hosts: Makes the machines that browsers run on; default: this one.
        agents: Makes what runs agents; default: browser-use in processes of its own.
        own_ports: Ports that the server listens on, which no browser with a forwarding proxy may reach.
        show_key: Called once with the API key that is made when there is none; default: printed on stderr.
        local_address: How programs of this machine reach the server: commands read it in the data folder, agents
            connect by it. None: it writes nothing, and agents go by the address of the request.
    """
    registry = registry or Registry()
    registry.allow_hosts(settings.served_names)
    border = border or Border.of(trusted_proxies=settings.trusted_proxies)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            services = await stack.enter_async_context(
                open_parts(
                    settings,
                    registry=registry,
                    border=border,
                    clock=clock,
                    wall=wall,
                    hosts=hosts,
                    agents=agents,
                    show_key=show_key,
                    own_ports=own_ports,
                )
            )
            app.state.services = services
            app.state.snapshots = _snapshots(services)
            # An application inside another server has no address of its own.
            if local_address is not None:
                found = stack.enter_context(operator_file(settings.data_dir, local_address))
                services.accounts.accept_local(found.key)
            yield

    cookie = ConsoleCookie(SignIns(time.monotonic), external_base)
    app = _App(
        border,
        registry,
        routes=_routes(registry, border, cookie),
        title="cdpbridge",
        version=__version__,
        description="Browser Use Cloud API v2 over Chromium on this machine.",
        lifespan=lifespan,
        openapi_url="/openapi.json",
        # Its page loads scripts from a foreign host.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(Authentication, prefix=BASE_PATH, cookie=cookie)
    app.add_middleware(Authentication, prefix=ADMIN_PATH, cookie=cookie, admin=True)
    app.add_middleware(Timing, prefix=BASE_PATH)
    install_problems(app)
    app.state.registry = registry
    app.state.local_address = local_address
    return app


def _routes(registry: Registry, border: Border, cookie: ConsoleCookie) -> list[BaseRoute]:
    console = console_router(cookie, lambda request: request.app.state.snapshots, external_base, border)
    live = live_router(lambda socket: socket.app.state.services.live)
    return [
        *REST_ROUTES,
        *admin_routes.routes,
        *health.routes,
        *profile_script.routes,
        *console.routes,
        *public_files.routes,
        *gateway.router(registry, external_base, border=border).routes,
        *live.routes,
    ]


def _snapshots(services: Services) -> Snapshots:
    return Snapshots(
        services.settings,
        services.store,
        accounts=services.accounts,
        hosts=services.hosts,
        registry=services.registry,
        rentals=services.rentals,
        live=services.live,
        agents=services.tasks.agents,
        files=services.files,
        recordings=services.recordings,
        wall=services.wall,
    )
