"""Processes of browsers: started under a uid, found by it or by their command line, and killed."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["kill_processes", "launch_prefix", "living_uids", "orphans"]

logger = logging.getLogger("cdpbridge.chromium")

_PROC: Final = Path("/proc")
_TASKS: Final = "/proc/self/task"
_PART_BYTES: Final = 65536
# its uids stand among the first lines
_STATUS_BYTES: Final = 4096
_KILL_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.01
# util-linux; BusyBox has an applet of that name that cannot change uids.
_SETPRIV: Final = ("/usr/bin/setpriv", "/bin/setpriv")
_BY_PYTHON: Final = """
import ctypes, os, sys
number = int(sys.argv[1])
os.setgroups([])
os.setresgid(number, number, number)
os.setresuid(number, number, number)
if sys.argv[2] == "1" and ctypes.CDLL(None).prctl(38, 1, 0, 0, 0):
    sys.exit("PR_SET_NO_NEW_PRIVS was refused")
try:
    os.execv(sys.argv[3], sys.argv[3:])
except OSError as error:
    sys.exit(f"failed to execute {sys.argv[3]}: {error.strerror}")
"""
# As that user and only as that: what this ends is every process that its caller may end.
_KILL_ALL: Final = '[ "$(/usr/bin/id -u)" = "$1" ] && kill -s KILL -- -1'


def launch_prefix(uid: int, *, no_new_privs: bool) -> list[str]:
    """Return the command, in front of a program's path and arguments, that runs it as `uid` and nothing else.

    Not `subprocess` with `user=`: that forks instead of `vfork`, and the copy of a server's page tables holds its event
    loop for 6 ms at 150 MiB, 40 ms at 1 GiB (measured; this 0.1 ms at any size).
    """
    for setpriv in _SETPRIV:
        if os.access(setpriv, os.X_OK) and Path(setpriv).resolve().name == "setpriv":
            options = [f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
            return [setpriv, *options, *(["--no-new-privs"] if no_new_privs else []), "--"]
    return [sys.executable, "-I", "-S", "-c", _BY_PYTHON, str(uid), "1" if no_new_privs else "0"]


def kill_processes(uid: int) -> bool:
    """Kill every process of `uid`, those that they start meanwhile too. True when none is left.

    First by one call of the kernel, made as that user, which no fork escapes: kill(2) with -1. Processes that fork and exit
    faster than /proc is read are in none of its listings. Then one by one, for those that the call may not reach.
    """
    subprocess.run(  # noqa: S603  # our own words
        [*launch_prefix(uid, no_new_privs=True), "/bin/sh", "-c", _KILL_ALL, "sh", str(uid)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,  # it fails when there is none; what it has left is seen below
    )
    deadline = time.monotonic() + _KILL_SECONDS
    while found := list(_processes_of(uid)):
        if time.monotonic() > deadline:
            logger.error("processes %s of uid %d cannot be killed", found, uid)
            return False
        for pid in found:
            _kill(pid, uid)
        time.sleep(_POLL_SECONDS)
    return True


def _kill(pid: int, uid: int) -> None:
    """Kill a process if the number is still that of a process of `uid`: we may kill any other one too."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):  # another system, kernels before 5.3, and sandboxes that do not know it
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return
    try:
        with suppress(OSError):  # it has ended
            if uid in _uids(_status(pid)):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    finally:
        os.close(descriptor)


def _processes_of(uid: int) -> Iterator[int]:
    for pid, uids in _processes():
        if uid in uids:
            yield pid


def living_uids() -> set[int]:
    """Return every uid, real, effective, saved or of files, that a process of this machine has."""
    return {uid for _, uids in _processes() for uid in uids}


def _processes() -> Iterator[tuple[int, set[int]]]:
    """Living processes with their uids, real, effective, saved and of files; zombies run nothing and own nothing."""
    for entry in os.scandir(_PROC):
        if not entry.name.isdecimal():
            continue
        with suppress(OSError):  # it ended meanwhile
            # Not the owner of the folder: that is root for processes that may not be dumped, as Chromium's zygotes.
            status = _status(int(entry.name))
            if b"\nState:\tZ" not in status:
                yield int(entry.name), _uids(status)


def _status(pid: int) -> bytes:
    # Not pathlib: every start of a browser looks at all processes, and this takes a third of the time.
    descriptor = os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _STATUS_BYTES)
    finally:
        os.close(descriptor)


def _uids(status: bytes) -> set[int]:
    start = status.index(b"\nUid:") + 5
    return set(map(int, status[start : status.index(b"\n", start)].split()))


def orphans(scratch_dir: Path) -> set[int]:
    """Return Crashpad's handlers of this browser, if orphans become our children. They are in sessions of their own."""
    found: set[int] = set()
    needle = os.fsencode(scratch_dir)
    try:
        threads = os.listdir(_TASKS)  # noqa: PTH208  # names; twice a browser, with as many files as threads and children
    except FileNotFoundError:  # macOS
        return found
    for thread in threads:
        with suppress(OSError):  # it has ended
            for pid in _read(f"{_TASKS}/{thread}/children").split():
                with suppress(OSError):  # as above
                    command = _read(f"/proc/{int(pid)}/cmdline")
                    if b"crashpad" in command and needle in command:
                        found.add(int(pid))
    return found


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = b""
        while part := os.read(descriptor, _PART_BYTES):
            content += part
        return content
    finally:
        os.close(descriptor)
