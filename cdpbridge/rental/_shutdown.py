"""Stop paid browsers when the program ends: SIGTERM, SIGHUP, and the end of the interpreter.

A block that is left by any other way stops its browser by itself. SIGTERM, and SIGHUP when a terminal is closed, would end the
process on the spot, so while browsers are rented they are turned into an orderly end: the tasks that hold browsers are
cancelled, their blocks stop them, and the process leaves with status 143 (129) as a shell reports it. What is still rented when the interpreter ends (a loop that
was dropped, a handle without a stop) is stopped there, by plain blocking requests.
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
from functools import partial
from types import FrameType
from typing import Any, Final, Protocol

from cdpbridge.errors import CDPBridgeError

__all__ = ["Guard", "Guarded", "exit_on_signals", "guard"]

logger = logging.getLogger("cdpbridge")

# Windows has no SIGHUP.
_SIGNALS: Final = tuple(
    number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None
)
_LEAVING_SECONDS: Final = 5.0
"""For blocks to close their connections after a signal, once their browsers are stopped; that takes milliseconds."""


def _status(number: int) -> int:
    """Return the exit status of a process ended by that signal (POSIX shells: 128 + its number)."""
    return 128 + number


class Guarded(Protocol):
    """A rented browser, as the guard needs it."""

    @property
    def holder(self) -> asyncio.Task[object] | None:
        """The task whose block stops it; None without a block."""

    @property
    def over(self) -> bool:
        """True if there is nothing to stop any more, e.g. because its server has ended."""

    async def stop(self) -> object:
        """Stop it."""

    def stop_blocking(self) -> object:
        """Stop it without an event loop."""


class Guard:
    """All browsers that this process has rented and not yet seen stopped.

    Attributes:
        terminating: SIGTERM or SIGHUP has come.
    """

    def __init__(self) -> None:
        self.terminating = False
        self._pid = os.getpid()
        self._rented: dict[Guarded, asyncio.AbstractEventLoop] = {}
        self._opening: set[asyncio.Task[object]] = set()
        self._handled: asyncio.AbstractEventLoop | None = None
        self._signals: list[signal.Signals] = []
        self._ending: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._waiting: set[asyncio.Task[object]] = set()
        atexit.register(self._at_exit)
        if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
            os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        """Forget everything in a fork: the parent stops what it has rented."""
        self._pid = os.getpid()
        self._rented.clear()
        self._opening.clear()
        self._handled = None

    @asynccontextmanager
    async def opening(self, holder: asyncio.Task[Any] | None = None) -> AsyncIterator[None]:
        """Mark the current task as renting, for a block: SIGTERM or SIGHUP cancels it, so that it can stop its browser.

        Args:
            holder: The task whose block stops the browser. If it is another one, as of a pool, that one waits for this task
                on its way out, so this task does not wait for the end of the process.
        """
        task = asyncio.current_task()
        assert task is not None  # it awaits the server
        self._opening.add(task)
        self._handle_signal(asyncio.get_running_loop())
        try:
            yield
        except asyncio.CancelledError:
            self._opened(task)
            if holder is None or holder is task:
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

    # --- signals --------------------------------------------------------------------------------------------------

    def _handle_signal(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._handled is not None and self._handled.is_closed():
            self._handled = None  # it was dropped with a browser still rented
        if self._handled is not None:
            return
        self._signals = _free_signals()
        try:
            for number in self._signals:
                loop.add_signal_handler(number, self._terminate, number)
        except (NotImplementedError, RuntimeError, ValueError) as error:  # a platform or loop without signals
            logger.debug("signals cannot be handled here: %s", error)
        else:
            self._handled = loop if self._signals else None

    def _release_signal(self) -> None:
        loop = self._handled
        if loop is None or loop.is_closed() or self._rented or self._opening or self.terminating:
            return
        if threading.current_thread() is not threading.main_thread():  # only there signals can be handled
            loop.call_soon_threadsafe(self._release_signal)
            return
        self._handled = None
        for number in self._signals:
            loop.remove_signal_handler(number)

    def _terminate(self, number: int) -> None:
        if self.terminating:
            logger.warning("asked again to end; rented browsers are being stopped, this takes some seconds")
            return
        self.terminating = True
        self._news = asyncio.Event()
        holders = {browser.holder for browser in self._rented if browser.holder is not None} | self._opening
        self._ending = asyncio.get_running_loop().create_task(self._stop_all(holders))
        self._ending.add_done_callback(
            partial(_exit, number)
        )  # the first callback, so no other code runs before it
        for holder in holders:
            holder.get_loop().call_soon_threadsafe(holder.cancel)

    async def _stop_all(self, holders: set[asyncio.Task[object]]) -> None:
        await asyncio.gather(
            *(_stopped(browser, loop) for browser, loop in list(self._rented.items())), return_exceptions=True
        )
        while self._opening:
            self._news.clear()
            await self._news.wait()
        try:
            async with asyncio.timeout(_LEAVING_SECONDS):
                await self._left(holders)
        except TimeoutError:
            logger.debug("a block that was left because of a signal has not come to its end")

    async def _left(self, holders: set[asyncio.Task[object]]) -> None:
        """Wait until those tasks have closed what they opened: they end, or wait in `ended`."""
        here = asyncio.get_running_loop()
        inside = {holder for holder in holders if holder.get_loop() is here}
        for holder in inside:
            holder.add_done_callback(lambda _holder: self._news.set())
        while any(not holder.done() and holder not in self._waiting for holder in inside):
            self._news.clear()
            await self._news.wait()

    async def ended(self) -> None:
        """Wait for the end of the process after such a signal; otherwise return at once."""
        if (
            self.terminating
            and self._ending is not None
            and self._ending.get_loop() is asyncio.get_running_loop()
        ):
            task = asyncio.current_task()
            assert task is not None  # it has left a block
            self._waiting.add(task)
            self._news.set()
            await asyncio.wait({self._ending})

    # --- the end of the interpreter -------------------------------------------------------------------------------

    def _at_exit(self) -> None:
        if self._pid != os.getpid():
            return
        interrupted: BaseException | None = None
        for browser in list(self._rented):
            try:
                _stop_at_exit(browser)
            except CDPBridgeError as error:
                logger.error("at the end of the program: %s", error)  # noqa: TRY400  # says how to stop it by hand
            except Warning as warning:  # made an exception by `-W error`
                logger.error("%s", warning)  # noqa: TRY400
            except Exception:
                logger.exception("at the end of the program, a browser could not be stopped")
            except BaseException as error:  # noqa: BLE001  # Ctrl-C ends the stop of this one; the others are stopped
                logger.error("%r may still be rented: its stop was interrupted", browser)  # noqa: TRY400
                interrupted = error
        if interrupted is not None:
            raise interrupted


async def _stopped(browser: Guarded, loop: asyncio.AbstractEventLoop) -> None:
    """Stop a browser of a running loop. What was rented in a loop that runs no more is stopped at the end of the interpreter."""
    try:
        if loop is asyncio.get_running_loop():
            await browser.stop()
        elif loop.is_running():
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_stop(browser), loop))
    except Exception as error:  # noqa: BLE001  # its block says so, if it has one
        if browser.holder is None:
            logger.error("%s", error)  # noqa: TRY400  # the message is meant for the user


async def _stop(browser: Guarded) -> None:
    await browser.stop()


def _stop_at_exit(browser: Guarded) -> None:
    try:
        if browser.over:
            return
    except Exception:
        logger.exception("whether the server of %r has ended is not known", browser)
    try:
        warnings.warn(
            f"{browser!r} was still rented at the end of the program and is stopped now; "
            "use `async with cdpbridge.open_browser()`",
            ResourceWarning,
            stacklevel=2,
        )
    finally:  # with `-W error` the warning is an exception
        browser.stop_blocking()


def _exit(number: int, _ending: asyncio.Task[None]) -> None:
    """Leave the event loop. `asyncio.run` then cancels what is left and lets it clean up; so does every other owner."""
    raise SystemExit(_status(number))


guard = Guard()


def _free_signals() -> list[signal.Signals]:
    """Return the signals that we may handle: only in the main thread, and not those that the program (or `nohup`) handles itself."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [number for number in _SIGNALS if signal.getsignal(number) == signal.SIG_DFL]


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Raise SystemExit on SIGTERM or SIGHUP in a block of a program without an event loop, so that its blocks are left."""
    _leaving.enter()
    try:
        yield
    finally:
        _leaving.exit()


class _Leaving:
    """The handlers of all such blocks: the first one sets them, the last one resets them, in whatever order they are left."""

    def __init__(self) -> None:
        self._blocks = 0
        self._handled: list[signal.Signals] = []

    def enter(self) -> None:
        self._blocks += 1
        for number in _free_signals():
            signal.signal(number, _leave)
            self._handled.append(number)

    def exit(self) -> None:
        self._blocks -= 1
        # Elsewhere they cannot be reset; they end the program then, with the status that it would have without them.
        if self._blocks == 0 and threading.current_thread() is threading.main_thread():
            handled, self._handled = self._handled, []
            for number in handled:
                signal.signal(number, signal.SIG_DFL)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(_status(number))


_leaving = _Leaving()
