"""Capacity for one more browser. What `/pressure` says is what an order meets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from cdpbridge.errors import BrowserStartFailed
from cdpbridge.server.limits import Connections, Machine, read_machine, strain
from cdpbridge.server.settings import Settings

__all__ = ["Pressure"]

_MIB: Final = 1 << 20


class Pressure:
    """The machine, against the settings' limits.

    Args:
        settings: Of the server.
        connections: Of the server.
        free_disk: Called when the disk is short: removes what no rental needs, and returns True if there was some.
    """

    def __init__(
        self,
        settings: Settings,
        connections: Connections,
        free_disk: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self._settings = settings
        self._connections = connections
        self._free_disk = free_disk

    def machine(self) -> Machine:
        """Return the machine as it is now."""
        return read_machine(self._settings.data_dir, self._settings.runtime_folder)

    def problem(self, machine: Machine) -> tuple[str, str] | None:
        """See `strain`; `descriptors` when too few are left."""
        settings = self._settings
        descriptors = self._connections.problem()
        if descriptors is not None:
            return "descriptors", descriptors
        return strain(
            machine,
            max_load=settings.max_load_per_cpu,
            min_memory=settings.min_free_memory_mb * _MIB,
            min_disk=settings.min_free_disk_mb * _MIB,
        )

    def reason(self) -> str | None:
        """Return the word of the problem that the machine has now; None when it has none."""
        problem = self.problem(self.machine())
        return None if problem is None else problem[0]

    async def check(self, release: Callable[[], Awaitable[bool]], *, takes_ready: Callable[[], bool]) -> None:
        """Before an order is taken.

        Args:
            release: Called when memory is short: frees what no rental needs, and returns True if there was some.
            takes_ready: Called when memory is short: True if the order takes a browser that runs already, and needs no more.

        Raises:
            BrowserStartFailed: There is no capacity.
        """
        problem = self.problem(self.machine())
        if problem is not None and problem[0] == "memory" and takes_ready():
            return
        if problem is not None and problem[0] == "memory" and await release():
            problem = self.problem(self.machine())
        if problem is not None and problem[0] == "disk" and self._free_disk and await self._free_disk():
            problem = self.problem(self.machine())
        if problem is not None:
            raise BrowserStartFailed(
                f"the server has no capacity for another browser: {problem[1]}; try again later"
            )
