"""Browsers on other machines: the worker's program, and `WorkerHosts`, which a server uses it with."""

from __future__ import annotations

from ._slots import NoFreeSlot, Slots, WorkerAddress
from ._store_slots import StoreSlots

__all__ = ["NoFreeSlot", "Slots", "StoreSlots", "WorkerAddress"]
