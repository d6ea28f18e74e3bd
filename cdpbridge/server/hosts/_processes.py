"""Processes that still use a folder, found by their command lines."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Final

from cdpbridge import _ps

__all__ = ["processes_using", "wait_unused"]

logger = logging.getLogger("cdpbridge.server")

_PROC: Final = Path("/proc")
_POLL_SECONDS: Final = 0.05
_KILL_ROUNDS: Final = 40


def processes_using(folder: Path) -> list[int]:
    """Ids of the processes whose command line names `folder`. Zombies have none, so they do not count."""
    needle = os.fsencode(folder)
    found = []
    if not _PROC.joinpath("self").exists():  # macOS
        return [pid for pid, command in _ps.command_lines().items() if needle in command]
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            try:
                if needle in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:  # it ended meanwhile
                continue
    return found


async def wait_unused(folder: Path, *, timeout: timedelta) -> bool:
    """Wait until no process uses `folder`; kill those that still do after `timeout`. Return True if none had to be killed.

    Chromium leaves by itself when its owner dies (the debugging pipe closes), and writes its cookies on the way.
    """
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            while await asyncio.to_thread(processes_using, folder):  # noqa: ASYNC110  # the kernel sends no event
                await asyncio.sleep(_POLL_SECONDS)
            return True
    except TimeoutError:
        pass
    for _ in range(_KILL_ROUNDS):
        if not (stuck := await asyncio.to_thread(processes_using, folder)):
            return False
        logger.warning("killing %d processes of a browser that did not end by itself", len(stuck))
        for pid in stuck:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        await asyncio.sleep(_POLL_SECONDS)
    logger.error("processes that use %s cannot be killed", folder)
    return False
