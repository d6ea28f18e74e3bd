"""`/browsers`: rented browsers."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Body, Header, HTTPException, Query
from starlette.requests import Request

from cdpbridge.api._models import (
    BrowserSession,
    BrowserSessionStatus,
    CreateBrowserSessionRequest,
    Page,
    UpdateBrowserSessionRequest,
)
from cdpbridge.server import store
from cdpbridge.server._rentals import Order
from cdpbridge.server._settings import Settings, country_code

from ._problems import not_found, unprocessable
from ._services import Paging, ProjectId, Services, ServicesOf, external_base

__all__ = ["router"]

router = APIRouter(prefix="/browsers", tags=["Browsers"])

_MEGABYTE: Final = 1_000_000
_FREE_LIMIT_TEXT: Final = (
    "Session timeout limit exceeded for free users: at most {limit} minutes, not {asked}."
)


def _view(request: Request, services: Services, browser: store.Browser) -> BrowserSession:
    placement = None if browser.over else services.hosts.placement(browser.id)
    address = None
    if placement is not None and browser.started_at is not None:
        address = f"{external_base(request)}/cdp/{placement.token}"
    traffic = browser.proxy_bytes if browser.over else services.hosts.proxy_bytes(browser.id)
    return BrowserSession(
        id=browser.id,
        status=BrowserSessionStatus.STOPPED if browser.over else BrowserSessionStatus.ACTIVE,
        cdp_url=address,
        timeout_at=browser.timeout_at,
        started_at=browser.started_at or browser.created_at,
        finished_at=browser.finished_at,
        profile_writable=browser.profile_writable,
        browser_cost=browser.cost,
        proxy_used_mb=Decimal(traffic) / _MEGABYTE,
        proxyCost="0",  # traffic is not charged here
        profileId=None if browser.profile_id is None else str(browser.profile_id),
        proxyCountryCode=browser.proxy_country,
        endReason=browser.end_reason,
    )


def _order_timeout(settings: Settings, body: CreateBrowserSessionRequest) -> timedelta:
    limit = settings.max_timeout_minutes
    if "timeout" not in body.model_fields_set:
        return timedelta(minutes=min(body.timeout, limit))
    if body.timeout > limit:
        raise HTTPException(403, _FREE_LIMIT_TEXT.format(limit=limit, asked=body.timeout))
    return timedelta(minutes=body.timeout)


def _order_proxy(settings: Settings, body: CreateBrowserSessionRequest) -> tuple[str | None, str | None]:
    """The country, and the upstream it stands for."""
    asked = body.proxy_country_code
    if "proxy_country_code" not in body.model_fields_set:
        asked = settings.default_proxy_country
    if asked is None:
        return None, None
    country = country_code(asked)
    if country not in settings.known_countries:
        known = ", ".join(settings.known_countries)
        raise unprocessable("proxyCountryCode", f"unknown country; one of: {known}")
    upstream = settings.proxies.get(country)
    if upstream is None:
        raise unprocessable(
            "proxyCountryCode",
            f"this server has no proxy for {country!r}; add it to the setting `proxies`, "
            f'e.g. {country} = "http://user:password@host:port" or "direct"',
        )
    return country, upstream.get_secret_value()


@router.get("")
async def list_browsers(
    request: Request,
    services: ServicesOf,
    project_id: ProjectId,
    paging: Paging,
    filter_by: Annotated[Literal["active", "stopped"] | None, Query(alias="filterBy")] = None,
) -> Page[BrowserSession]:
    """Get paginated list of browser sessions with optional status filtering, newest first."""
    active = None if filter_by is None else filter_by == BrowserSessionStatus.ACTIVE
    found, total = await services.store.browsers(
        project_id, active=active, offset=paging.offset, limit=paging.size
    )
    items = [_view(request, services, browser) for browser in found]
    return Page[BrowserSession](
        items=items, total_items=total, page_number=paging.number, page_size=paging.size
    )


@router.post("", status_code=201)
async def create_browser(
    request: Request,
    services: ServicesOf,
    project_id: ProjectId,
    body: Annotated[CreateBrowserSessionRequest | None, Body()] = None,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> BrowserSession:
    """Rent a browser; answered when it runs. A client that leaves before gets none, and pays nothing.

    Two requests with the same `Idempotency-Key` and body get the same browser; with another body the second gets 409.
    Without a `timeout`, a browser runs for 60 minutes, or as long as the plan allows.
    """
    body = body or CreateBrowserSessionRequest()
    settings = services.settings
    country, proxy = _order_proxy(settings, body)
    timeout = _order_timeout(settings, body)
    if body.profile_id is not None and await services.store.profile(project_id, body.profile_id) is None:
        raise not_found("Profile")
    order = Order(
        timeout=timeout,
        tariff=settings.tariff,
        limit=settings.max_browsers,
        profile_id=body.profile_id,
        proxy_country=country,
        proxy=proxy,
    )
    given = body.model_dump_json(exclude_unset=True)
    browser = await services.rentals.create(
        project_id,
        order,
        gone=lambda: _client_gone(request),
        key=idempotency_key,
        body_hash=hashlib.sha256(given.encode()).hexdigest(),
    )
    return _view(request, services, browser)


async def _client_gone(request: Request) -> None:
    """Return when the client has left; the body was read, so nothing else can come."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


@router.get("/{session_id}")
async def get_browser(
    request: Request, services: ServicesOf, project_id: ProjectId, session_id: UUID
) -> BrowserSession:
    """Get detailed browser session information including status and URLs."""
    browser = await services.store.browser(project_id, session_id)
    if browser is None:
        raise not_found("Session")
    return _view(request, services, browser)


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
    return _view(request, services, browser)
