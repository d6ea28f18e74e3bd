"""All routes under the reference's base path."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final

from starlette.routing import BaseRoute

from ._services import BASE_PATH

__all__ = ["REST_MODULES", "rest_paths", "routes_of"]

REST_MODULES: Final[Mapping[str, tuple[str, ...]]] = {
    "_billing": ("billing",),
    "_tasks": ("tasks",),
    "_sessions": ("sessions",),
    "_files": ("files",),
    "_profiles": ("profiles",),
    "_browsers": ("browsers",),
    "_absent": ("skills", "marketplace"),
}
"""Modules of this package in the order of the reference, with the first words of their paths below the base path."""


def routes_of(module: str, router: str = "router") -> list[BaseRoute]:
    """Import a module of this package and return the routes of its router."""
    routes: list[BaseRoute] = getattr(import_module(f"{__package__}.{module}"), router).routes
    return routes


def rest_paths(module: str) -> tuple[str, ...]:
    """Return the paths of a module of `REST_MODULES`."""
    return tuple(f"{BASE_PATH}/{word}" for word in REST_MODULES[module])
