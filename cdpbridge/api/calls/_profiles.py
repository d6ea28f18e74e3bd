"""Calls of `/profiles`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from cdpbridge.api._models import Page, Profile
from cdpbridge.errors import ConfigurationError

from ._base import (
    MAX_PAGE_SIZE,
    Call,
    ServerDefault,
    checked_hosts,
    id_text,
    paging,
    server_default,
    without_none,
)

__all__ = ["create_profile", "delete_profile", "get_profile", "list_profiles", "update_profile"]


def list_profiles(
    *, query: str | None = None, page_number: int = 1, page_size: int = MAX_PAGE_SIZE
) -> Call[Page[Profile]]:
    """Build `GET /profiles`, one page."""
    parameters = paging(page_number, page_size) | without_none(query=query)
    return Call("GET", "/profiles", Page[Profile], query=parameters)


def create_profile(
    *,
    name: str | None = None,
    allowed_hosts: Sequence[str] | None = None,
    denied_hosts: Sequence[str] | None = None,
) -> Call[Profile]:
    """Build `POST /profiles`.

    Raises:
        ConfigurationError: A list of hosts is none.
    """
    body = without_none(
        name=name,
        allowed_hosts=checked_hosts("allowed_hosts", allowed_hosts),
        denied_hosts=checked_hosts("denied_hosts", denied_hosts),
    )
    return Call("POST", "/profiles", Profile, body=body, repeatable=False)


def get_profile(profile_id: UUID | str) -> Call[Profile]:
    """Build `GET /profiles/{id}`."""
    return Call("GET", f"/profiles/{id_text(profile_id)}", Profile)


def update_profile(
    profile_id: UUID | str,
    *,
    name: str | ServerDefault | None = server_default,
    allowed_hosts: Sequence[str] | ServerDefault | None = server_default,
    denied_hosts: Sequence[str] | ServerDefault | None = server_default,
) -> Call[Profile]:
    """Build `PATCH /profiles/{id}`; what is not given stays as it is, None takes it away.

    Raises:
        ConfigurationError: A list of hosts is none, or nothing is given.
    """
    body: dict[str, Any] = {} if isinstance(name, ServerDefault) else {"name": name}
    if not isinstance(allowed_hosts, ServerDefault):
        body["allowedHosts"] = checked_hosts("allowed_hosts", allowed_hosts)
    if not isinstance(denied_hosts, ServerDefault):
        body["deniedHosts"] = checked_hosts("denied_hosts", denied_hosts)
    if not body:
        raise ConfigurationError("nothing to change: give name, allowed_hosts or denied_hosts")
    return Call("PATCH", f"/profiles/{id_text(profile_id)}", Profile, body=body)


def delete_profile(profile_id: UUID | str) -> Call[None]:
    """Build `DELETE /profiles/{id}`."""
    return Call("DELETE", f"/profiles/{id_text(profile_id)}", None)
