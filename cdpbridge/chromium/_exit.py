"""The end of a child process, seen without reaping it: its id cannot come to mean another process meanwhile."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

__all__ = ["watch_exit"]

# another part of this process has reaped it; asyncio says the same
_UNKNOWN_STATUS: Final = 255


def watch_exit(pid: int, loop: asyncio.AbstractEventLoop, on_exit: Callable[[int], None]) -> None:
    """Have `on_exit` called in the loop, once, with the child's exit status; negative for a signal."""
    try:
        pidfd = os.pidfd_open(pid)
    except (AttributeError, OSError):  # macOS, kernels before 5.3, and sandboxes that do not know it
        threading.Thread(
            target=_wait_blocking, args=(pid, loop, on_exit), daemon=True, name="chromium-wait"
        ).start()
        return

    def ended() -> None:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        on_exit(_exit_status(pid))

    loop.add_reader(pidfd, ended)


def _wait_blocking(pid: int, loop: asyncio.AbstractEventLoop, on_exit: Callable[[int], None]) -> None:
    status = _exit_status(pid)
    with suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(on_exit, status)


def _exit_status(pid: int) -> int:
    """Wait for its end, without reaping it where the system can do that: Python for macOS has no waitid() before 3.13."""
    try:
        if not hasattr(os, "waitid"):
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        return _UNKNOWN_STATUS
    assert result is not None  # WNOHANG was not given
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
