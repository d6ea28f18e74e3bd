"""Whether browsers can run on this machine, before anything of the server is imported."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from cdpbridge.errors import ConfigurationError

__all__ = ["check_installed"]


def check_installed() -> None:
    """Raise ConfigurationError unless browsers can run here: on Linux or macOS, with the packages of the extra `local`."""
    if sys.platform == "win32":
        raise ConfigurationError(
            "browsers on this machine need Linux or macOS; on Windows, run the server in WSL, or use one elsewhere: "
            "at(base_url, api_key), or CDPBRIDGE_BASE_URL"
        )
    missing = [
        name for name in ("fastapi", "sqlalchemy", "uvicorn", "pydantic_settings") if find_spec(name) is None
    ]
    if missing:
        raise ConfigurationError(
            f"browsers on this machine need more packages ({', '.join(missing)}): pip install 'cdpbridge[local]'"
        )
