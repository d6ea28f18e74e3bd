"""Refuse a blocking block inside a coroutine, which would stop every other task of its event loop."""

from __future__ import annotations

import asyncio
import sys
from types import FrameType

__all__ = ["check_caller"]


def check_caller(what: str, instead: str) -> None:
    """Refuse a caller inside a coroutine that an event loop runs, also a notebook's cell.

    A loop that merely exists in this thread is not in the way: that of Playwright's synchronous API runs in a stack of its own.

    Args:
        what: What was called.
        instead: What to write.

    Raises:
        RuntimeError: With what to write.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs
        return
    running = task.get_coro() if task is not None else None
    theirs = getattr(running, "cr_frame", None)
    frame: FrameType | None = sys._getframe()  # noqa: SLF001  # `inspect.currentframe`, which may return None
    while theirs is not None and frame is not None:
        if frame is theirs:
            raise RuntimeError(
                f"{what} blocks, and an event loop runs here: inside a coroutine, and in a notebook, write `{instead}`"
            )
        frame = frame.f_back
