"""`/profiles`: saved browser state."""

from __future__ import annotations

import logging
from typing import Annotated, Final
from uuid import UUID

from fastapi import Body, Depends, Query, Response

from cdpbridge.api._models import Page, Profile, ProfileCreateRequest, ProfileUpdateRequest
from cdpbridge.server import store
from cdpbridge.server.objects import ObjectStorageError

from ._fields import FieldsRoute
from ._orders import hosts_of
from ._problems import not_found
from ._rest import rest_router
from ._services import Paging, ProjectId, ServicesOf, profiles_kept

__all__ = ["router"]

logger = logging.getLogger("cdpbridge.server")

_CHANGEABLE: Final = frozenset({"name", "allowed_hosts", "denied_hosts"})

router = rest_router(
    "/profiles", tags=["Profiles"], route_class=FieldsRoute, dependencies=[Depends(profiles_kept)]
)


def _view(profile: store.Profile) -> Profile:
    return Profile(
        id=profile.id,
        name=profile.name,
        last_used_at=profile.last_used_at,
        created_at=profile.created_at,
        updated_at=profile.updated_at,
        cookie_domains=profile.cookie_domains,
        allowed_hosts=profile.allowed_hosts,
        denied_hosts=profile.denied_hosts,
    )


@router.get("")
async def list_profiles(
    services: ServicesOf,
    project_id: ProjectId,
    paging: Paging,
    query: Annotated[str | None, Query(max_length=100)] = None,
) -> Page[Profile]:
    """Get paginated list of profiles, newest first; with `query`, those with this in their name."""
    await services.rentals.profile_saved(project_id)
    found, total = await services.store.profiles(
        project_id, offset=paging.offset, limit=paging.size, query=query
    )
    items = [_view(profile) for profile in found]
    return Page[Profile](items=items, total_items=total, page_number=paging.number, page_size=paging.size)


@router.post("", status_code=201)
async def create_profile(
    services: ServicesOf, project_id: ProjectId, body: Annotated[ProfileCreateRequest | None, Body()] = None
) -> Profile:
    """Create an empty profile; 402 for a second one on the plan `free`, and above `max_profiles`."""
    limit = 1 if services.plan(project_id) == "free" else services.settings.max_profiles
    body = body or ProfileCreateRequest()
    hosts_of(body)
    profile = await services.store.create_profile(
        project_id,
        body.name,
        limit=limit,
        now=services.wall(),
        allowed_hosts=body.allowed_hosts,
        denied_hosts=body.denied_hosts,
    )
    return _view(profile)


@router.get("/{profile_id}")
async def get_profile(services: ServicesOf, project_id: ProjectId, profile_id: UUID) -> Profile:
    """Get profile details. While a browser that has stopped is being saved in it, they come after that."""
    await services.rentals.profile_saved(project_id, profile_id)
    profile = await services.store.profile(project_id, profile_id)
    if profile is None:
        raise not_found("Profile")
    return _view(profile)


@router.patch("/{profile_id}")
async def update_profile(
    services: ServicesOf, project_id: ProjectId, profile_id: UUID, body: ProfileUpdateRequest
) -> Profile:
    """Change a profile: its name, or its lists of hosts, for browsers that are created from then on. What is left out stays."""
    hosts_of(body)
    changes = {name: getattr(body, name) for name in body.model_fields_set & _CHANGEABLE}
    if not changes:
        return await get_profile(services, project_id, profile_id)
    profile = await services.store.update_profile(project_id, profile_id, changes, now=services.wall())
    if profile is None:
        raise not_found("Profile")
    return _view(profile)


@router.delete("/{profile_id}", status_code=204)
async def delete_profile(services: ServicesOf, project_id: ProjectId, profile_id: UUID) -> Response:
    """Permanently delete a profile; 204 also when there is none.

    A browser that uses it goes on with its own copy, and is not saved any more.
    """
    if await services.store.delete_profile(project_id, profile_id):
        try:
            await services.profiles.run(services.profiles.delete, profile_id)
        except ObjectStorageError as error:
            # Its row is deleted, so it is never used again, and swept.
            logger.warning("what profile %s has in the storage is removed later: %s", profile_id, error)
    return Response(status_code=204)
