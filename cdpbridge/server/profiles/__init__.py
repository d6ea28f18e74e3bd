"""Saved browser state: snapshots of user data folders, and cookies taken out of and put into a running browser."""

from __future__ import annotations

from cdpbridge.cdp._cookies import CookieId, CookieReport, export_cookies, import_cookies

from ._store import COOKIE_DATABASES, ProfileRefused, ProfileStore, ProfileTooBig, SavedProfile
from ._untrusted import Hostile, open_plain, read_plain, read_table

__all__ = [
    "COOKIE_DATABASES",
    "CookieId",
    "CookieReport",
    "Hostile",
    "ProfileRefused",
    "ProfileStore",
    "ProfileTooBig",
    "SavedProfile",
    "export_cookies",
    "import_cookies",
    "open_plain",
    "read_plain",
    "read_table",
]
