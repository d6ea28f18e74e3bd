"""Cookies of a browser on this machine into a hosted profile, and profiles as portable files. No value is ever shown."""

from __future__ import annotations

from cdpbridge.profile_sync._firefox import firefox_cookies
from cdpbridge.profile_sync._local import LocalCookies, read_local
from cdpbridge.profile_sync._state import StateReport, export_state, import_state
from cdpbridge.profile_sync._sync import SyncReport, select, sync

__all__ = [
    "LocalCookies",
    "StateReport",
    "SyncReport",
    "export_state",
    "firefox_cookies",
    "import_state",
    "read_local",
    "select",
    "sync",
]
