"""`Owner`: refuse calls from another event loop, thread or process than the one a connection belongs to."""

from __future__ import annotations

import asyncio
import os
import threading

# exported by asyncio for event loops; returns None instead of raising
from asyncio import _get_running_loop as running_loop

__all__ = ["Owner", "running_loop"]


class Owner:
    """The event loop, thread and process that made a link, which belongs to them."""

    __slots__ = ("_pid", "_thread", "loop")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._thread = threading.get_ident()

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
        if threading.get_ident() != self._thread or (in_loop and running_loop() is not self.loop):
            raise RuntimeError(
                f"this connection belongs to the event loop {self.loop!r} of thread {self._thread}; "
                "use asyncio.run_coroutine_threadsafe, or connect again here"
            )
