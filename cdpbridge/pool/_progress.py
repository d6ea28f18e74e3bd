"""The progress of a map, as a line in the terminal or as calls of the user's function."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

__all__ = ["ProgressHook", "progress_of"]

ProgressHook = Callable[[int, int | None], object]
"""Called with the number of items that are done, and the number of all; None when that is not known."""


@contextmanager
def progress_of(
    shown: bool | ProgressHook, total: int | None, browsers: Callable[[], int]
) -> Iterator[Callable[[int], object]]:
    """Show progress during a block; call the yielded function with the number of items that are done.

    Args:
        shown: True for a line on standard error, or a function to call.
        total: Number of items, None when not known.
        browsers: Returns how many are rented now; the line shows it.
    """
    if callable(shown):
        hook = shown
        hook(0, total)
        yield lambda done: hook(done, total)
    elif not shown:
        yield lambda _done: None
    else:
        with _line(total, browsers) as update:
            yield update


@contextmanager
def _line(total: int | None, browsers: Callable[[], int]) -> Iterator[Callable[[int], object]]:
    """One line that is rewritten on a terminal; elsewhere, e.g. in a log file, only the last state is written."""
    began = time.monotonic()
    live = sys.stderr.isatty()
    text = ""

    def update(done: int) -> None:
        nonlocal text
        seconds = time.monotonic() - began
        count = browsers()
        text = f"{done}{'' if total is None else f'/{total}'}  {count} browser{'' if count == 1 else 's'}  {_span(seconds)}"
        if total and 0 < done < total:
            text += f"  {_span(seconds / done * (total - done))} left"
        if live:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    update(0)
    try:
        yield update
    finally:
        sys.stderr.write("\n" if live else f"{text}\n")


def _span(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
