"""Start a process with Chromium's descriptors: stderr is a pipe to us, 3 and 4 are the debugging pipe.

Not with `subprocess`, which cannot give a child the numbers 3 and 4 without running Python code after a fork.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Spawned", "spawn"]

# of Linux, and of macOS
_OPEN_FDS: Final = (Path("/proc/self/fd"), Path("/dev/fd"))
# Above the child's 0 to 4, so that putting one in place never overwrites another.
_LOWEST_FD: Final = 10


class Spawned(NamedTuple):
    """A process and our ends of its pipes, which belong to the caller.

    Attributes:
        pid: Its id, and that of its process group and session.
        stderr: To read from; does not block.
        from_child: To read what it writes to its descriptor 4.
        to_child: To write what it reads from its descriptor 3.
    """

    pid: int
    stderr: int
    from_child: int
    to_child: int


def spawn(command: list[str], environment: Mapping[str, str]) -> Spawned:
    """Start `command` in a session of its own. It inherits no other descriptor.

    Raises:
        OSError: It cannot be started; nothing is left open.
    """
    from fcntl import F_DUPFD_CLOEXEC, fcntl  # noqa: PLC0415  # Windows has none, and starts no browser

    opened: list[int] = []  # all of them close on exec: no other child inherits our ends
    try:
        commands, to_child = _pipe(opened)
        from_child, answers = _pipe(opened)
        stderr, words = _pipe(opened)
        theirs = [fcntl(fd, F_DUPFD_CLOEXEC, _LOWEST_FD) for fd in (words, commands, answers)]
        opened += theirs
        pid = os.posix_spawn(
            command[0],
            command,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                *((os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(theirs, 2)),
                *((os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable()),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # Python ignores these two
        )
    except BaseException:
        for fd in opened:
            os.close(fd)
        raise
    for fd in (commands, answers, words, *theirs):
        os.close(fd)
    os.set_blocking(stderr, False)
    return Spawned(pid, stderr, from_child, to_child)


def _pipe(opened: list[int]) -> tuple[int, int]:
    ends = os.pipe()
    opened += ends
    return ends


def _inheritable() -> list[int]:
    """Return our descriptors that would survive the exec, e.g. listening sockets handed to us; above the child's own."""
    found = []
    for entry in next(folder for folder in _OPEN_FDS if folder.exists()).iterdir():
        fd = int(entry.name)
        with suppress(OSError):  # the listing's own
            if fd > 4 and os.get_inheritable(fd):
                found.append(fd)
    return found
