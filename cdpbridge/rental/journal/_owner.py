"""The process that has rented a browser, distinguished from every other one that ever had its number."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Final, Self

from cdpbridge import _ps

__all__ = ["Fate", "Owner"]

_PROC: Final = Path("/proc")
_BOOT_ID: Final = _PROC / "sys/kernel/random/boot_id"
# proc(5), /proc/pid/stat, counted from the field after the command's name, which may hold spaces and brackets.
_STATE_FIELD: Final = 0
_START_FIELD: Final = 19
_ENDED: Final = frozenset("ZXx")  # a zombie does nothing any more; its parent only has not asked yet


class Fate(Enum):
    """What is known of an owner."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"
    """It lives on another machine or in another container: its process cannot be seen from here."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A process.

    Attributes:
        pid: Its number, as its own container counts.
        started: When it was started: in clock ticks since the boot, or, where there is no `/proc`, as a date; empty where the
            system does not tell.
        boot: Which boot of the machine; empty where the system does not tell.
        host: Name of the machine or container.
        namespace: Where `pid` means something; empty where the system has no such thing.
    """

    pid: int
    started: str
    boot: str
    host: str
    namespace: str

    def __str__(self) -> str:
        return (
            f"process {self.pid}"
            if self.host == socket.gethostname()
            else f"process {self.pid} on {self.host}"
        )

    @classmethod
    def this_process(cls) -> Self:
        """Return this process, also after a fork."""
        pid = os.getpid()
        return cls(pid, _start_of(pid) or "", _boot(), socket.gethostname(), _namespace())

    @property
    def fate(self) -> Fate:
        """What is known of it: a process that has got the same number since does not count."""
        if self.boot != _boot():  # this machine was restarted since, or it is another machine
            return Fate.DEAD if self.host == socket.gethostname() else Fate.UNKNOWN
        if self.namespace != _namespace():
            return Fate.UNKNOWN
        if not self.started:  # the system did not tell: a number in use is believed
            return Fate.ALIVE if _in_use(self.pid) else Fate.DEAD
        return Fate.ALIVE if _start_of(self.pid) == self.started else Fate.DEAD


def _start_of(pid: int) -> str | None:
    if sys.platform == "win32":
        return _windows_start_of(pid)
    if not _PROC.joinpath("self").exists():
        return _ps.start_of(pid)
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError, NotADirectoryError):
        return None
    return None if fields[_STATE_FIELD] in _ENDED else fields[_START_FIELD]


def _windows_start_of(pid: int) -> str | None:
    """Source: Win32, `OpenProcess`, `GetExitCodeProcess` (259 while it runs) and `GetProcessTimes`."""
    if sys.platform == "win32":
        import ctypes  # noqa: PLC0415  # for one system only
        from ctypes import wintypes  # noqa: PLC0415  # as above

        kernel = ctypes.WinDLL("kernel32")
        kernel.OpenProcess.restype = wintypes.HANDLE
        kernel.OpenProcess.argtypes = [wintypes.DWORD, wintypes.BOOL, wintypes.DWORD]
        handle = kernel.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
        if not handle:
            return None
        handle = wintypes.HANDLE(handle)
        try:
            code, times = wintypes.DWORD(), [wintypes.FILETIME() for _ in range(4)]
            kernel.GetExitCodeProcess(handle, ctypes.byref(code))
            if code.value != 259 or not kernel.GetProcessTimes(handle, *map(ctypes.byref, times)):
                return None
            return f"{times[0].dwHighDateTime:08x}{times[0].dwLowDateTime:08x}"
        finally:
            kernel.CloseHandle(handle)
    return None


def _in_use(pid: int) -> bool:
    if sys.platform == "win32":  # where `os.kill(pid, 0)` sends Ctrl-C
        return _windows_start_of(pid) is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's, so it exists
        return True
    return True


@cache
def _boot() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return ""
