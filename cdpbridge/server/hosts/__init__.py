"""Where rented browsers run: this machine now, a cluster later, behind one protocol."""

from __future__ import annotations

from ._base import BrowserHosts, BrowserSpec, Goodbye, Leftover, Placement, SavedState, StopReport
from ._builds import Builds
from ._local import LocalHosts

__all__ = [
    "BrowserHosts",
    "BrowserSpec",
    "Builds",
    "Goodbye",
    "Leftover",
    "LocalHosts",
    "Placement",
    "SavedState",
    "StopReport",
]
