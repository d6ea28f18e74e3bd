"""`/skills` and `/marketplace`: parts of the cloud that are a service of its own, and not here."""

from __future__ import annotations

from typing import Final

from fastapi import HTTPException

from ._rest import rest_router
from ._services import ProjectId

__all__ = ["router"]

router = rest_router(include_in_schema=False)

_METHODS: Final = ["GET", "POST", "PUT", "PATCH", "DELETE"]


@router.api_route("/skills", methods=_METHODS)
@router.api_route("/skills/{rest:path}", methods=_METHODS)
@router.api_route("/marketplace", methods=_METHODS)
@router.api_route("/marketplace/{rest:path}", methods=_METHODS)
async def absent(project_id: ProjectId) -> None:  # noqa: ARG001  # for those with a key
    raise HTTPException(
        501, "Skills and the marketplace exist on the Browser Use Cloud only, not on this server"
    )
