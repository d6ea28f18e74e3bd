"""`Recorder`: one more viewer of a browser, who looks at the tab in front and hands what it sees to a thread.

One picture is being encoded and one waits, the newest; others are dropped.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar
from uuid import UUID

from cdpbridge.errors import CDPError
from cdpbridge.server.live import Picture, Tab, Viewing
from cdpbridge.server.store import RecordingState

if TYPE_CHECKING:
    from ._film import Film

__all__ = ["Recorder"]

logger = logging.getLogger("cdpbridge.server")

T = TypeVar("T")
P = ParamSpec("P")

_HOLD_SECONDS: Final = 2.0
"""How often an unchanged page is written to the film: what a killed server can lose of it."""
_RETRY_SECONDS: Final = 1.0
_NICENESS: Final = 10  # browsers and their clients come first


class Recorder:
    """Records a browser from now on; a viewer of the live view, see `live.Viewing`.

    Args:
        film: Where it goes.
        watching: Lets a viewer see the browser while a block runs.
        per_second: Pictures, at most.
    """

    may_drive = driving = is_person = False

    def __init__(
        self,
        browser_id: UUID,
        film: Film,
        watching: Callable[[Viewing], AbstractAsyncContextManager[bool]],
        *,
        per_second: float,
    ) -> None:
        self.pinned: str | None = None
        self.per_second = per_second
        self._id = browser_id
        self._film = film
        self._let_in = watching
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._shot: tuple[bytes, float] | None = None
        self._wake = asyncio.Event()
        self._over = asyncio.Event()
        self._lost = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "recording", initializer=_stand_back)

    # --- what the browser tells -----------------------------------------------------------------------------------

    def offer(self, picture: Picture) -> bool:
        """Take a picture. Never say that it replaced one: the browser would encode worse pictures for all viewers."""
        self._take(picture, picture.at)
        return False

    def switched(self, latest: Picture | None) -> None:
        """Another tab is in front."""
        if latest is not None:
            self._take(latest, self._loop.time())

    def _take(self, picture: Picture, at: float) -> None:
        self._shot = picture.jpeg, at
        self._wake.set()

    def changed(self) -> None:
        """Do nothing: it has no status."""

    def icon(self, tab: Tab) -> None:
        """Do nothing: it has no icons."""

    def browser_ended(self) -> None:
        """Note that there is nothing to see any more, or not for a while."""
        self._lost.set()

    # --- its life -------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """End `run`: the browser is being stopped."""
        self._over.set()
        self._wake.set()

    async def run(self) -> RecordingState:
        """Record until `end`, the limit or a failure; how it ended."""
        watching = self._loop.create_task(self._watch())
        try:
            state = await self._record()
        except Exception:
            logger.exception("browser %s: its recording failed", self._id)
            state = RecordingState.FAILED
        finally:
            watching.cancel()
            await asyncio.wait({watching})
        try:
            some = await self._in_thread(self._film.close)
            return state if some or state is RecordingState.FAILED else RecordingState.EMPTY
        except Exception:
            logger.exception("browser %s: its recording could not be ended in order", self._id)
            return RecordingState.FAILED
        finally:
            self._thread.shutdown(wait=False)

    async def _watch(self) -> None:
        while True:
            self._lost.clear()
            try:
                async with self._let_in(self) as runs:
                    if runs:
                        await self._lost.wait()
            except CDPError as error:
                logger.debug("browser %s cannot be recorded now: %s", self._id, error)
            except Exception:
                logger.exception("browser %s cannot be recorded now", self._id)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _record(self) -> RecordingState:
        due = self._began
        while True:
            await _set_within(self._wake, _HOLD_SECONDS)
            await _set_within(self._over, due - self._loop.time())
            self._wake.clear()
            over, (shot, self._shot) = self._over.is_set(), (self._shot, None)
            fits = True
            if shot is not None:
                due = self._loop.time() + 1 / self.per_second
                jpeg, at = shot
                fits = await self._in_thread(self._film.show, jpeg, at - self._began)
            if fits and (over or shot is None):
                fits = await self._in_thread(self._film.hold, self._loop.time() - self._began)
            if not fits:
                return RecordingState.SIZE_LIMIT
            if over:
                return RecordingState.SAVED

    async def _in_thread(self, work: Callable[P, T], *arguments: P.args, **_none: P.kwargs) -> T:
        return await self._loop.run_in_executor(self._thread, work, *arguments)


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but not longer."""
    if seconds <= 0 or event.is_set():
        return
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass  # it has waited long enough


def _stand_back() -> None:
    if sys.platform == "linux":  # only there a thread has a niceness of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
