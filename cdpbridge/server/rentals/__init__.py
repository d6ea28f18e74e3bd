"""Rentals of the server: started, recovered, charged, stopped."""

from __future__ import annotations

from ._machine import Machine
from ._order import Order
from ._pressure import Pressure
from ._rentals import ClientGone, KeyReused, Rentals, StartWithdrawn, utc_now

__all__ = ["ClientGone", "KeyReused", "Machine", "Order", "Pressure", "Rentals", "StartWithdrawn", "utc_now"]
