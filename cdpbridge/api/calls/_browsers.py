"""Calls of `/browsers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from cdpbridge.api._models import BrowserDownloads, BrowserRecording, BrowserSession, Page
from cdpbridge.errors import RecordingUnavailable

from ._base import (
    MAX_PAGE_SIZE,
    Call,
    ServerDefault,
    checked_hosts,
    checked_metadata,
    country_field,
    id_text,
    idempotency,
    paging,
    server_default,
    timeout_minutes,
    without_none,
)

if TYPE_CHECKING:
    from cdpbridge.api._task_models import CustomProxy

__all__ = [
    "create_browser",
    "get_browser",
    "get_recording",
    "list_browsers",
    "list_downloads",
    "recording_address",
    "stop_browser",
]


def list_browsers(
    *,
    status: str | None = None,
    agent_session_id: UUID | str | None = None,
    page_number: int = 1,
    page_size: int = MAX_PAGE_SIZE,
) -> Call[Page[BrowserSession]]:
    """Build `GET /browsers`, one page."""
    session = None if agent_session_id is None else id_text(agent_session_id)
    query = paging(page_number, page_size) | without_none(filter_by=status, agent_session_id=session)
    return Call("GET", "/browsers", Page[BrowserSession], query=query)


def create_browser(
    *,
    profile_id: UUID | str | None = None,
    proxy_country: str | ServerDefault | None = server_default,
    timeout: timedelta | None = None,
    browser_screen_width: int | None = None,
    browser_screen_height: int | None = None,
    custom_proxy: CustomProxy | None = None,
    metadata: Mapping[str, str] | None = None,
    enable_recording: bool | None = None,
    allowed_hosts: Sequence[str] | None = None,
    denied_hosts: Sequence[str] | None = None,
    extra_body: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> Call[BrowserSession]:
    """Build `POST /browsers`; what is not given is left to the server.

    Raises:
        ConfigurationError: `timeout` is not 1 to 240 whole minutes, an id or country is malformed, or a list of hosts is none.
    """
    body = without_none(
        profile_id=None if profile_id is None else id_text(profile_id),
        timeout=None if timeout is None else timeout_minutes(timeout),
        browser_screen_width=browser_screen_width,
        browser_screen_height=browser_screen_height,
        custom_proxy=custom_proxy,
        metadata=checked_metadata(metadata),
        enable_recording=enable_recording,
        allowed_hosts=checked_hosts("allowed_hosts", allowed_hosts),
        denied_hosts=checked_hosts("denied_hosts", denied_hosts),
    )
    return Call(
        "POST",
        "/browsers",
        BrowserSession,
        body=body | country_field(proxy_country) | dict(extra_body or {}),
        headers=idempotency(idempotency_key),
        repeatable=False,
        slow=True,
    )


def get_browser(browser_id: UUID | str) -> Call[BrowserSession]:
    """Build `GET /browsers/{id}`."""
    return Call("GET", f"/browsers/{id_text(browser_id)}", BrowserSession)


def stop_browser(browser_id: UUID | str) -> Call[BrowserSession]:
    """Build `PATCH /browsers/{id}` that stops it."""
    path = f"/browsers/{id_text(browser_id)}"
    return Call("PATCH", path, BrowserSession, body={"action": "stop"}, slow=True)


def get_recording(browser_id: UUID | str) -> Call[BrowserRecording]:
    """Build `GET /browsers/{id}/recording` of a cdpbridge server."""
    return Call("GET", f"/browsers/{id_text(browser_id)}/recording", BrowserRecording)


def recording_address(browser: BrowserSession) -> tuple[str, str]:
    """Return the address of the video of a browser, and a name for it.

    Raises:
        RecordingUnavailable: It has none.
    """
    if browser.recording_url is None:
        raise RecordingUnavailable(browser.id, pending=browser.recording_available is True)
    return browser.recording_url, f"{browser.id}.webm"


def list_downloads(
    browser_id: UUID | str,
    *,
    include_urls: bool = False,
    cursor: str | None = None,
    limit: int = MAX_PAGE_SIZE,
) -> Call[BrowserDownloads]:
    """Build `GET /browsers/{id}/downloads` (newer than the reference)."""
    query = without_none(limit=str(limit), cursor=cursor, include_urls="true" if include_urls else None)
    return Call("GET", f"/browsers/{id_text(browser_id)}/downloads", BrowserDownloads, query=query)
