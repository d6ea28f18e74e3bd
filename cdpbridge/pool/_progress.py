"""The progress of a map, as a bar in the terminal or as calls of the user's function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["ProgressHook", "progress_of"]

ProgressHook = Callable[[int, int | None], object]
"""Called with how many items are done, and how many there are; None when that is not known."""


@contextmanager
def progress_of(
    shown: bool | ProgressHook, total: int | None, browsers: Callable[[], int]
) -> Iterator[Callable[[int], object]]:
    """Show progress in a block: call the yielded function with how many items are done.

    Args:
        shown: True for a bar on standard error, or a function to call.
        browsers: How many are rented now; the bar shows it.
    """
    if callable(shown):
        hook = shown
        hook(0, total)
        yield lambda done: hook(done, total)
    elif not shown:
        yield lambda _done: None
    else:
        with _bar(total, browsers) as update:
            yield update


@contextmanager
def _bar(total: int | None, browsers: Callable[[], int]) -> Iterator[Callable[[int], object]]:
    from rich.console import Console  # noqa: PLC0415  # most programs show none
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total)

        def update(done: int) -> None:
            count = browsers()
            progress.update(task, completed=done, description=f"{count} browser{'' if count == 1 else 's'}")

        update(0)
        yield update
