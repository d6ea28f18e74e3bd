"""Saved browser state: snapshots of user data folders, and cookies taken out of and put into a running browser."""

from __future__ import annotations

from cdpbridge.cdp._cookies import CookieId, CookieReport, export_cookies, import_cookies

from ._archives import Archives, is_archive, writer_of
from ._contents import COOKIE_DATABASES
from ._exchange import receive_version, send_version
from ._store import ProfileStore
from ._untrusted import Hostile, open_plain, read_plain, read_table
from ._versions import (
    NO_VERSION,
    ProfileNotRestored,
    ProfileRefused,
    ProfileTooBig,
    ProfileVersion,
    SavedProfile,
)

__all__ = [
    "COOKIE_DATABASES",
    "NO_VERSION",
    "Archives",
    "CookieId",
    "CookieReport",
    "Hostile",
    "ProfileNotRestored",
    "ProfileRefused",
    "ProfileStore",
    "ProfileTooBig",
    "ProfileVersion",
    "SavedProfile",
    "export_cookies",
    "import_cookies",
    "is_archive",
    "open_plain",
    "read_plain",
    "read_table",
    "receive_version",
    "send_version",
    "writer_of",
]
