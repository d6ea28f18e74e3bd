"""A Chromium process on this machine: found, started, watched, and ended without leaving anything behind."""

from __future__ import annotations

from ._find import Build, Kind, find
from ._folders import remove_tree, scratch_parent
from ._isolation import Isolation, look
from ._launcher import Launcher
from ._ownership import check_executable_by, closed_to, give, lend, make_reachable_folder
from ._process import Chromium
from ._program import STANDARD_STREAMS, IsolatedProgram
from ._uid_ranges import parse_uid_range, uses_browser_uids
from ._uids import STATE_FOLDER, BrowserUid, UidPool

__all__ = [
    "STANDARD_STREAMS",
    "STATE_FOLDER",
    "BrowserUid",
    "Build",
    "Chromium",
    "IsolatedProgram",
    "Isolation",
    "Kind",
    "Launcher",
    "UidPool",
    "check_executable_by",
    "closed_to",
    "find",
    "give",
    "lend",
    "look",
    "make_reachable_folder",
    "parse_uid_range",
    "remove_tree",
    "scratch_parent",
    "uses_browser_uids",
]
