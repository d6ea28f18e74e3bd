"""Send input events to a page, and follow a navigation that they begin."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

from cdpbridge._concurrency import mark_retrieved
from cdpbridge.errors import CommandError, TargetClosed
from cdpbridge.protocol import Command, Page, Runtime

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession

__all__ = ["InputWatch"]

_ANSWER_SECONDS: Final = 1.0
"""How long a dialog is given to be closed by a listener. One that stays open is answered after the action."""
_START_SECONDS: Final = 2.0
"""How long after its request a navigation may start: it takes some milliseconds. Otherwise something has refused it."""


class InputWatch:
    """Sends input events to a page, and hears what they bring about; a context manager.

    A dialog that one of them opens holds back their replies. When it is closed soon, the wait goes on; otherwise it ends.

    A page that they close does not reply either; that is no failure.

    A navigation of the page is requested, started, and ends with a document or without. Another one may be requested before that; then
    the first one's end is no end.
    """

    def __init__(self, session: CDPSession) -> None:
        self._session = session
        self._frame = session.target_id  # Chrome's main frame has the id of its page
        self._dialogs = 0
        self._over = False
        self._arrived = True
        self._requested = False  # and not started
        self._starts = False  # this browser reports starts
        self._news = asyncio.Event()
        self._removes: list[Callable[[], None]] = []

    def __enter__(self) -> Self:
        on = self._session.on
        self._removes = [
            on(Page.JavascriptDialogOpening, lambda _event: self._on_dialog(1)),
            on(Page.JavascriptDialogClosed, lambda _event: self._on_dialog(-1)),
            on(Page.FrameRequestedNavigation, self._on_requested),
            on(Page.FrameStartedNavigating, self._on_started),
            on(Page.FrameNavigated, self._on_navigated),
            on(Page.FrameStoppedLoading, self._on_stopped),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for remove in self._removes:
            remove()

    async def send(self, commands: Sequence[Command[None]]) -> None:
        """Send input events together: the browser keeps their order."""
        await self.until_dialog(asyncio.gather(*map(self._session.send, commands)))

    async def follow(self, seconds: float) -> None:
        """Wait until the navigation that was requested, if one was, has brought a document or has ended without.

        Args:
            seconds: For all of it; when they are over, that is no failure.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                # The page reports a navigation that an event has begun before it answers this.
                await self.until_dialog(_round_trip(self._session))
                while not self._arrived and not self._over:
                    self._news.clear()
                    requested = self._requested
                    try:
                        async with asyncio.timeout(_START_SECONDS if requested else None):
                            await self._news.wait()
                    except TimeoutError:
                        if requested and self._requested and self._dialogs <= 0:
                            return
                    await self._dialogs_closed()

    async def until_dialog(self, work: Awaitable[Any]) -> None:
        """Wait for `work`, or until a dialog opens that stays open; nothing is waited for after that."""
        future = asyncio.ensure_future(work)
        future.add_done_callback(mark_retrieved)
        news: asyncio.Task[Any] | None = None
        try:
            while not future.done() and not self._over:
                self._news.clear()
                news = asyncio.ensure_future(self._news.wait())
                await asyncio.wait([future, news], return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
                await self._dialogs_closed()
            if future.done():
                future.result()
        except TargetClosed as error:
            if error.reason != "closed":
                raise
            self._over = True
        finally:
            if news is not None:
                news.cancel()
            if not future.done():
                future.cancel()
                await asyncio.wait([future])

    async def _dialogs_closed(self) -> None:
        """Wait for open dialogs to be closed; when one stays open, nothing more is waited for."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                while self._dialogs > 0:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            self._over = True

    def _on_dialog(self, more: int) -> None:
        self._dialogs = max(self._dialogs + more, 0)
        self._news.set()

    def _on_requested(self, event: Page.FrameRequestedNavigation) -> None:
        if event.frame_id == self._frame and event.disposition == "currentTab":
            self._arrived = False
            self._requested = True
            self._news.set()

    def _on_started(self, event: Page.FrameStartedNavigating) -> None:
        if event.frame_id == self._frame and not event.navigation_type.endswith("ameDocument"):
            self._arrived = False
            self._requested = False
            self._starts = True
            self._news.set()

    def _on_navigated(self, event: Page.FrameNavigated) -> None:
        # Without a start, older browsers do not report any.
        if event.frame.id == self._frame and not (self._requested and self._starts):
            self._on_end()

    def _on_stopped(self, event: Page.FrameStoppedLoading) -> None:
        if event.frame_id == self._frame and not self._requested:
            self._on_end()

    def _on_end(self) -> None:
        self._arrived = True
        self._requested = False
        self._news.set()


async def _round_trip(session: CDPSession) -> None:
    with suppress(CommandError):  # the page has navigated already
        await session.send(Runtime.evaluate("0"))
