"""`create_app`: the HTTP side of a server, over its open parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from cdpbridge._clock import Clock
from cdpbridge._version import __version__
from cdpbridge.api._models import ADMIN_PATH
from cdpbridge.server import gateway
from cdpbridge.server._foundation import Foundation, HostsOf, open_foundation
from cdpbridge.server._parts import open_parts
from cdpbridge.server._route_groups import RouteGroup, RouteGroups
from cdpbridge.server.console import SIGN_IN_PATH, ConsoleCookie, SignIns
from cdpbridge.server.data_dir import operator_file
from cdpbridge.server.gateway import Registry
from cdpbridge.server.limits import BodyLimit, Border, ForwardedPeers
from cdpbridge.server.rentals import utc_now
from cdpbridge.server.routes import (
    BASE_PATH,
    FILES_PATH,
    REST_MODULES,
    Authentication,
    KnownHost,
    SafeHeaders,
    Services,
    Timing,
    external_base,
    install_problems,
    rest_paths,
    routes_of,
)
from cdpbridge.server.settings import Settings

if TYPE_CHECKING:
    from cdpbridge.server.console import Snapshots
    from cdpbridge.server.tasks.agent import Agents

__all__ = ["create_app", "snapshots_of"]


class _App(FastAPI):
    """FastAPI with what has to stand in front of its own answers to errors, too."""

    def __init__(self, border: Border, registry: Registry, groups: RouteGroups, **options: Any) -> None:
        self._border = border
        self._registry = registry
        self._groups = groups
        super().__init__(routes=groups.routes, **options)
        # FastAPI's own, e.g. of the OpenAPI document.
        self._own_routes = self.router.routes[len(groups.routes) :]

    @property
    def routes(self) -> list[BaseRoute]:
        """All routes, also those that no request was for yet."""
        if self._groups.load_all():
            self._take_routes()
        return self.router.routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, with the routes that may be for it."""
        if scope["type"] in {"http", "websocket"} and self._groups.load_for(scope["path"]):
            self._take_routes()
        await super().__call__(scope, receive, send)

    def _take_routes(self) -> None:
        self.router.routes[:] = [*self._groups.routes, *self._own_routes]

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
    hosts: HostsOf | None = None,
    agents: Callable[[Settings], Agents] | None = None,
    show_key: Callable[[str], object] | None = None,
    local_address: str | None = None,
    foundation: Foundation | None = None,
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
        show_key: Called once with the API key that is made when there is none; default: printed on stderr.
        local_address: How programs of this machine reach the server: commands read it in the data folder, agents
            connect by it. None: it writes nothing, and agents go by the address of the request.
        foundation: Open, of these settings, registry and border, which the application does not close; default: its own, with `hosts`.
    """
    registry = registry or Registry()
    registry.allow_hosts(settings.served_names)
    border = border or Border.of(trusted_proxies=settings.trusted_proxies)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            opened = foundation
            if opened is None:
                own = open_foundation(settings, registry=registry, border=border, hosts=hosts)
                opened = await stack.enter_async_context(own)
            services = await stack.enter_async_context(
                open_parts(opened, clock=clock, wall=wall, agents=agents, show_key=show_key)
            )
            app.state.services = services
            app.state.snapshots = None
            # An application inside another server has no address of its own.
            if local_address is not None:
                found = stack.enter_context(operator_file(settings.data_dir, local_address))
                services.accounts.accept_local(found.key)
            yield

    cookie = ConsoleCookie(_sign_ins_of, external_base)
    app = _App(
        border,
        registry,
        RouteGroups(_route_groups(registry, border, cookie)),
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


def _route_groups(registry: Registry, border: Border, cookie: ConsoleCookie) -> list[RouteGroup]:
    """Return the routes in the order of their matching. What rents and drives browsers is loaded from the start."""
    rest = [
        RouteGroup(partial(routes_of, module), () if module == "_browsers" else rest_paths(module))
        for module in REST_MODULES
    ]
    return [
        *rest,
        RouteGroup(partial(routes_of, "_admin"), (ADMIN_PATH,)),
        RouteGroup(partial(routes_of, "_worker_registration"), ("/internal",)),
        RouteGroup(partial(routes_of, "_health"), ("/healthz", "/readyz", "/pressure", "/metrics")),
        RouteGroup(partial(routes_of, "_profile_script"), ("/profile.sh",)),
        RouteGroup(partial(_console_routes, cookie, border), ("/", "/console")),
        RouteGroup(partial(routes_of, "_files", "public_router"), (FILES_PATH,)),
        RouteGroup(lambda: gateway.router(registry, external_base, border=border).routes),
        RouteGroup(_live_routes, ("/live", "/share")),
    ]


def _console_routes(cookie: ConsoleCookie, border: Border) -> list[BaseRoute]:
    from cdpbridge.server.console import console_router  # noqa: PLC0415  # on first use

    return console_router(cookie, lambda request: snapshots_of(request.app), external_base, border).routes


def _live_routes() -> list[BaseRoute]:
    from cdpbridge.server.live import router  # noqa: PLC0415  # on first use

    return router(lambda socket: socket.app.state.services.live).routes


def _sign_ins_of(connection: HTTPConnection) -> SignIns:
    services: Services = connection.app.state.services
    return SignIns(services.store, services.wall)


def snapshots_of(app: FastAPI) -> Snapshots:
    """Return what the console shows, of a running server; made with the first request of the console."""
    from cdpbridge.server.console import Snapshots  # noqa: PLC0415  # its routes have loaded it

    state = app.state
    if state.snapshots is None:
        services: Services = state.services
        state.snapshots = Snapshots(
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
            isolation=services.isolation,
            wall=services.wall,
        )
    snapshots: Snapshots = state.snapshots
    return snapshots
