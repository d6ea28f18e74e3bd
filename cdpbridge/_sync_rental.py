"""A rented browser in a program without an event loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cdpbridge._loop_thread import LoopThread
from cdpbridge.browser import Browser, open_browser

__all__ = ["rented"]


@contextmanager
def rented(*arguments: Any, **options: Any) -> Iterator[Browser]:
    """A browser whose rental lives in a thread; leaving the block stops it.

    Arguments and errors as of `cdpbridge.open_browser`.
    """
    with LoopThread() as loop:
        browser = loop.run(_opened(*arguments, **options))
        try:
            yield browser
        except BaseException as error:
            loop.run(browser.__aexit__(type(error), error, error.__traceback__))
            raise
        loop.run(browser.__aexit__(None, None, None))


async def _opened(*arguments: Any, **options: Any) -> Browser:
    return await open_browser(*arguments, **options)
