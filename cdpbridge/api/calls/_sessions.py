"""Calls of `/sessions`: agent sessions, and their public shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from cdpbridge.api._models import Page
from cdpbridge.api._task_models import AgentSession, AgentSessionItem, CustomProxy, Share

from ._base import (
    MAX_PAGE_SIZE,
    Call,
    ServerDefault,
    checked_hosts,
    country_field,
    id_text,
    idempotency,
    paging,
    server_default,
    without_none,
)

__all__ = [
    "create_session",
    "create_share",
    "delete_session",
    "delete_share",
    "get_session",
    "get_share",
    "list_sessions",
    "purge_session",
    "stop_session",
]


def list_sessions(
    *, status: str | None = None, page_number: int = 1, page_size: int = MAX_PAGE_SIZE
) -> Call[Page[AgentSessionItem]]:
    """Build `GET /sessions`, one page."""
    query = paging(page_number, page_size) | without_none(filter_by=status)
    return Call("GET", "/sessions", Page[AgentSessionItem], query=query)


def create_session(
    *,
    profile_id: UUID | str | None = None,
    proxy_country: str | ServerDefault | None = server_default,
    start_url: str | None = None,
    browser_screen_width: int | None = None,
    browser_screen_height: int | None = None,
    persist_memory: bool | None = None,
    keep_alive: bool | None = None,
    custom_proxy: CustomProxy | None = None,
    enable_recording: bool | None = None,
    allowed_hosts: Sequence[str] | None = None,
    denied_hosts: Sequence[str] | None = None,
    extra_body: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> Call[AgentSessionItem]:
    """Build `POST /sessions`; what is not given is left to the server.

    Raises:
        ConfigurationError: An id or country is malformed, or a list of hosts is none.
    """
    body = without_none(
        profile_id=None if profile_id is None else id_text(profile_id),
        start_url=start_url,
        browser_screen_width=browser_screen_width,
        browser_screen_height=browser_screen_height,
        persist_memory=persist_memory,
        keep_alive=keep_alive,
        custom_proxy=custom_proxy,
        enable_recording=enable_recording,
        allowed_hosts=checked_hosts("allowed_hosts", allowed_hosts),
        denied_hosts=checked_hosts("denied_hosts", denied_hosts),
    )
    return Call(
        "POST",
        "/sessions",
        AgentSessionItem,
        body=body | country_field(proxy_country) | dict(extra_body or {}),
        headers=idempotency(idempotency_key),
        repeatable=False,
        slow=True,
    )


def get_session(session_id: UUID | str) -> Call[AgentSession]:
    """Build `GET /sessions/{id}`."""
    return Call("GET", f"/sessions/{id_text(session_id)}", AgentSession)


def stop_session(session_id: UUID | str) -> Call[AgentSession]:
    """Build `PATCH /sessions/{id}` that stops it."""
    path = f"/sessions/{id_text(session_id)}"
    return Call("PATCH", path, AgentSession, body={"action": "stop"}, slow=True)


def delete_session(session_id: UUID | str) -> Call[None]:
    """Build `DELETE /sessions/{id}` (newer than the reference)."""
    return Call("DELETE", f"/sessions/{id_text(session_id)}", None, slow=True)


def purge_session(session_id: UUID | str) -> Call[None]:
    """Build `POST /sessions/{id}/purge` (newer than the reference)."""
    return Call("POST", f"/sessions/{id_text(session_id)}/purge", None, slow=True)


def get_share(session_id: UUID | str) -> Call[Share]:
    """Build `GET /sessions/{id}/public-share`."""
    return Call("GET", f"/sessions/{id_text(session_id)}/public-share", Share)


def create_share(session_id: UUID | str) -> Call[Share]:
    """Build `POST /sessions/{id}/public-share`. Repeatable: if there is one already, the server answers with it."""
    return Call("POST", f"/sessions/{id_text(session_id)}/public-share", Share)


def delete_share(session_id: UUID | str) -> Call[None]:
    """Build `DELETE /sessions/{id}/public-share`."""
    return Call("DELETE", f"/sessions/{id_text(session_id)}/public-share", None)
