"""Projects, API keys and credits, and what the operator changes about them."""

from __future__ import annotations

from ._accounts import AccountRefused, Accounts, Identity, Program, new_key
from ._offline import offline_accounts

__all__ = ["AccountRefused", "Accounts", "Identity", "Program", "new_key", "offline_accounts"]
