"""Calls of `/billing`."""

from __future__ import annotations

from cdpbridge.api._models import Account

from ._base import Call

__all__ = ["get_account"]


def get_account() -> Call[Account]:
    """Build `GET /billing/account`."""
    return Call("GET", "/billing/account", Account)
