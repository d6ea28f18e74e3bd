"""`UserPorts`: ports of this machine on which programs of our own user listen, closed to browsers like those of the server itself."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

__all__ = ["UserPorts"]

# proc_net_tcp(5): local address, state and uid are columns 1, 3 and 7.
_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENS: Final = "0A"
_FIELDS: Final = 8
# Each connection of each browser asks; a table has a line for each socket of the machine.
_KEPT_SECONDS: Final = 1.0


class UserPorts(set[int]):
    """A set of ports that has those as well on which any program of this process's user listens now.

    They are read from `/proc`, at most a second old; where there is none, it is the set alone.

    Args:
        ports: Others.
        clock: Seconds, monotonic.
    """

    def __init__(self, ports: Iterable[int] = (), *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(ports)
        self._clock = clock
        self._read_at: float | None = None
        self._listening: frozenset[int] = frozenset()

    def __contains__(self, port: object) -> bool:
        """Return True if browsers may not reach the port at an address of this machine."""
        if super().__contains__(port):
            return True
        now = self._clock()
        if self._read_at is None or now - self._read_at >= _KEPT_SECONDS:
            self._read_at, self._listening = now, _listening()
        return port in self._listening


def _listening() -> frozenset[int]:
    user = str(os.getuid())
    found = set()
    for table in _TABLES:
        try:
            lines = table.read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if len(fields) >= _FIELDS and fields[3] == _LISTENS and fields[7] == user:
                found.add(int(fields[1].rpartition(":")[2], 16))
    return frozenset(found)
