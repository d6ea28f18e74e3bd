"""A rented browser in a program without an event loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from cdpbridge._loop_thread import LoopThread
from cdpbridge.browser import Browser, Opening, open_browser

__all__ = ["rented"]


def rented(*arguments: Any, **options: Any) -> AbstractContextManager[Browser]:
    """A browser whose rental lives in a thread; leaving the block stops it.

    Arguments and errors as of `cdpbridge.open_browser`.
    """
    return _rented(open_browser(*arguments, **options))  # which checks them before the block is entered


@contextmanager
def _rented(opening: Opening) -> Iterator[Browser]:
    opened: list[Browser] = []

    async def begin() -> None:
        opened.append(await opening)

    with LoopThread() as loop:
        try:
            loop.run(begin())
            yield opened[0]
        except BaseException as error:
            for browser in opened:  # it may be there although an interrupt has ended the wait for it
                loop.run(browser.__aexit__(type(error), error, error.__traceback__))
            raise
        loop.run(opened[0].__aexit__(None, None, None))
