"""Recordings: what the live view shows of a browser, as a video and as stills."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ._folder import video_path
    from ._recordings import Recordings

__all__ = ["Recordings", "video_path"]

# Loaded on first use: few servers record.
_HOMES: Final = {
    "Recordings": "_recordings",
    "video_path": "_folder",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
