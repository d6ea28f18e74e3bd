"""What `WorkerHosts` asks of the books: which workers there are, and who has a slot for a browser."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from cdpbridge.server.hosts import NoFreeSlot

__all__ = ["NoFreeSlot", "Slots", "WorkerAddress"]


@dataclass(frozen=True, slots=True)
class WorkerAddress:
    """A worker.

    Attributes:
        id: Of this run of its program: one that was started again, at the same address too, is another worker.
        address: `host:port` of its one port.
        slots: How many browsers it runs at once.
        tls: Its port speaks TLS.
    """

    id: UUID
    address: str
    slots: int
    tls: bool = False


class Slots(Protocol):
    """The workers that are known, and their slots."""

    async def reserve(self, browser_id: UUID) -> WorkerAddress:
        """Take a slot for a browser, and return its worker.

        Raises:
            NoFreeSlot: There is none.
        """

    async def free(self, browser_id: UUID) -> None:
        """Give the slot of a browser back; nothing happens when it has none."""

    async def worker(self, worker_id: UUID) -> WorkerAddress | None:
        """Return a worker; None when it is not known, or not any more."""

    async def workers(self) -> Collection[WorkerAddress]:
        """Return all workers that are known, those too that take no more browsers."""

    async def note(self, worker_id: UUID, problem: str | None) -> None:
        """Note for people why this server does not reach a worker; None when it does."""
