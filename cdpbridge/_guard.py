"""The last line of defence of paid browsers: SIGTERM, and the end of the interpreter.

A block that is left by any other way stops its browser by itself. SIGTERM would end the process on the spot, so while
browsers are rented it is turned into an orderly end: the tasks that hold browsers are cancelled, their blocks stop them,
and the process leaves with status 143 as a shell reports it. What is still rented when the interpreter ends (a loop that
was dropped, a handle that nobody stopped) is stopped there, by plain blocking requests.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import signal
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from typing import Final, Protocol

from cdpbridge.errors import CDPBridgeError

__all__ = ["EXIT_STATUS", "Guard", "Guarded", "exit_on_sigterm", "guard"]

logger = logging.getLogger("cdpbridge")

EXIT_STATUS: Final = 128 + signal.SIGTERM
"""What a process ended by SIGTERM reports (POSIX shells: 128 + number of the signal)."""


class Guarded(Protocol):
    """What the guard must know of a rented browser."""

    @property
    def holder(self) -> asyncio.Task[object] | None:
        """The task whose block stops it; None when it is stopped by hand."""

    @property
    def over(self) -> bool:
        """It has ended with the server it ran on: there is nothing to stop any more."""

    async def stop(self) -> object:
        """Stop it."""

    def stop_blocking(self) -> object:
        """Stop it without an event loop."""


class Guard:
    """All browsers that this process has rented and not yet seen stopped.

    Attributes:
        terminating: SIGTERM has come.
    """

    def __init__(self) -> None:
        self.terminating = False
        self._pid = os.getpid()
        self._rented: dict[Guarded, asyncio.AbstractEventLoop] = {}
        self._opening: set[asyncio.Task[object]] = set()
        self._handled: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        atexit.register(self._at_exit)
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        """What the parent has rented is the parent's to stop."""
        self._pid = os.getpid()
        self._rented.clear()
        self._opening.clear()
        self._handled = None

    @asynccontextmanager
    async def opening(self) -> AsyncIterator[None]:
        """A block in which the current task rents a browser: SIGTERM cancels it, so that it can give the browser back."""
        task = asyncio.current_task()
        assert task is not None  # it awaits the server
        self._opening.add(task)
        self._handle_signal(asyncio.get_running_loop())
        try:
            yield
        except asyncio.CancelledError:
            self._opened(task)
            await self.ended()
            raise
        finally:
            self._opened(task)

    def _opened(self, task: asyncio.Task[object]) -> None:
        self._opening.discard(task)
        self._release_signal()
        if self.terminating:
            self._news.set()

    def add(self, browser: Guarded) -> Callable[[], None]:
        """Guard a browser of the running loop; call the returned function when it is stopped."""
        loop = asyncio.get_running_loop()
        self._rented[browser] = loop
        self._handle_signal(loop)
        return lambda: self._remove(browser)

    def _remove(self, browser: Guarded) -> None:
        self._rented.pop(browser, None)
        self._release_signal()

    # --- SIGTERM --------------------------------------------------------------------------------------------------

    def _handle_signal(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._handled is not None and self._handled.is_closed():
            self._handled = None  # it was dropped with a browser still rented
        if self._handled is not None or not _sigterm_is_free():
            return
        try:
            loop.add_signal_handler(signal.SIGTERM, self._terminate)
        except (NotImplementedError, RuntimeError, ValueError) as error:  # a platform or loop without signals
            logger.debug("SIGTERM cannot be handled here: %s", error)
        else:
            self._handled = loop

    def _release_signal(self) -> None:
        loop = self._handled
        if loop is None or loop.is_closed() or self._rented or self._opening or self.terminating:
            return
        if threading.current_thread() is not threading.main_thread():  # only there signals can be handled
            loop.call_soon_threadsafe(self._release_signal)
            return
        self._handled = None
        loop.remove_signal_handler(signal.SIGTERM)

    def _terminate(self) -> None:
        if self.terminating:
            logger.warning("asked again to end; rented browsers are being stopped, this takes some seconds")
            return
        self.terminating = True
        self._news = asyncio.Event()
        self._ending = asyncio.get_running_loop().create_task(self._stop_all())
        self._ending.add_done_callback(_exit)  # the first to be called: nobody else goes on
        holders = {browser.holder for browser in self._rented if browser.holder is not None} | self._opening
        for holder in holders:
            holder.get_loop().call_soon_threadsafe(holder.cancel)

    async def _stop_all(self) -> None:
        here = asyncio.get_running_loop()
        for browser, loop in list(self._rented.items()):
            try:
                if loop is here:
                    await browser.stop()
                else:
                    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_stop(browser), loop))
            except Exception as error:  # noqa: BLE001  # the others are stopped all the same
                if browser.holder is None:  # else its block says so
                    logger.error("%s", error)  # noqa: TRY400  # the message is meant for the user
        while self._opening:
            self._news.clear()
            await self._news.wait()

    async def ended(self) -> None:
        """After SIGTERM, wait for the end of the process; otherwise return at once."""
        if (
            self.terminating
            and self._ending is not None
            and self._ending.get_loop() is asyncio.get_running_loop()
        ):
            await asyncio.wait({self._ending})

    # --- the end of the interpreter -------------------------------------------------------------------------------

    def _at_exit(self) -> None:
        if self._pid != os.getpid():
            return
        for browser in list(self._rented):
            if browser.over:
                continue
            warnings.warn(
                f"{browser!r} was still rented at the end of the program and is stopped now; "
                "use `async with cdpbridge.open_browser()`",
                ResourceWarning,
                stacklevel=1,
            )
            try:
                browser.stop_blocking()
            except CDPBridgeError as error:
                logger.error("at the end of the program: %s", error)  # noqa: TRY400  # says how to stop it by hand


async def _stop(browser: Guarded) -> None:
    await browser.stop()


def _exit(_ending: asyncio.Task[None]) -> None:
    """Leave the event loop. `asyncio.run` then cancels what is left and lets it clean up; so does every other owner."""
    raise SystemExit(EXIT_STATUS)


guard = Guard()


def _sigterm_is_free() -> bool:
    """Whether we may handle it: only the main thread can, and a program with a handler has its own plans."""
    main = threading.current_thread() is threading.main_thread()
    return main and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """A block of a program without an event loop in which SIGTERM raises SystemExit, so that blocks are left in order."""
    if not _sigterm_is_free():
        yield
        return

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(EXIT_STATUS)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
