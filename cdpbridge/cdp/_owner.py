"""`Owner`: refuse calls from another event loop, thread or process than the one a connection belongs to."""

from __future__ import annotations

import asyncio
import os
import weakref

# exported by asyncio for event loops; returns None instead of raising
from asyncio import _get_running_loop as running_loop
from threading import get_ident

__all__ = ["Owner", "running_loop"]

# no thread has it
_FORKED = -1


class Owner:
    """The event loop, thread and process that made a link, which belongs to them.

    Attributes:
        thread: Id of the thread. A caller for whom it is another, or whose `loop` does not run, must call `check`. Two calls of C
            are enough for that: `running_loop` asks the system for the process, 0.2 us a command.
    """

    __slots__ = ("__weakref__", "_pid", "loop", "thread")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self.thread = get_ident()
        _owners.add(self)

    def check(self, *, in_loop: bool = True) -> None:
        """Refuse calls from elsewhere.

        Args:
            in_loop: The loop must be running; False: its thread is enough.

        Raises:
            RuntimeError: With what to do instead.
        """
        if os.getpid() != self._pid:
            raise RuntimeError(
                f"this connection belongs to process {self._pid}, not to its fork {os.getpid()}; connect again here"
            )
        if get_ident() != self.thread or (in_loop and running_loop() is not self.loop):
            raise RuntimeError(
                f"this connection belongs to the event loop {self.loop!r} of thread {self.thread}; "
                "use asyncio.run_coroutine_threadsafe, or connect again here"
            )


_owners: weakref.WeakSet[Owner] = weakref.WeakSet()


def _in_fork() -> None:
    """Have every owner checked in full: a fork has a thread of the same id, in which the loop seems to run."""
    for owner in _owners:
        owner.thread = _FORKED


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_in_fork)
