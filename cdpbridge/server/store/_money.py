"""Money in the database: whole millionths of a USD, so that every database adds it exactly."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Final

from cdpbridge.billing import round_money

__all__ = ["AT_THE_START", "TOP_UP", "LedgerKind", "from_micro_usd", "to_micro_usd"]

_MICRO: Final = 1_000_000


class LedgerKind(StrEnum):
    """The kind of a ledger entry. Grants and refunds are positive, charges negative."""

    GRANT = "grant"
    CHARGE = "charge"
    REFUND = "refund"


AT_THE_START: Final = "start"
"""Ledger entry of the credits that every new project gets."""
TOP_UP: Final = "simulated credits"
"""Ledger entry of credits that are granted because they were used up."""


def to_micro_usd(amount: Decimal) -> int:
    """`amount` in millionths of a USD, rounded once, half to even."""
    return int(round_money(amount) * _MICRO)


def from_micro_usd(amount: int) -> Decimal:
    """Return the exact amount in USD."""
    return Decimal(amount) / _MICRO
