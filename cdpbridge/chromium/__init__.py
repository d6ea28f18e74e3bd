"""A Chromium process on this machine: found, started, watched, and ended without leaving anything behind."""

from __future__ import annotations

from ._find import Build, Kind, find
from ._folders import remove_tree
from ._process import SCRATCH_PATH_BYTES, Chromium

__all__ = ["SCRATCH_PATH_BYTES", "Build", "Chromium", "Kind", "find", "remove_tree"]
