"""Browsers on other machines: the worker's program, and `WorkerHosts`, which a server uses it with."""

from __future__ import annotations

from ._browsers import WorkerLimits
from ._hosts import WorkerHosts
from ._link import LinkLimits
from ._program import WorkerOptions, run_worker
from ._slots import NoFreeSlot, Slots, WorkerAddress
from ._store_slots import StoreSlots
from ._tls import ServerTls

__all__ = [
    "LinkLimits",
    "NoFreeSlot",
    "ServerTls",
    "Slots",
    "StoreSlots",
    "WorkerAddress",
    "WorkerHosts",
    "WorkerLimits",
    "WorkerOptions",
    "run_worker",
]
