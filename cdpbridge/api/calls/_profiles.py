"""Calls of `/profiles`."""

from __future__ import annotations

from uuid import UUID

from cdpbridge.api._models import Page, Profile

from ._base import MAX_PAGE_SIZE, Call, id_text, paging, without_none

__all__ = ["create_profile", "delete_profile", "get_profile", "list_profiles", "update_profile"]


def list_profiles(
    *, query: str | None = None, page_number: int = 1, page_size: int = MAX_PAGE_SIZE
) -> Call[Page[Profile]]:
    """Build `GET /profiles`, one page."""
    parameters = paging(page_number, page_size) | without_none(query=query)
    return Call("GET", "/profiles", Page[Profile], query=parameters)


def create_profile(*, name: str | None = None) -> Call[Profile]:
    """Build `POST /profiles`."""
    return Call("POST", "/profiles", Profile, body=without_none(name=name), repeatable=False)


def get_profile(profile_id: UUID | str) -> Call[Profile]:
    """Build `GET /profiles/{id}`."""
    return Call("GET", f"/profiles/{id_text(profile_id)}", Profile)


def update_profile(profile_id: UUID | str, *, name: str | None) -> Call[Profile]:
    """Build `PATCH /profiles/{id}`."""
    return Call("PATCH", f"/profiles/{id_text(profile_id)}", Profile, body={"name": name})


def delete_profile(profile_id: UUID | str) -> Call[None]:
    """Build `DELETE /profiles/{id}`."""
    return Call("DELETE", f"/profiles/{id_text(profile_id)}", None)
