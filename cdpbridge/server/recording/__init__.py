"""Recordings: what the live view shows of a browser, as a video and as stills."""

from __future__ import annotations

from ._recordings import Recordings, video_path

__all__ = ["Recordings", "video_path"]
