"""Rentals of the server: started, recovered, charged, stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdpbridge._on_use import names_on_use

if TYPE_CHECKING:
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

# Loaded on first use: what looks at the machine needs no database.
_HOMES: Final = {
    "ClientLeft": "_starts",
    "KeyReused": "_starts",
    "OnEnd": "_rental",
    "Order": "_order",
    "OwnerSilent": "_elsewhere",
    "Pressure": "_pressure",
    "Rentals": "_rentals",
    "StartWithdrawn": "_starts",
    "utc_now": "_rentals",
}

__getattr__ = names_on_use(__name__, _HOMES)
