"""Logins of a browser on this machine into a hosted profile, and profiles as portable files. No value is ever shown."""

from __future__ import annotations

from cdpbridge.profile_sync._domains import select
from cdpbridge.profile_sync._firefox import firefox_cookies
from cdpbridge.profile_sync._formats import GivenState, read_state
from cdpbridge.profile_sync._local import LocalState, read_local
from cdpbridge.profile_sync._places import LocalProfile, installed_profiles
from cdpbridge.profile_sync._state import StateReport, export_state, import_state
from cdpbridge.profile_sync._sync import SyncReport, sync, sync_state

__all__ = [
    "GivenState",
    "LocalProfile",
    "LocalState",
    "StateReport",
    "SyncReport",
    "export_state",
    "firefox_cookies",
    "import_state",
    "installed_profiles",
    "read_local",
    "read_state",
    "select",
    "sync",
    "sync_state",
]
