"""Recordings: what the live view shows of a browser, as a video and as stills."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdpbridge._on_use import names_on_use

if TYPE_CHECKING:
    from ._folder import unfinished_in, video_path
    from ._recordings import Recordings

__all__ = ["Recordings", "unfinished_in", "video_path"]

# Loaded on first use: few servers record.
_HOMES: Final = {
    "Recordings": "_recordings",
    "unfinished_in": "_folder",
    "video_path": "_folder",
}

__getattr__ = names_on_use(__name__, _HOMES)
