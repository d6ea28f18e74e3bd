"""The REST API over Chromium on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdpbridge._on_use import names_on_use

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

__getattr__ = names_on_use(__name__, _HOMES)
