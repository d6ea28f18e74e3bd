"""Saved browser state: snapshots of user data folders, and cookies taken out of and put into a running browser."""

from __future__ import annotations

from cdpbridge.cdp._cookies import CookieId, CookieReport, export_cookies, import_cookies

from ._archives import Archives, writer_of
from ._store import (
    COOKIE_DATABASES,
    NO_VERSION,
    ProfileNotRestored,
    ProfileRefused,
    ProfileStore,
    ProfileTooBig,
    ProfileVersion,
    SavedProfile,
)
from ._untrusted import Hostile, open_plain, read_plain, read_table

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
    "open_plain",
    "read_plain",
    "read_table",
    "writer_of",
]
