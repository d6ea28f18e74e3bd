"""The REST API, one file per tag of the reference."""

from __future__ import annotations

from ._auth import KEY_HEADER, Authentication
from ._problems import install_problems
from ._router import BASE_PATH, api_router
from ._services import Services, external_base

__all__ = [
    "BASE_PATH",
    "KEY_HEADER",
    "Authentication",
    "Services",
    "api_router",
    "external_base",
    "install_problems",
]
