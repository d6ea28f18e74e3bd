"""What the server remembers: projects, keys, profiles, browsers, and a ledger that is only ever added to."""

from __future__ import annotations

from ._models import Browser, LedgerEntry, Profile, Project
from ._money import LedgerKind, from_micro_usd, to_micro_usd
from ._store import (
    Account,
    AdmissionRefused,
    InsufficientCredits,
    Settlement,
    Store,
    TooManyBrowsers,
    key_hash_of,
)

__all__ = [
    "Account",
    "AdmissionRefused",
    "Browser",
    "InsufficientCredits",
    "LedgerEntry",
    "LedgerKind",
    "Profile",
    "Project",
    "Settlement",
    "Store",
    "TooManyBrowsers",
    "from_micro_usd",
    "key_hash_of",
    "to_micro_usd",
]
