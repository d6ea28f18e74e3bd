"""What the processes of browsers use, from `/proc`, in one look for all browsers of a server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final

__all__ = ["Usage", "UsageReader"]

_PROC: Final = Path("/proc")
# A hundred browsers that are looked at in the same second cost one look.
_VALID_SECONDS: Final = 1.0
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@dataclass(frozen=True, slots=True)
class Usage:
    """What the processes of one browser use.

    Attributes:
        processes: How many there are.
        memory: Bytes of memory that belong to one of them alone. Libraries, and what they share with each other, are not in it.
    """

    processes: int = 0
    memory: int = 0


class UsageReader:
    """Reads what process groups use. Blocks; may be called from any thread."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._at = float("-inf")
        self._groups: dict[int, Usage] = {}

    def of_group(self, group: int) -> Usage:
        """Return the use of a process group, at most a second old; nothing for one without processes, or without `/proc`."""
        with self._lock:
            if self._clock() - self._at > _VALID_SECONDS:
                self._groups = _read()
                self._at = self._clock()
            return self._groups.get(group, Usage())


def _read() -> dict[int, Usage]:
    found: dict[int, Usage] = {}
    for name in os.listdir(_PROC) if _PROC.joinpath("self").exists() else ():  # noqa: PTH208  # names
        if not name.isdecimal():
            continue
        try:
            # The name of the program, in brackets, may have any letters.
            state, _, number, *_ = (_PROC / name / "stat").read_bytes().rpartition(b")")[2].split()
            _, resident, shared, *_ = (_PROC / name / "statm").read_bytes().split()
        except (OSError, ValueError, IndexError):  # it ended meanwhile
            continue
        if state == b"Z":  # it has ended, and its parent has not looked yet
            continue
        group = int(number)
        before = found.get(group, Usage())
        memory = max(0, int(resident) - int(shared)) * _PAGE_BYTES
        found[group] = Usage(before.processes + 1, before.memory + memory)
    return found
