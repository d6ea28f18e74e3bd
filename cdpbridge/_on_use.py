"""`ModuleOnUse`: a module that is imported when the first of its names is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["ModuleOnUse"]


class ModuleOnUse:
    """Stands for a module whose import takes long.

    Type checkers see the module:

        if TYPE_CHECKING:
            import httpx
        else:
            httpx = ModuleOnUse("httpx")

    Args:
        name: Of the module, with its packages.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._name), name)
