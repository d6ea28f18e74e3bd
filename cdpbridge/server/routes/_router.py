"""All routes under the reference's base path."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Security
from fastapi.security import APIKeyHeader

from ._auth import KEY_HEADER
from ._billing import router as billing
from ._browsers import router as browsers
from ._profiles import router as profiles

__all__ = ["BASE_PATH", "api_router"]

BASE_PATH: Final = "/api/v2"

# Authentication checks the key; this says so in the server's own OpenAPI document.
_key = APIKeyHeader(name=KEY_HEADER, scheme_name="BrowserUseApiKey", auto_error=False)


def api_router() -> APIRouter:
    """The REST API."""
    router = APIRouter(prefix=BASE_PATH, dependencies=[Security(_key)])
    for part in (billing, profiles, browsers):
        router.include_router(part)
    return router
