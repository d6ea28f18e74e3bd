"""`/sessions`: browsers that take tasks, and public views of them."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import Body, Query, Response
from starlette.requests import Request

from cdpbridge.api._models import Page
from cdpbridge.api._task_models import (
    AgentSession,
    AgentSessionItem,
    AgentSessionStatus,
    CreateSessionRequest,
    Share,
    UpdateSessionRequest,
)
from cdpbridge.server import store

from ._addresses import live_url, recording_url, share_url
from ._fields import FieldsRoute, IgnoredFields
from ._orders import body_hash, session_order
from ._problems import not_found
from ._rest import rest_router
from ._services import (
    Hidden,
    IdempotencyKey,
    KeyId,
    Paging,
    ProgramOf,
    ProjectId,
    Services,
    ServicesOf,
    client_left,
)
from ._task_views import task_item

__all__ = ["router"]

router = rest_router("/sessions", tags=["Sessions"], route_class=FieldsRoute)

_MEGABYTE: Final = 1_000_000


def _item(
    request: Request, services: Services, session: store.AgentSession, browser: store.Browser
) -> AgentSessionItem:
    traffic = browser.proxy_bytes if browser.over else services.hosts.proxy_bytes(browser.id)
    return AgentSessionItem(
        id=session.id,
        status=AgentSessionStatus.STOPPED if browser.over else AgentSessionStatus.ACTIVE,
        live_url=live_url(request, services, browser),
        started_at=browser.started_at or browser.created_at,
        finished_at=browser.finished_at,
        persist_memory=session.persist_memory,
        keep_alive=session.keep_alive,
        proxy_used_mb=Decimal(traffic) / _MEGABYTE,
        proxy_cost=Decimal(0),  # traffic is not charged here
        recording_url=recording_url(request, services, browser),
        browser_session_id=browser.id,
        timeout_at=browser.timeout_at,
        proxy_country_code=browser.proxy_country,
        proxy_simulated=browser.proxy_simulated or False,
        end_reason=browser.end_reason,
        ignored_fields=browser.ignored_fields or [],
    )


async def _view(
    request: Request, services: Services, session: store.AgentSession, browser: store.Browser
) -> AgentSession:
    share = await services.store.share(session.id)
    tasks = await services.store.tasks_of_session(session.id)
    item = _item(request, services, session, browser)
    return AgentSession(
        **item.model_dump(),
        tasks=[task_item(task) for task in tasks],
        public_share_url=None if share is None else share_url(request, share.token),
    )


async def _find(
    services: Services, project_id: UUID, session_id: UUID
) -> tuple[store.AgentSession, store.Browser]:
    found = await services.store.agent_session(project_id, session_id)
    if found is None:
        raise not_found("Session")
    return found


@router.get("")
async def list_sessions(
    request: Request,
    services: ServicesOf,
    project_id: ProjectId,
    paging: Paging,
    *,
    filter_by: Annotated[Literal["active", "stopped"] | None, Query(alias="filterBy")] = None,
    hidden: Hidden,
) -> Page[AgentSessionItem]:
    """Get paginated list of AI agent sessions with optional status filtering, newest first."""
    active = None if filter_by is None else filter_by == AgentSessionStatus.ACTIVE
    found, total = await services.store.agent_sessions(
        project_id, active=active, offset=paging.offset, limit=paging.size, hidden=hidden
    )
    items = [_item(request, services, session, browser) for session, browser in found]
    return Page[AgentSessionItem](
        items=items, total_items=total, page_number=paging.number, page_size=paging.size
    )


@router.post("", status_code=201)
async def create_session(
    request: Request,
    services: ServicesOf,
    project_id: ProjectId,
    body: Annotated[CreateSessionRequest | None, Body()] = None,
    *,
    idempotency_key: IdempotencyKey,
    key_id: KeyId,
    program: ProgramOf,
    unused: IgnoredFields,
) -> AgentSessionItem:
    """Start a session over a browser of its own, charged as one; answered when it runs. It may run as long as the plan allows."""
    body = body or CreateSessionRequest()
    session, browser = await services.agent_sessions.create(
        project_id,
        await session_order(services, project_id, body, unused=unused, key_id=key_id, program=program),
        keep_alive=body.keep_alive,
        persist_memory=body.persist_memory,
        client_left=lambda: client_left(request),
        key=idempotency_key,
        body_hash=body_hash("/sessions", body),
    )
    return _item(request, services, session, browser)


@router.get("/{session_id}")
async def get_session(
    request: Request, services: ServicesOf, project_id: ProjectId, session_id: UUID
) -> AgentSession:
    """Get detailed session information including status, URLs, and task details."""
    session, browser = await _find(services, project_id, session_id)
    return await _view(request, services, session, browser)


@router.patch("/{session_id}")
async def update_session(
    request: Request,
    services: ServicesOf,
    project_id: ProjectId,
    session_id: UUID,
    body: UpdateSessionRequest,  # noqa: ARG001  # `stop` is the only action there is
) -> AgentSession:
    """Stop a session and all its running tasks, and refund unused time. May be repeated."""
    session, _ = await _find(services, project_id, session_id)
    await services.agent_sessions.stop(project_id, session)
    return await get_session(request, services, project_id, session_id)


@router.delete("/{session_id}", status_code=204)
async def delete_session(services: ServicesOf, project_id: ProjectId, session_id: UUID) -> Response:
    """Delete a session with all its tasks and files; one that runs is stopped first."""
    session, _ = await _find(services, project_id, session_id)
    await services.agent_sessions.delete(project_id, session)
    services.quota.forget(project_id)
    return Response(status_code=204)


@router.post("/{session_id}/purge", status_code=204)
async def purge_session(services: ServicesOf, project_id: ProjectId, session_id: UUID) -> Response:
    """Remove all content: instructions, steps and outputs of tasks, and every file. Their records stay; a running session is stopped."""
    session, _ = await _find(services, project_id, session_id)
    await services.agent_sessions.purge(project_id, session)
    services.quota.forget(project_id)
    return Response(status_code=204)


# --- public shares ----------------------------------------------------------------------------------------------------


def _share(request: Request, share: store.Share) -> Share:
    return Share(
        share_token=share.token,
        share_url=share_url(request, share.token),
        view_count=share.view_count,
        last_viewed_at=share.last_viewed_at,
    )


@router.get("/{session_id}/public-share")
async def get_share(request: Request, services: ServicesOf, project_id: ProjectId, session_id: UUID) -> Share:
    """Get public share information including URL and usage statistics."""
    session, _ = await _find(services, project_id, session_id)
    share = await services.store.share(session.id)
    if share is None:
        raise not_found("Public share")
    return _share(request, share)


@router.post("/{session_id}/public-share", status_code=201)
async def create_share(
    request: Request, services: ServicesOf, project_id: ProjectId, session_id: UUID
) -> Share:
    """Create or return existing public share for a session."""
    session, _ = await _find(services, project_id, session_id)
    share = await services.shares.create(session.id)
    if share is None:
        raise not_found("Session")
    return _share(request, share)


@router.delete("/{session_id}/public-share", status_code=204)
async def delete_share(services: ServicesOf, project_id: ProjectId, session_id: UUID) -> Response:
    """Remove public share for a session, and cut who watches; 204 also when there is none."""
    session, _ = await _find(services, project_id, session_id)
    await services.shares.delete(session)
    return Response(status_code=204)
