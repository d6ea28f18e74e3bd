"""Rent a browser: from the order to the confirmed stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdpbridge._on_use import names_on_use

if TYPE_CHECKING:
    from ._budget import Budget
    from ._options import RentalOptions
    from ._reap import ReapOutcome, ReapResult, reap
    from ._rental import Rental
    from .journal import Journal

__all__ = ["Budget", "Journal", "ReapOutcome", "ReapResult", "Rental", "RentalOptions", "reap"]

# Loaded on first use: what checks an order does not need what carries it out.
_HOMES: Final = {
    "Budget": "_budget",
    "Journal": "journal",
    "ReapOutcome": "_reap",
    "ReapResult": "_reap",
    "Rental": "_rental",
    "RentalOptions": "_options",
    "reap": "_reap",
}

__getattr__ = names_on_use(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
