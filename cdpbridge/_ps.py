"""What `ps` tells of processes, where there is no `/proc`: macOS and the BSDs."""

from __future__ import annotations

import os
import subprocess
from typing import Final

__all__ = ["command_lines", "start_of"]

_PS: Final = "/bin/ps"
_SECONDS: Final = 10.0
# a zombie does nothing any more; its parent only has not asked yet
_ENDED: Final = b"Z"


def start_of(pid: int) -> str | None:
    """Return when a process was started, as a text, to the second; None if none of that number runs, or `ps` cannot say.

    Source: ps(1) of macOS and of procps: `stat`, and `lstart`, which is local time in words of the locale.
    """
    words = _ask("-o", "stat=", "-o", "lstart=", "-p", str(pid)).split()
    if not words or words[0].startswith(_ENDED):
        return None
    return b" ".join(words[1:]).decode("ascii", "replace")


def command_lines() -> dict[int, bytes]:
    """Return the command line of every process, by its number; its arguments are joined by spaces."""
    found = {}
    for line in _ask("-A", "-ww", "-o", "pid=", "-o", "args=").splitlines():
        number, _, command = line.strip().partition(b" ")
        found[int(number)] = command
    return found


def _ask(*arguments: str) -> bytes:
    try:
        asked = subprocess.run(  # noqa: S603  # our own words
            [_PS, *arguments],
            env=os.environ | {"LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,  # 1: there is no such process
        )
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return asked.stdout
