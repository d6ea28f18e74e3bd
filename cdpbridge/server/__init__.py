"""The REST API over Chromium on this machine."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ._app import create_app
    from ._log import log_to_stderr
    from ._serve import serve, serving
    from .accounts import offline_accounts
    from .data_dir import ServerRuns, read_operator_file
    from .settings import Settings, settings_table

__all__ = [
    "ServerRuns",
    "Settings",
    "create_app",
    "log_to_stderr",
    "offline_accounts",
    "read_operator_file",
    "serve",
    "serving",
    "settings_table",
]

# Loaded on first use: a part of the server, e.g. its proxy, does not need the web framework and the database.
_HOMES: Final = {
    "ServerRuns": "data_dir",
    "Settings": "settings",
    "create_app": "_app",
    "log_to_stderr": "_log",
    "offline_accounts": "accounts",
    "read_operator_file": "data_dir",
    "serve": "_serve",
    "serving": "_serve",
    "settings_table": "settings",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
