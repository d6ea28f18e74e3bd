"""Rent a browser: from the order to the confirmed stop."""

from __future__ import annotations

from ._budget import Budget
from ._options import RentalOptions
from ._reap import ReapOutcome, ReapResult, reap
from ._rental import Rental
from .journal import Journal

__all__ = ["Budget", "Journal", "ReapOutcome", "ReapResult", "Rental", "RentalOptions", "reap"]
