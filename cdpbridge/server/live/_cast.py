"""`Cast`: the live view's own attachment to one page, shared by all who watch it.

It sets no device metrics and brings nothing to the front, so the page cannot tell that it is watched (measured: no focus,
visibility or resize event). A hidden page sends no picture and costs nothing, but says when it comes to the front.

Few pictures. Chromium (156) captures every frame of a page in motion, acknowledged or not. Where few are wanted, the screencast is
off between two of them, which costs the browser half as much; it begins with the page as it is then. That is distinguished from a page
at rest by its being another picture than the last.

Dialogs. With the Page domain on, Chromium holds a dialog open until some client answers; without it, the headless shell
dismisses it at once (156). So the domain is on only while a viewer watches who could answer. It never answers by itself, and
as leaving a page dismisses its open dialog, an open dialog is waited for: the automation may be about to answer it.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final, Protocol

from cdpbridge.cdp import CDPSession, Connection
from cdpbridge.errors import CDPError, CommandError, CommandTimeout, TargetClosed, TargetCrashed

from ._pace import Pace

__all__ = ["Cast", "CastOwner", "Picture", "Wants"]

logger = logging.getLogger("cdpbridge.server")

_TIMEOUT: Final = timedelta(seconds=5)
_PROBE_TIMEOUT: Final = timedelta(seconds=1)
_RETRY_SECONDS: Final = 1.0
_HISTORY_SECONDS: Final = 0.2
# An automation that handles dialogs has done so long before; after that Chromium's own rule holds: without a handler it is dismissed.
_DIALOG_SECONDS: Final = 30.0
_FEW_PER_SECOND: Final = 10
_MAX_INPUT: Final = 256
"""Input on its way to a page that does not take it."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A page as it looked.

    Attributes:
        jpeg: The picture.
        width: Of the page's window, in CSS pixels; the picture may have more or fewer.
        height: As `width`.
        at: By the event loop's clock, in seconds.
    """

    jpeg: bytes = field(repr=False)
    width: float
    height: float
    at: float


@dataclass(frozen=True, slots=True)
class Wants:
    """The needs of a page's viewers: so many pictures a second; dialogs, downloads and history; its file choosers."""

    pictures: float = 0
    events: bool = False
    choosers: bool = False


class CastOwner(Protocol):
    """The listener of a cast."""

    def picture(self, cast: Cast, picture: Picture) -> tuple[int, int]:
        """Offer a picture; return how many viewers it was offered to, and for how many it replaced an unsent one."""

    def changed(self, cast: Cast) -> None:
        """Run when its state has changed."""

    def hidden(self, cast: Cast) -> None:
        """Run when the page is no longer in front."""

    def download(self, event: dict[str, Any]) -> None:
        """`Page.downloadWillBegin` or `Page.downloadProgress`."""

    def ended(self, cast: Cast) -> None:
        """Run at its end: no viewer wants it, or the page was closed."""


class Cast:
    """A page's pictures and events, from the first `want` to the first that wants nothing.

    Attributes:
        target_id: The page.
        latest: The last picture.
        crashed: The page has no renderer; it is looked for a new one every second.
        dialog: The open dialog, as `Page.javascriptDialogOpening` describes it.
        chooser: The open file chooser, as `Page.fileChooserOpened` describes it.
        busy: The page is loading.
        history: Whether it can go back, and forward.
    """

    def __init__(self, connection: Connection, target_id: str, owner: CastOwner) -> None:
        self.target_id = target_id
        self.latest: Picture | None = None
        self.crashed = False
        self.dialog: dict[str, Any] | None = None
        self.chooser: dict[str, Any] | None = None
        self.busy = False
        self.history = (False, False)
        self._connection = connection
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._session: CDPSession | None = None
        self._wants = Wants()
        self._has = Wants()
        self._pace = Pace(1)
        self._quality = 0
        self._rest: asyncio.TimerHandle | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._resumed = False
        self._data = ""
        self._wake = asyncio.Event()
        self._held_since: float | None = None
        self._input = 0
        self._page_closed = False
        self._down = False
        self.task = connection.create_task(self._run())

    # --- what the owner does --------------------------------------------------------------------------------------

    def want(self, wants: Wants) -> None:
        """Set what is needed from now on. The cast ends when that is nothing, and `ended` is called."""
        if wants != self._wants:
            self._wants = wants
            self._wake.set()

    def page_closed(self) -> None:
        """End: the page was closed."""
        self._page_closed = True
        self._wake.set()

    async def send(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a command to the page, in bounded time.

        Raises:
            CDPError: Refused, not answered, or the page was closed.
        """
        if self._session is None:
            raise CommandTimeout(
                method, target="the page", waited=timedelta(0), hint="it is not attached yet"
            )
        return await self._session.send(method, params or {}, timeout=_TIMEOUT)

    def input(self, method: str, params: dict[str, Any]) -> None:
        """Input for the page; in order, not waited for. A page that takes none gets no more than a few."""
        if self._session is None or self.dialog is not None or self._input >= _MAX_INPUT:
            logger.debug("input for a page that takes none is dropped")
            return
        self._input += 1
        self._connection.create_task(self._dispatch(self._session, method, params))

    async def _dispatch(self, session: CDPSession, method: str, params: dict[str, Any]) -> None:
        try:
            await session.send(method, params, timeout=_TIMEOUT)
        except CDPError as error:  # the page is busy, has a dialog now, or was closed: the viewer sees that
            logger.debug("%s: %s", method, error)
        finally:
            self._input -= 1

    # --- its life -------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while self._wants != Wants() and not self._page_closed:
                try:
                    await self._attached()
                except (CommandError, CommandTimeout, TargetClosed) as error:
                    # A renderer that crashed or hangs may come back; a page that was closed is reported to `page_closed`.
                    logger.debug("page %s cannot be watched now: %s", self.target_id, error)
                    self._note_crash(error)
                else:
                    continue  # no viewer wants it; or one does again, meanwhile
                finally:
                    self._leave_behind()
                self._wake.clear()
                await self._woken(_RETRY_SECONDS)
        except CDPError as error:
            logger.debug("page %s cannot be watched any more: %s", self.target_id, error)
        except Exception:
            logger.exception("watching page %s failed", self.target_id)
        finally:
            self._owner.ended(self)

    def _note_crash(self, error: CDPError) -> None:
        # The second is what Chromium (156) answers on an attachment that is younger than the crash.
        crashed = isinstance(error, TargetCrashed) or (
            isinstance(error, CommandError) and "Target crashed" in str(error)
        )
        if crashed and not self.crashed:
            self.crashed = True
            self._owner.changed(self)

    async def _attached(self) -> None:
        # After a crash too: the attachment from before stays with the crashed renderer.
        session = self._session = await self._connection.attach(self.target_id)
        self._down = False
        try:
            if self.crashed:
                await session.send("Runtime.evaluate", {"expression": "0"}, timeout=_PROBE_TIMEOUT)
                self.crashed = False
                self._owner.changed(self)
            self._listen(session)
            while (wants := self._needed()) != Wants() and not self._page_closed:
                if self._down:
                    raise TargetCrashed(target=session.describe())
                self._wake.clear()
                await self._apply(session, wants)
                await self._woken(_DIALOG_SECONDS if wants != self._wants else None)
        finally:
            if session.closed is None:
                await self._detach(session)

    def _needed(self) -> Wants:
        """Return what is wanted, and for a while the Page domain when leaving it would dismiss a dialog."""
        if self.dialog is None or self._wants.events:
            self._held_since = None
            return self._wants
        now = self._loop.time()
        if self._held_since is None:
            self._held_since = now
        if now - self._held_since >= _DIALOG_SECONDS:
            logger.info("a dialog without an answer for %.0f s is left", _DIALOG_SECONDS)
            return self._wants
        return replace(self._wants, events=True)

    async def _woken(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass  # only to look again

    async def _apply(self, session: CDPSession, wants: Wants) -> None:
        has = self._has
        self._has = wants
        if wants.events != has.events:
            self._connection.create_task(self._observe(session, wants.events))
            # Its command goes first: who has a picture is shown the next dialog, which the shell would dismiss otherwise.
            await asyncio.sleep(0)
        if bool(wants.pictures) != bool(has.pictures):
            await (self._begin(session, wants.pictures) if wants.pictures else self._end(session))
        elif wants.pictures != has.pictures:
            self._pace.limit(wants.pictures)
            if self._cancel_pause():
                self._resume(session)
        if wants.choosers != has.choosers:
            self.chooser = None
            params = {"enabled": wants.choosers}
            self._connection.create_task(self._try(session, "Page.setInterceptFileChooserDialog", params))

    async def _observe(self, session: CDPSession, on: bool) -> None:
        # While a dialog is open that came before, this is not answered; pictures do not wait for it.
        await self._try(session, "Page.enable" if on else "Page.disable", {})
        if on:
            await self._read_history(session)

    async def _detach(self, session: CDPSession) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT.total_seconds()):
                await session.detach()
        except (CDPError, TimeoutError) as error:
            logger.debug("page %s: %s", self.target_id, error)

    def _leave_behind(self) -> None:
        self._session, self._has, self._quality = None, Wants(), 0
        self.chooser = self.dialog = None
        self._held_since = None
        self.busy = False
        self._cancel_timers()

    def _listen(self, session: CDPSession) -> None:
        """Hear what the page tells. `Page` is enabled elsewhere, only for as long as a viewer needs it."""
        for event, handler in {
            "Page.screencastFrame": lambda event: self._picture(session, event),
            "Page.screencastVisibilityChanged": self._visibility,
            "Inspector.targetCrashed": self._crashed,
            "Page.javascriptDialogOpening": self._dialog,
            "Page.javascriptDialogClosed": lambda _event: self._dialog(None),
            "Page.fileChooserOpened": self._choose,
            "Page.downloadWillBegin": self._owner.download,
            "Page.downloadProgress": self._owner.download,
            "Page.frameStartedLoading": lambda event: self._loading(event, busy=True),
            "Page.frameStoppedLoading": lambda event: self._loading(event, busy=False),
            "Page.frameNavigated": self._navigated,
            "Page.navigatedWithinDocument": self._navigated,
        }.items():
            session.on(event, handler, raw=True)

    # --- pictures -------------------------------------------------------------------------------------------------

    async def _begin(self, session: CDPSession, per_second: float) -> None:
        self._pace = Pace(per_second)
        self._quality = self._pace.quality
        await session.send("Page.startScreencast", self._settings(), timeout=_TIMEOUT)

    async def _end(self, session: CDPSession) -> None:
        self._cancel_timers()
        self.latest = None
        await session.send("Page.stopScreencast", timeout=_TIMEOUT)

    def _cancel_timers(self) -> None:
        self._cancel_pause()
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None

    def _settings(self) -> dict[str, Any]:
        # No maxWidth: the size of the page's own pixels, sharp at every ratio.
        return {"format": "jpeg", "quality": self._quality}

    def _picture(self, session: CDPSession, event: dict[str, Any]) -> None:
        now = self._loop.time()
        self._answer(session, event, now)
        if not self._has.pictures:
            return
        about = event["metadata"]
        self.latest = Picture(
            base64.b64decode(event["data"]), about["deviceWidth"], about["deviceHeight"], now
        )
        offered, dropped = self._owner.picture(self, self.latest)
        self._pace.delivered(offered=offered, dropped=dropped)
        if self._pace.moves(now):
            self._change_quality(session)
        if self._quality != 0 and self._rest is None:
            self._rest = self._loop.call_later(self._pace.rest_seconds, self._look_for_rest, session)

    def _answer(self, session: CDPSession, event: dict[str, Any], now: float) -> None:
        """Ask for the next picture when it is due."""
        params = {"sessionId": event["sessionId"]}
        same, self._data = event["data"] == self._data, event["data"]
        resumed, self._resumed = self._resumed, False
        if self._pause is not None:
            return  # it was on its way when the pause began
        if resumed and same:
            self._acknowledge(session, params)
            return
        due = self._pace.picture(now)
        if due <= now:
            self._acknowledge(session, params)
        elif same or self._has.pictures > _FEW_PER_SECOND:
            self._loop.call_at(due, self._acknowledge, session, params)
        else:
            self._pause = self._loop.call_at(due, self._resume, session)
            self._connection.create_task(self._try(session, "Page.stopScreencast", {}))

    def _cancel_pause(self) -> bool:
        """Cancel the pause; True if there was one."""
        pause, self._pause = self._pause, None
        if pause is not None:
            pause.cancel()
        return pause is not None

    def _resume(self, session: CDPSession) -> None:
        self._pause = None
        if session.closed is None:
            self._resumed = True
            self._connection.create_task(self._try(session, "Page.startScreencast", self._settings()))

    def _acknowledge(self, session: CDPSession, params: dict[str, Any]) -> None:
        if session.closed is None:
            self._connection.create_task(self._try(session, "Page.screencastFrameAck", params))

    def _look_for_rest(self, session: CDPSession) -> None:
        self._rest = None
        if self.latest is None or session.closed is not None:
            return
        if self._pace.rests(self._loop.time()):
            self._change_quality(session)
        elif self._pace.unsettled:
            self._rest = self._loop.call_later(self._pace.rest_seconds, self._look_for_rest, session)

    def _change_quality(self, session: CDPSession) -> None:
        self._quality = self._pace.quality
        if self._pause is not None:
            return  # the end of the pause will do
        # Sent together, in this order: the second gives a picture at once, whether the page moves or not.
        self._connection.create_task(self._try(session, "Page.stopScreencast", {}))
        self._connection.create_task(self._try(session, "Page.startScreencast", self._settings()))

    async def _try(self, session: CDPSession, method: str, params: dict[str, Any]) -> None:
        try:
            await session.send(method, params, timeout=_TIMEOUT)
        except CDPError as error:
            logger.debug("%s: %s", method, error)

    # --- events ---------------------------------------------------------------------------------------------------

    def _crashed(self, _event: dict[str, Any]) -> None:
        self._down = True
        self._wake.set()

    def _visibility(self, event: dict[str, Any]) -> None:
        if not event["visible"]:
            self._owner.hidden(self)

    def _dialog(self, event: dict[str, Any] | None) -> None:
        self.dialog = event
        self._wake.set()
        self._owner.changed(self)

    def _choose(self, event: dict[str, Any]) -> None:
        self.chooser = event
        self._owner.changed(self)

    def choosing_is_over(self) -> None:
        """Note that the chooser has been answered."""
        self.chooser = None
        self._owner.changed(self)

    def _loading(self, event: dict[str, Any], *, busy: bool) -> None:
        if event["frameId"] == self.target_id and busy != self.busy:
            self.busy = busy
            self._owner.changed(self)

    def _navigated(self, event: dict[str, Any]) -> None:
        frame = event.get("frame", {})
        if "parentId" not in frame and self._session is not None:
            self.chooser = None
            self._connection.create_task(self._follow_history(self._session))

    async def _follow_history(self, session: CDPSession) -> None:
        """Update the history: the page's own process reports a navigation, sometimes before the browser has put it into the history."""
        await self._read_history(session)
        await asyncio.sleep(_HISTORY_SECONDS)
        if self._session is session:
            await self._read_history(session)

    async def _read_history(self, session: CDPSession) -> None:
        try:
            found = await session.send("Page.getNavigationHistory", timeout=_TIMEOUT)
        except CDPError as error:
            logger.debug("Page.getNavigationHistory: %s", error)
            return
        at, entries = found["currentIndex"], found["entries"]
        history = (at > 0, at + 1 < len(entries))
        if history != self.history:
            self.history = history
            self._owner.changed(self)
