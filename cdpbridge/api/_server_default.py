"""`server_default`: an argument that is left out of the request. A file of its own: options are checked before models are loaded."""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["ServerDefault", "server_default"]


class ServerDefault(Enum):
    """The type of `server_default`."""

    SERVER_DEFAULT = "server_default"

    def __repr__(self) -> str:
        return "server_default"


server_default: Final = ServerDefault.SERVER_DEFAULT
"""As an argument: left out of the request, so that the server chooses. None is an answer of its own."""
