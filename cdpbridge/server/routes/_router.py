"""All routes under the reference's base path."""

from __future__ import annotations

from typing import Final

from starlette.routing import BaseRoute

from ._absent import router as absent
from ._billing import router as billing
from ._browsers import router as browsers
from ._files import router as files
from ._profiles import router as profiles
from ._sessions import router as sessions
from ._tasks import router as tasks

__all__ = ["REST_ROUTES"]

REST_ROUTES: Final[list[BaseRoute]] = [
    route
    for router in (billing, tasks, sessions, files, profiles, browsers, absent)
    for route in router.routes
]
