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

__all__ = ["Pipes", "Spawned", "inheritable", "open_pipes", "spawn"]

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


class Pipes(NamedTuple):
    """Both ends of a browser's pipes; all close on exec, so that no other child inherits ours.

    Attributes:
        words: Its end of `stderr`.
        commands: Its end of `to_child`.
        answers: Its end of `from_child`.
    """

    stderr: int
    words: int
    from_child: int
    answers: int
    to_child: int
    commands: int

    def close_theirs(self) -> None:
        """Close the browser's ends, once it has them."""
        for fd in (self.words, self.answers, self.commands):
            os.close(fd)

    def close(self) -> None:
        """Close what is open."""
        for fd in self:
            with suppress(OSError):
                os.close(fd)


def open_pipes() -> Pipes:
    """Make the pipes of a browser.

    Raises:
        OSError: No descriptor is free.
    """
    opened: list[int] = []
    try:
        for _ in range(3):
            opened += os.pipe()
    except OSError:
        for fd in opened:
            os.close(fd)
        raise
    stderr, words, from_child, answers, commands, to_child = opened
    return Pipes(stderr, words, from_child, answers, to_child, commands)


def spawn(command: list[str], environment: Mapping[str, str]) -> Spawned:
    """Start `command` in a session of its own. It inherits no other descriptor.

    Raises:
        OSError: It cannot be started; nothing is left open.
    """
    from fcntl import F_DUPFD_CLOEXEC, fcntl  # noqa: PLC0415  # Windows has none, and starts no browser

    pipes = open_pipes()
    theirs: list[int] = []
    try:
        for fd in (pipes.words, pipes.commands, pipes.answers):
            theirs.append(fcntl(fd, F_DUPFD_CLOEXEC, _LOWEST_FD))  # noqa: PERF401  # each is closed if the next one fails
        pid = os.posix_spawn(
            command[0],
            command,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                *((os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(theirs, 2)),
                *((os.POSIX_SPAWN_CLOSE, fd) for fd in inheritable()),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # Python ignores these two
        )
    except BaseException:
        pipes.close()
        raise
    finally:
        for fd in theirs:
            os.close(fd)
    pipes.close_theirs()
    os.set_blocking(pipes.stderr, False)
    return Spawned(pid, pipes.stderr, pipes.from_child, pipes.to_child)


def inheritable() -> list[int]:
    """Return our descriptors that would survive the exec, e.g. listening sockets handed to us; above the child's own."""
    found = []
    for entry in next(folder for folder in _OPEN_FDS if folder.exists()).iterdir():
        fd = int(entry.name)
        with suppress(OSError):  # the listing's own
            if fd > 4 and os.get_inheritable(fd):
                found.append(fd)
    return found
