"""httpx, imported by the first request: a program that starts the embedded server imports it while the server starts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from cdpbridge._on_use import ModuleOnUse

__all__ = ["httpx"]

_COMMAND: Final = "httpx._main"


class _Httpx(ModuleOnUse):
    """httpx without its command line, which imports click, rich and pygments where they are installed: a sixth of all imports."""

    def __getattr__(self, name: str) -> Any:
        if "httpx" not in sys.modules:
            _import_without_command()
        return super().__getattr__(name)


def _import_without_command() -> None:
    # httpx gets an ImportError for it, as where click is not installed, and goes on without.
    sys.modules.setdefault(_COMMAND, None)  # type: ignore[arg-type]
    try:
        import httpx as found  # noqa: PLC0415  # on use
    finally:
        if sys.modules.get(_COMMAND) is None:
            sys.modules.pop(_COMMAND, None)
    if _COMMAND not in sys.modules:
        found.main = _command  # type: ignore[assignment]


def _command(*arguments: Any, **options: Any) -> Any:
    """Run the command line of httpx, for a program that calls `httpx.main`."""
    from httpx._main import main  # noqa: PLC0415  # on use

    return main(*arguments, **options)


if TYPE_CHECKING:
    import httpx
else:
    httpx = _Httpx("httpx")
