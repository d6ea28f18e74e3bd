"""A program with processes and mounts of its own, so that nothing of it is left however it ends: finished, failed, stopped by Ctrl-C, killed."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final

__all__ = ["run_apart"]

# The one folder that buildah writes outside of those that it is given.
_CACHE: Final = Path("/var/lib/containers")
_SIGNALS: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
# setpriv: it ends when this program is killed. unshare: with the first process of a pid namespace the kernel kills all others, and
# mounts end with the last process that sees them.
_APART: Final = (
    *("setpriv", "--pdeathsig", "KILL"),
    *(
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child=KILL",
    ),
)


class _Stopped(BaseException):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run_apart(command: Sequence[str], parent: Path | None) -> int:
    """Run a command in namespaces of its own, with `--folder FOLDER` added; return its exit status.

    The folder is removed at the end, and so is what buildah has written elsewhere. SIGHUP, SIGINT and SIGTERM kill the command at once.

    Args:
        command: A program and its arguments.
        parent: Where the folder is made; None: the system's folder for temporary files.
    """
    try:
        with _signals_raise(), _folder(parent) as folder, _without_cache():
            process = subprocess.Popen(
                [*_APART, *command, "--folder", str(folder)],
                # Ctrl-C of a terminal is for this process alone.
                start_new_session=True,
            )
            try:
                return process.wait()
            finally:
                _kill(process)
    except _Stopped as stopped:
        print(f"stopped by {signal.Signals(stopped.number).name}; nothing of it is left", file=sys.stderr)
        return 128 + stopped.number


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill it and the first process of its namespace, and wait for that one: all others have ended by then."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    firsts: list[int] = []
    with suppress(OSError):  # it has ended
        firsts.extend(os.pidfd_open(int(pid)) for pid in children.read_text().split())
    process.kill()
    process.wait()
    for first in firsts:
        select.select([first], [], [])
        os.close(first)


@contextmanager
def _signals_raise() -> Iterator[None]:
    def stop(number: int, _frame: FrameType | None) -> None:
        for each in _SIGNALS:  # once: what follows is the clean-up
            signal.signal(each, signal.SIG_IGN)
        raise _Stopped(number)

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _folder(parent: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cdpbridge-image-", dir=parent) as folder:
        # The container's user goes through it.
        Path(folder).chmod(0o711)
        yield Path(folder)


@contextmanager
def _without_cache() -> Iterator[None]:
    existed = _CACHE.exists()
    try:
        yield
    finally:
        if not existed:
            shutil.rmtree(_CACHE, ignore_errors=True)
