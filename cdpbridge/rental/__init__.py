"""Rent a browser: from the order to the confirmed stop."""

from __future__ import annotations

from ._budget import Budget
from ._reap import Reaped, ReapedHow, reap
from ._rental import Order, Rental
from .journal import Journal

__all__ = ["Budget", "Journal", "Order", "Reaped", "ReapedHow", "Rental", "reap"]
