"""Hosts of rented browsers, behind one protocol: this machine."""

from __future__ import annotations

from ._base import (
    BrowserHosts,
    BrowserSpec,
    CloseFrame,
    Leftover,
    Limit,
    Placement,
    Rest,
    SavedState,
    StopReport,
    UnfinishedStop,
)
from ._browser_uids import prepare_uids
from ._builds import Builds
from ._cgroups import CgroupPool, find_cgroups
from ._folders import saved_before
from ._isolation import Isolator, Prepared, prepare_isolation
from ._local import LocalHosts
from ._logins import ContextKeeper
from ._options import BrowserOptions
from ._readable import hidden_folders, readable_paths
from ._turns import NoFreeSlot
from ._usage import UsageReader

__all__ = [
    "BrowserHosts",
    "BrowserOptions",
    "BrowserSpec",
    "Builds",
    "CgroupPool",
    "CloseFrame",
    "ContextKeeper",
    "Isolator",
    "Leftover",
    "Limit",
    "LocalHosts",
    "NoFreeSlot",
    "Placement",
    "Prepared",
    "Rest",
    "SavedState",
    "StopReport",
    "UnfinishedStop",
    "UsageReader",
    "find_cgroups",
    "hidden_folders",
    "prepare_isolation",
    "prepare_uids",
    "readable_paths",
    "saved_before",
]
