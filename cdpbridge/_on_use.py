"""Modules that are imported when the first of their names is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["ModuleOnUse", "names_on_use"]


def names_on_use(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package whose names are imported on use.

    Args:
        package: Its `__name__`.
        homes: Name -> the module below the package that has it; with a dot in front, beside the package.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f".{homes[name]}", package), name)

    return find


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
