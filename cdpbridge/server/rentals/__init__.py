"""Rentals of the server: started, recovered, charged, stopped."""

from __future__ import annotations

from ._elsewhere import OwnerSilent
from ._order import Order
from ._pressure import Pressure
from ._rental import OnEnd
from ._rentals import Rentals, utc_now
from ._starts import ClientLeft, KeyReused, StartWithdrawn

__all__ = [
    "ClientLeft",
    "KeyReused",
    "OnEnd",
    "Order",
    "OwnerSilent",
    "Pressure",
    "Rentals",
    "StartWithdrawn",
    "utc_now",
]
