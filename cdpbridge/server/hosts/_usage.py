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
# A hundred browsers that are looked at in the same time cost one look.
_VALID_SECONDS: Final = 1.0
_MOST_BYTES: Final = 4096
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
    """Reads what process groups use. May be called from any thread.

    Args:
        valid_seconds: How long one look serves; it reads two files of every process of the machine.
        clock: Monotonic, seconds.
    """

    def __init__(
        self, *, valid_seconds: float = _VALID_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._valid_seconds = valid_seconds
        self._clock = clock
        self._lock = Lock()
        self._at = float("-inf")
        self._groups: dict[int, Usage] = {}

    def of_group(self, group: int) -> Usage:
        """Return the use of a process group; nothing for one without processes, or without `/proc`. Blocks for a look."""
        with self._lock:
            if not self._is_valid:
                self._groups = _read()
                self._at = self._clock()
            return self._groups.get(group, Usage())

    def known(self, group: int) -> Usage | None:
        """Return what the last look has found of a process group, without blocking; None when another one is due."""
        return self._groups.get(group) if self._is_valid else None

    @property
    def _is_valid(self) -> bool:
        return self._clock() - self._at <= self._valid_seconds


def _read() -> dict[int, Usage]:
    found: dict[int, Usage] = {}
    for name in os.listdir(_PROC) if _PROC.joinpath("self").exists() else ():  # noqa: PTH208  # names
        if not name.isdecimal():
            continue
        try:
            # The name of the program, in brackets, may have any letters.
            state, _, number, *_ = _content(f"/proc/{name}/stat").rpartition(b")")[2].split(None, 3)
            _, resident, shared, *_ = _content(f"/proc/{name}/statm").split(None, 3)
        except (OSError, ValueError, IndexError):  # it ended meanwhile
            continue
        if state == b"Z":  # it has ended, and its parent has not looked yet
            continue
        group = int(number)
        before = found.get(group, Usage())
        memory = max(0, int(resident) - int(shared)) * _PAGE_BYTES
        found[group] = Usage(before.processes + 1, before.memory + memory)
    return found


def _content(path: str) -> bytes:
    """Return what a small file of the kernel's has; in half the time that `Path.read_bytes` takes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _MOST_BYTES)
    finally:
        os.close(descriptor)
