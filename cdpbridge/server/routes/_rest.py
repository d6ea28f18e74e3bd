"""What the routers of the REST API have in common."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Depends, Security
from fastapi.security import APIKeyHeader

from ._auth import KEY_HEADER
from ._services import BASE_PATH, own_rentals

__all__ = ["rest_router"]

# Authentication checks the key; this says so in the server's own OpenAPI document.
_KEY: Final = Security(APIKeyHeader(name=KEY_HEADER, scheme_name="BrowserUseApiKey", auto_error=False))

_OWN_RENTALS: Final = Depends(own_rentals)


def rest_router(path: str = "", **options: Any) -> APIRouter:
    """Return a router for what lies below `path` of the reference's base path; `options` are those of `APIRouter`.

    Its routes are complete as they are: an application takes them over in a moment, where `include_router` analyses each again.
    """
    dependencies = [_KEY, _OWN_RENTALS, *options.pop("dependencies", ())]
    return APIRouter(prefix=f"{BASE_PATH}{path}", dependencies=dependencies, **options)
