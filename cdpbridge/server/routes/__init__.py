"""The REST API, one file per tag of the reference."""

from __future__ import annotations

from ._addresses import FILES_PATH, signed_path
from ._admin import router as admin_routes
from ._auth import KEY_HEADER, Authentication
from ._files import public_router as public_files
from ._front import KnownHost, SafeHeaders
from ._health import Timing
from ._health import router as health
from ._problems import install_problems
from ._profile_script import profile_script
from ._router import REST_ROUTES
from ._services import BASE_PATH, Services, external_base

__all__ = [
    "BASE_PATH",
    "FILES_PATH",
    "KEY_HEADER",
    "REST_ROUTES",
    "Authentication",
    "KnownHost",
    "SafeHeaders",
    "Services",
    "Timing",
    "admin_routes",
    "external_base",
    "health",
    "install_problems",
    "profile_script",
    "public_files",
    "signed_path",
]
