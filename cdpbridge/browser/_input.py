"""Send input events to a page, and follow a navigation that they begin."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cdpbridge.errors import CommandError, TargetClosed
from cdpbridge.protocol import Command, Page, Runtime

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession

__all__ = ["send_input"]


async def send_input(
    session: CDPSession, commands: Sequence[Command[None]], *, follow_seconds: float = 0.0
) -> None:
    """Send input events together: the browser keeps their order.

    A dialog that one of them opens holds back their replies, so this returns then.

    A page that they close does not reply either; that is no failure.

    Args:
        follow_seconds: How long to wait for the document of a navigation that they have begun in the page; 0: not at all.
    """
    watch = _Watch(session)
    try:
        await watch.until_dialog(asyncio.gather(*map(session.send, commands)))
        if follow_seconds:
            # The page reports a navigation that an event has begun before it answers this.
            await watch.until_dialog(asyncio.ensure_future(_round_trip(session)))
            await watch.followed(follow_seconds)
    except TargetClosed as error:
        if error.reason != "closed":
            raise
    finally:
        watch.close()


async def _round_trip(session: CDPSession) -> None:
    with suppress(CommandError):  # the page has navigated already
        await session.send(Runtime.evaluate("0"))


class _Watch:
    """Hears what the input of a page brings about."""

    def __init__(self, session: CDPSession) -> None:
        loop = asyncio.get_running_loop()
        self._frame = session.target_id  # Chrome's main frame has the id of its page
        self._dialog: asyncio.Future[None] = loop.create_future()
        self._arrived: asyncio.Future[None] | None = None
        self._removes: list[Callable[[], None]] = [
            session.on(Page.JavascriptDialogOpening, self._on_dialog),
            session.on(Page.FrameRequestedNavigation, self._on_requested),
            session.on(Page.FrameNavigated, lambda event: self._on_arrived(event.frame.id)),
            session.on(Page.FrameStoppedLoading, lambda event: self._on_arrived(event.frame_id)),
        ]

    def close(self) -> None:
        for remove in self._removes:
            remove()
        self._dialog.cancel()

    async def until_dialog(self, work: asyncio.Future[Any]) -> None:
        """Wait for `work`, or until a dialog opens."""
        try:
            await asyncio.wait([work, self._dialog], return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait([work])

    async def followed(self, seconds: float) -> None:
        """Wait until the navigation that was requested, if one was, has brought a document or has ended without."""
        if self._arrived is not None and not self._dialog.done():
            await asyncio.wait(
                [self._arrived, self._dialog], timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )

    def _on_dialog(self, _event: Page.JavascriptDialogOpening) -> None:
        if not self._dialog.done():
            self._dialog.set_result(None)

    def _on_requested(self, event: Page.FrameRequestedNavigation) -> None:
        if event.frame_id == self._frame and event.disposition == "currentTab":
            self._arrived = asyncio.get_running_loop().create_future()

    def _on_arrived(self, frame_id: str) -> None:
        if frame_id == self._frame and self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)
