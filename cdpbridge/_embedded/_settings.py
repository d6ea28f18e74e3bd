"""The settings that a program gives its server: arguments of `local()` and variables of its environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cdpbridge._environment import PREFIX, SERVER_SETTINGS, check_variables
from cdpbridge.errors import ConfigurationError

__all__ = ["FIXED_VARIABLES", "VARIABLES", "check_settings", "program_settings", "program_variables"]

# Where and for whom it serves is ours to say.
_FIXED: Final = ("host", "port", "public_url", "api_keys")
FIXED_VARIABLES: Final = frozenset(f"{PREFIX}{name.upper()}" for name in _FIXED)
"""Variables that no server of `local()` reads."""
VARIABLES: Final = frozenset(f"{PREFIX}{name.upper()}" for name in (*SERVER_SETTINGS, "config"))
"""Variables that are settings of a server."""


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise ConfigurationError for settings that `local()` chooses itself."""
    ours = [name for name in _FIXED if name in settings]
    if ours:
        raise ConfigurationError(
            f"local() chooses {', '.join(ours)} itself; to choose, run `cdpbridge serve` and use at(base_url, api_key)"
        )


def program_variables() -> dict[str, str]:
    """Return the variables of this program that are settings of its server."""
    check_variables(os.environ)
    return {
        name: str(Path(value).absolute()) if name.upper() == f"{PREFIX}CONFIG" and value else value
        for name, value in os.environ.items()
        if name.upper() in VARIABLES - FIXED_VARIABLES
    }


def program_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a program gives a server, which works in another folder: its paths are absolute.

    Those by which isolated browsers see what a program and its user expect of browsers on their machine are added.
    """
    try:
        here = {"working_dir": str(Path.cwd())}
    except FileNotFoundError:  # it has been removed
        here = {}
    given = {
        name: str(_absolute(value)) if isinstance(value, Path) else value for name, value in settings.items()
    }
    for name in ("config", "working_dir"):
        if name in given:
            given[name] = str(_absolute(Path(given[name])))
    if "files" in given:
        given["files"] = [str(_absolute(Path(each))) for each in given["files"]]
    return {**here, "user_fonts_and_certificates": True} | given


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()
