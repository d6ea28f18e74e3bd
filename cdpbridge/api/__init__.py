"""Client of the Browser Use Cloud API v2, for the cloud and for every server that speaks it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ._async import DEFAULT_BASE_URL, AsyncClient
    from ._calls import Call, ServerChoice, server_default
    from ._models import (
        PROXY_COUNTRY_CODES,
        Account,
        BrowserSession,
        BrowserSessionStatus,
        Page,
        PlanInfo,
        Profile,
    )
    from ._pages import AsyncPages

__all__ = [
    "DEFAULT_BASE_URL",
    "PROXY_COUNTRY_CODES",
    "Account",
    "AsyncClient",
    "AsyncPages",
    "BrowserSession",
    "BrowserSessionStatus",
    "Call",
    "Page",
    "PlanInfo",
    "Profile",
    "ServerChoice",
    "server_default",
]

# Loaded on first use: the embedded server needs the models and no HTTP client.
_HOMES: Final = {
    "DEFAULT_BASE_URL": "_async",
    "AsyncClient": "_async",
    "AsyncPages": "_pages",
    "Call": "_calls",
    "ServerChoice": "_calls",
    "server_default": "_calls",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, '_models')}"), name)
