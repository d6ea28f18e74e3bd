"""Hosted browsers: rent one, drive it over CDP or Playwright, stop it, and get the unused minutes back."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from cdpbridge._version import __version__

if TYPE_CHECKING:
    from cdpbridge import api as api
    from cdpbridge import cdp, errors, playwright, protocol, sync
    from cdpbridge import profile_sync as profile_sync
    from cdpbridge import tunnel as tunnel
    from cdpbridge.api import (
        Account,
        AsyncClient,
        BrowserSession,
        Client,
        Profile,
        ServerDefault,
        server_default,
    )
    from cdpbridge.billing import Receipt, Tariff, forecast
    from cdpbridge.browser import Browser, Tab, open_browser
    from cdpbridge.errors import CDPBridgeError
    from cdpbridge.pool import BrowserPool
    from cdpbridge.providers import at, cloud, local
    from cdpbridge.rental import Budget, Journal, ReapResult, RentalOptions, reap

__all__ = [
    "Account",
    "AsyncClient",
    "Browser",
    "BrowserPool",
    "BrowserSession",
    "Budget",
    "CDPBridgeError",
    "Client",
    "Journal",
    "Profile",
    "ReapResult",
    "Receipt",
    "RentalOptions",
    "ServerDefault",
    "Tab",
    "Tariff",
    "__version__",
    "at",
    "cdp",
    "cloud",
    "errors",
    "forecast",
    "local",
    "open_browser",
    "playwright",
    "protocol",
    "reap",
    "server_default",
    "sync",
]

# Loaded on first use: a program that needs only the CDP client does not load the HTTP client, and the other way round.
_HOMES: Final = {
    "Account": "api",
    "AsyncClient": "api",
    "Browser": "browser",
    "BrowserPool": "pool",
    "BrowserSession": "api",
    "Budget": "rental",
    "CDPBridgeError": "errors",
    "Journal": "rental",
    "Client": "api",
    "Profile": "api",
    "ReapResult": "rental",
    "Receipt": "billing",
    "RentalOptions": "rental",
    "ServerDefault": "api",
    "Tab": "browser",
    "Tariff": "billing",
    "at": "providers",
    "cloud": "providers",
    "forecast": "billing",
    "local": "providers",
    "open_browser": "browser",
    "reap": "rental",
    "server_default": "api",
}
# Every public module, so that `cdpbridge.tunnel` needs no import of its own.
_MODULES: Final = (
    "api",
    "attack",
    "billing",
    "browser",
    "cdp",
    "chromium",
    "cli",
    "errors",
    "integrations",
    "isolation",
    "playwright",
    "pool",
    "profile_sync",
    "protocol",
    "providers",
    "pytest_plugin",
    "rental",
    "server",
    "sync",
    "testing",
    "tunnel",
)


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
