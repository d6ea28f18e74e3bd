"""All routes under the reference's base path."""

from __future__ import annotations

from fastapi import APIRouter, Security
from fastapi.security import APIKeyHeader

from ._absent import router as absent
from ._auth import KEY_HEADER
from ._billing import router as billing
from ._browsers import router as browsers
from ._files import public_router as public_files
from ._files import router as files
from ._profiles import router as profiles
from ._services import BASE_PATH
from ._sessions import router as sessions
from ._tasks import router as tasks

__all__ = ["api_router", "public_files"]

# Authentication checks the key; this says so in the server's own OpenAPI document.
_key = APIKeyHeader(name=KEY_HEADER, scheme_name="BrowserUseApiKey", auto_error=False)


def api_router() -> APIRouter:
    """Return the REST API."""
    router = APIRouter(prefix=BASE_PATH, dependencies=[Security(_key)])
    for part in (billing, tasks, sessions, files, profiles, browsers, absent):
        router.include_router(part)
    return router
