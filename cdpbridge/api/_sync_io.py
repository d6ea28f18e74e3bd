"""What `_sync` needs of its thread: the names of `_async_io`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

__all__ = ["CANCELLED", "Turns", "in_thread", "monotonic", "sleep", "to_the_end"]

T = TypeVar("T")

CANCELLED: Final = KeyboardInterrupt
"""How a caller is told to give up."""

monotonic = time.monotonic
sleep = time.sleep


def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """The result of a function that waits for a disk; this thread may wait."""
    return function(*arguments)


def to_the_end(work: Callable[..., T], *arguments: Any) -> T:
    """What `work` brings; only a signal can cut it short."""
    return work(*arguments)


class Turns:
    """One thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def lock(self) -> threading.Lock:
        """The lock."""
        return self._lock
