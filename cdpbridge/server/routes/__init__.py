"""The REST API, one file per tag of the reference. Files with routes are loaded by their first request; see `_router`."""

from __future__ import annotations

from ._addresses import DOWNLOAD_AGE, FILES_PATH, signed_path
from ._auth import KEY_HEADER, Authentication
from ._front import KnownHost, SafeHeaders
from ._problems import install_problems
from ._router import REST_MODULES, rest_paths, routes_of
from ._services import BASE_PATH, Services, external_base
from ._timing import Timing

__all__ = [
    "BASE_PATH",
    "DOWNLOAD_AGE",
    "FILES_PATH",
    "KEY_HEADER",
    "REST_MODULES",
    "Authentication",
    "KnownHost",
    "SafeHeaders",
    "Services",
    "Timing",
    "external_base",
    "install_problems",
    "rest_paths",
    "routes_of",
    "signed_path",
]
