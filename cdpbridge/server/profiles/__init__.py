"""Saved browser state: snapshots of user data folders, and cookies taken out of and put into a running browser."""

from __future__ import annotations

from cdpbridge._cookies import CookieId, CookieReport, export_cookies, import_cookies

from ._store import COOKIE_DATABASES, ProfileStore, ProfileTooBig, SavedProfile

__all__ = [
    "COOKIE_DATABASES",
    "CookieId",
    "CookieReport",
    "ProfileStore",
    "ProfileTooBig",
    "SavedProfile",
    "export_cookies",
    "import_cookies",
]
