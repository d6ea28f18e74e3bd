"""`/browsers`: rented browsers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import Body, HTTPException, Query
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import Response

from cdpbridge._lifecycle import State
from cdpbridge.api._models import (
    BrowserRecording,
    BrowserSession,
    BrowserSessionStatus,
    CreateBrowserSessionRequest,
    HostTraffic,
    Page,
    RecordingStill,
    UpdateBrowserSessionRequest,
)
from cdpbridge.server import store

from ._addresses import cdp_url, live_url, recording_url, signed_url
from ._fields import FieldsRoute, IgnoredFields
from ._files_here import check_files_here
from ._orders import body_hash, browser_order
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
    external_base,
)

__all__ = ["browser_view", "router"]

router = rest_router("/browsers", tags=["Browsers"], route_class=FieldsRoute)

_MOST_LABELS: Final = 100
_MEGABYTE: Final = 1_000_000


def browser_view(request: Request, services: Services, browser: store.Browser) -> BrowserSession:
    traffic = browser.proxy_bytes if browser.over else services.hosts.proxy_bytes(browser.id)
    video = recording_url(request, services, browser)
    return BrowserSession(
        id=browser.id,
        status=BrowserSessionStatus.STOPPED if browser.over else BrowserSessionStatus.ACTIVE,
        live_url=live_url(request, services, browser),
        cdp_url=cdp_url(external_base(request), services, browser),
        timeout_at=browser.timeout_at,
        started_at=browser.started_at or browser.created_at,
        finished_at=browser.finished_at,
        profile_writable=browser.profile_writable,
        profile_not_kept=None if browser.profile_id is None else list(services.profile_losses),
        browser_cost=browser.cost,
        blocked_requests=browser.blocked_requests
        if browser.over
        else services.hosts.blocked_requests(browser.id),
        allowed_hosts=browser.allowed_hosts,
        denied_hosts=browser.denied_hosts,
        host_traffic=_host_traffic(services, browser),
        proxy_used_mb=Decimal(traffic) / _MEGABYTE,
        proxy_cost=Decimal(0),  # traffic is not charged here
        profile_id=browser.profile_id,
        proxy_country_code=browser.proxy_country,
        proxy_simulated=browser.proxy_simulated or False,
        agent_session_id=browser.agent_session_id,
        metadata=browser.labels or {},
        recording_url=video,
        recording_available=video is not None or browser.recording == store.RecordingState.RUNNING,
        end_reason=browser.end_reason,
        ignored_fields=browser.ignored_fields or [],
    )


def _host_traffic(services: Services, browser: store.Browser) -> list[HostTraffic] | None:
    if browser.over:
        if browser.host_traffic is None:
            return None
        return [
            HostTraffic(host=host, bytes_sent=sent, bytes_received=received)
            for host, sent, received in browser.host_traffic
        ]
    return [
        HostTraffic(host=each.host, bytes_sent=each.bytes_sent, bytes_received=each.bytes_received)
        for each in services.hosts.traffic(browser.id)
    ]


@router.get("")
async def list_browsers(
    request: Request,
    services: ServicesOf,
    project_id: ProjectId,
    paging: Paging,
    *,
    filter_by: Annotated[Literal["active", "stopped"] | None, Query(alias="filterBy")] = None,
    agent_session_id: Annotated[UUID | None, Query(alias="agentSessionId")] = None,
    metadata: Annotated[list[str] | None, Query(max_length=_MOST_LABELS)] = None,
    hidden: Hidden,
) -> Page[BrowserSession]:
    """Get paginated list of browser sessions with optional filtering, newest first.

    Those of agent sessions are among them, because they hold a slot too. `metadata` is `name:value`, and may be given
    several times.
    """
    active = None if filter_by is None else filter_by == BrowserSessionStatus.ACTIVE
    found, total = await services.store.browsers(
        project_id,
        active=active,
        offset=paging.offset,
        limit=paging.size,
        agent_session_id=agent_session_id,
        labels=_labels(metadata or []),
        hidden=hidden,
    )
    items = [browser_view(request, services, browser) for browser in found]
    return Page[BrowserSession](
        items=items, total_items=total, page_number=paging.number, page_size=paging.size
    )


async def _find(services: Services, project_id: UUID, session_id: UUID) -> store.Browser:
    browser = await services.store.browser(project_id, session_id)
    if browser is None:
        raise not_found("Session")
    return browser


def _labels(pairs: list[str]) -> dict[str, str]:
    labels = {}
    for pair in pairs:
        name, separator, value = pair.partition(":")
        if not separator or not name:
            raise RequestValidationError(
                [{"loc": ("query", "metadata"), "msg": "write name:value", "type": "value_error"}]
            )
        labels[name] = value
    return labels


@router.post("", status_code=201)
async def create_browser(
    request: Request,
    services: ServicesOf,
    project_id: ProjectId,
    body: Annotated[CreateBrowserSessionRequest | None, Body()] = None,
    *,
    idempotency_key: IdempotencyKey,
    key_id: KeyId,
    program: ProgramOf,
    unused: IgnoredFields,
) -> BrowserSession:
    """Rent a browser; answered when it runs. A client that leaves before gets none, and pays nothing.

    Two requests with the same `Idempotency-Key` and body get the same browser; with another body the second gets 409.
    Without a `timeout`, a browser runs for 60 minutes, or as long as the plan allows.
    """
    body = body or CreateBrowserSessionRequest()
    browser = await services.rentals.create(
        project_id,
        await browser_order(services, project_id, body, unused=unused, key_id=key_id, program=program),
        client_left=lambda: client_left(request),
        key=idempotency_key,
        body_hash=body_hash("/browsers", body),
    )
    return browser_view(request, services, browser)


@router.get("/{session_id}")
async def get_browser(
    request: Request, services: ServicesOf, project_id: ProjectId, session_id: UUID
) -> BrowserSession:
    """Get detailed browser session information including status and URLs."""
    browser = await _find(services, project_id, session_id)
    return browser_view(request, services, browser)


@router.patch("/{session_id}")
async def update_browser(
    request: Request,
    services: ServicesOf,
    project_id: ProjectId,
    session_id: UUID,
    body: UpdateBrowserSessionRequest,  # noqa: ARG001  # `stop` is the only action there is
) -> BrowserSession:
    """Stop a browser session and refund unused time; answered when its profile is saved. May be repeated."""
    browser = await services.rentals.stop(project_id, session_id)
    if browser is None:
        raise not_found("Session")
    return browser_view(request, services, browser)


@router.get("/{session_id}/recording")
async def get_recording(
    request: Request, services: ServicesOf, project_id: ProjectId, session_id: UUID
) -> BrowserRecording:
    """Return the video of a browser that was created with `enableRecording`, once it is finished, and its stills so far."""
    browser = await _find(services, project_id, session_id)
    if browser.recording_state is None:
        raise not_found("Recording")
    await check_files_here(services, browser, recorded=True)
    video, stills = await asyncio.to_thread(services.recordings.files, browser)
    return BrowserRecording(
        status=browser.recording_state,
        note=browser.recording_state.words(services.recordings.max_mb),
        url=None if video is None else signed_url(request, services, video.path),
        size=None if video is None else video.size,
        stills=[
            RecordingStill(
                name=still.name,
                taken_at=datetime.fromtimestamp(still.modified, UTC),
                size=still.size,
                url=signed_url(request, services, still.path),
            )
            for still in stills
        ],
    )


@router.delete("/{session_id}/files", status_code=204)
async def delete_files(services: ServicesOf, project_id: ProjectId, session_id: UUID) -> Response:
    """Remove what is kept of a stopped browser: uploads, downloads, recording. 400 while it runs; may be repeated."""
    browser = await _find(services, project_id, session_id)
    if browser.state != State.STOPPED:
        raise HTTPException(400, "The browser still runs; stop it first")
    await check_files_here(services, browser)
    await asyncio.to_thread(services.files.remove, browser_id=browser.id)
    if browser.kept_bytes:
        await services.store.files_kept(browser.id, 0, video=False)
    services.quota.forget(project_id)
    return Response(status_code=204)


@router.get("/{session_id}/downloads")
async def list_downloads(
    request: Request,
    services: ServicesOf,
    project_id: ProjectId,
    session_id: UUID,
    *,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
    include_urls: Annotated[bool, Query(alias="includeUrls")] = False,
) -> dict[str, Any]:
    """Files that the browser has downloaded, by name; also after its end. `cursor` is the `nextCursor` of the page before."""
    browser = await _find(services, project_id, session_id)
    await check_files_here(services, browser)
    await services.hosts.take_downloads(browser.id)
    found = await asyncio.to_thread(services.files.listing, services.files.downloads(browser.id))
    later = [file for file in found if cursor is None or file.name > cursor]
    page = later[:limit]
    more = len(later) > limit
    return {
        "files": [
            {
                "path": file.name,
                "size": file.size,
                "lastModified": datetime.fromtimestamp(file.modified, UTC),
                "url": signed_url(request, services, file.path) if include_urls else None,
            }
            for file in page
        ],
        "nextCursor": page[-1].name if more else None,
        "hasMore": more,
    }
