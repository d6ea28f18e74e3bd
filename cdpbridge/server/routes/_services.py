"""The parts that routes work with, and the parameters they share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID

from fastapi import Depends, Header, HTTPException, Query
from starlette.requests import HTTPConnection, Request
from starlette.types import Scope

from cdpbridge.server.accounts import Program

if TYPE_CHECKING:
    from cdpbridge.server._agency import Agency
    from cdpbridge.server._metrics import Metrics
    from cdpbridge.server._resolver import BrowserResolver
    from cdpbridge.server._tokens import BrowserTokens
    from cdpbridge.server._views import Views
    from cdpbridge.server.accounts import Accounts
    from cdpbridge.server.engine import Engine
    from cdpbridge.server.files import FileQuota, FileStore, UrlSigner
    from cdpbridge.server.gateway import Registry
    from cdpbridge.server.hosts import BrowserHosts
    from cdpbridge.server.limits import Border
    from cdpbridge.server.live import Live
    from cdpbridge.server.profiles import ProfileStore
    from cdpbridge.server.recording import Recordings
    from cdpbridge.server.rentals import Pressure, Rentals
    from cdpbridge.server.settings import Plan, Settings
    from cdpbridge.server.store import Store
    from cdpbridge.server.tasks._agent_sessions import AgentSessions, Shares
    from cdpbridge.server.tasks._tasks import Tasks

__all__ = [
    "BASE_PATH",
    "Hidden",
    "IdempotencyKey",
    "KeyId",
    "Paging",
    "ProgramOf",
    "ProjectId",
    "Services",
    "ServicesOf",
    "check_profiles_kept",
    "client_address",
    "client_left",
    "external_base",
    "own_rentals",
    "profiles_kept",
]

BASE_PATH: Final = "/api/v2"


@dataclass(frozen=True, slots=True)
class Services:
    """The open parts of a running server.

    Attributes:
        views: Live view, shares and recordings.
        agency: Tasks and agent sessions.
        profile_losses: What a profile does not keep on the build it runs on here.
        isolation: What a test has shown about the isolation of browsers, for a reader.
        limits: What keeps browsers to their limits of memory and processes, for a reader.
        readable: Returns what browsers may read of this machine by some settings; ConfigurationError if that cannot be.
        engine: What starts workers; None when that is not this server's business.
        sharing_refusal: Why several projects may not use this server; empty when they may.
    """

    settings: Settings
    store: Store
    profiles: ProfileStore
    hosts: BrowserHosts
    rentals: Rentals
    views: Views
    agency: Agency
    cdp_tokens: BrowserTokens
    live_tokens: BrowserTokens
    files: FileStore
    quota: FileQuota
    signer: UrlSigner
    profile_losses: Sequence[str]
    isolation: str
    limits: str
    readable: Callable[[Settings], tuple[Path, ...]]
    sharing_refusal: str
    accounts: Accounts
    wall: Callable[[], datetime]
    registry: Registry
    resolver: BrowserResolver
    pressure: Pressure
    metrics: Metrics
    border: Border
    engine: Engine | None = None

    @property
    def live(self) -> Live:
        return self.views.live

    @property
    def shares(self) -> Shares:
        return self.views.shares

    @property
    def recordings(self) -> Recordings:
        return self.views.recordings

    @property
    def tasks(self) -> Tasks:
        return self.agency.tasks

    @property
    def agent_sessions(self) -> AgentSessions:
        return self.agency.sessions

    def plan(self, project_id: UUID) -> Plan:
        """Return the plan of a project."""
        return self.accounts.plan(project_id)

    async def close(self) -> None:
        """End what runs: agents, then browsers. May be repeated."""
        await self.agency.close()
        await self.rentals.close()


# Coroutine functions, as FastAPI calls plain ones in a thread, which takes ten times as long as they do.
async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _project(request: Request) -> UUID:
    project_id: UUID = request.state.project_id  # from Authentication
    return project_id


async def _key(request: Request) -> UUID | None:
    key_id: UUID | None = request.state.key_id  # from Authentication
    return key_id


async def _program(request: Request) -> Program | None:
    program: Program | None = request.state.program  # from Authentication
    return program


async def _hidden(request: Request) -> Collection[UUID]:
    services: Services = request.app.state.services
    return services.accounts.others(request.state.program)


async def own_rentals(request: Request) -> None:
    """Refuse requests of a program about what another program has rented; its ids mean nothing to it."""
    services: Services = request.app.state.services
    hidden = services.accounts.others(request.state.program)
    if not hidden:
        return
    for name, text in request.path_params.items():
        try:
            found = UUID(str(text))
        except ValueError:  # the route says so
            continue
        if await services.store.rented_with(hidden, found):
            raise HTTPException(404, f"{'Task' if name == 'task_id' else 'Session'} not found")


async def _idempotency_key(
    request: Request,
    key: Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)] = None,
) -> str | None:
    """Return the request's key; that of a program means nothing for another one."""
    program: Program | None = request.state.program
    if key is None or program is None:
        return key
    return sha256(f"{program.id} {key}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Paging:
    size: int
    number: int

    @property
    def offset(self) -> int:
        return (self.number - 1) * self.size


async def _paging(
    page_size: Annotated[int, Query(alias="pageSize", ge=1, le=100)] = 10,
    page_number: Annotated[int, Query(alias="pageNumber", ge=1, le=10**9)] = 1,
) -> _Paging:
    return _Paging(page_size, page_number)


ServicesOf = Annotated[Services, Depends(_services)]
ProjectId = Annotated[UUID, Depends(_project)]
KeyId = Annotated[UUID | None, Depends(_key)]
Paging = Annotated[_Paging, Depends(_paging)]
ProgramOf = Annotated[Program | None, Depends(_program)]
Hidden = Annotated[Collection[UUID], Depends(_hidden)]
IdempotencyKey = Annotated[str | None, Depends(_idempotency_key)]


async def profiles_kept(services: ServicesOf) -> None:
    """Refuse requests about profiles where none are kept."""
    check_profiles_kept(services)


def check_profiles_kept(services: Services) -> None:
    """Refuse where profiles are not kept: an empty list would say that there are none."""
    if services.settings.no_profiles:
        raise HTTPException(409, f"profiles cannot be used here: {services.settings.no_profiles}")


def external_base(request: HTTPConnection) -> str:
    """Return the address clients use, without a slash at its end: `public_url`, else as the request was addressed."""
    services: Services = request.app.state.services
    return services.settings.public_url or str(request.base_url).rstrip("/")


def client_address(scope: Scope) -> str:
    """Return the address of a request's client; empty when the server does not know it."""
    client = scope.get("client")
    return str(client[0]) if client else ""


async def client_left(request: Request) -> None:
    """Return when the client has left; the body was read, so nothing else can come."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
