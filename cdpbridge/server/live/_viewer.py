"""`Viewer`: one person's socket. News waits in one slot per kind, so a slow connection drops some and never queues it.

A viewer is in one of two states. While it watches, it may choose a tab and answer a dialog; everything else that it sends by hand is
ignored and counted. While it drives, all of that acts on the browser. `Drive` leads from one to the other, for a credential that allows it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final
from uuid import UUID

from starlette.websockets import WebSocket, WebSocketDisconnect

from cdpbridge._concurrency import TaskSet
from cdpbridge.errors import CDPError

from . import _drive as drive
from ._cast import Cast, Picture
from ._input import Hands, Input
from ._messages import (
    Ack,
    Compose,
    Copy,
    Dialog,
    Drive,
    Fetch,
    Files,
    Go,
    Hello,
    Key,
    Message,
    Mouse,
    Paste,
    Reload,
    Tab,
    Text,
    Touch,
    View,
    Wheel,
    picture_head,
    read_message,
)
from ._saved import SavedFiles
from ._watched import Tab as BrowserTab
from ._watched import Watched

__all__ = ["Viewer"]

logger = logging.getLogger("cdpbridge.server")

_IN_FLIGHT: Final = 3
"""Pictures sent and not yet on the screen. At 100 ms of distance that is 30 a second."""
_MAX_MALFORMED: Final = 100
_CANCEL_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 1.0
"""Between two looks into the folder of downloads, which sends no event when it changes."""


class Viewer:
    """A viewer of a browser, from the accepted credential to the end of the socket.

    Args:
        may_drive: The credential allows taking over; without, everything that is sent by hand is ignored and counted.
        count_ignored: Called for each message that was.
        browser_id: Of the browser, for its files.
        saved: What it has downloaded; listed and given to a viewer that has taken over.

    Attributes:
        pinned: The tab it has chosen; None follows the active one.
        driving: It has taken over.
        ignored: Messages that it had no right to.
        dropped: Pictures that were replaced by newer ones before they were sent.
    """

    def __init__(
        self,
        socket: WebSocket,
        watched: Watched,
        *,
        may_drive: bool,
        count_ignored: Callable[[], object] = lambda: None,
        browser_id: UUID | None = None,
        saved: SavedFiles | None = None,
    ) -> None:
        self.pinned: str | None = None
        self.may_drive = may_drive
        self.driving = False
        self.is_person = True
        self.per_second = math.inf
        self.ignored = 0
        self.dropped = 0
        self.ended_by_browser = asyncio.Event()
        self._socket = socket
        self._watched = watched
        self._count_ignored = count_ignored
        self._browser_id = browser_id
        self._saved = saved
        self._hands = Hands()
        self._hands_on: Cast | None = None
        self._news: dict[str, dict[str, Any]] = {}
        self._last_status: dict[str, Any] | None = None
        self._picture: Picture | None = None
        self._has_picture = False
        self._sent = 0
        self._seen = 0
        self._wake = asyncio.Event()
        self._malformed = 0
        self._tasks = TaskSet(logger)

    # --- news of the browser --------------------------------------------------------------------------------------

    def offer(self, picture: Picture) -> bool:
        """Take a picture; return True if it replaced one that was not sent."""
        replaced = self._picture is not None
        self.dropped += replaced
        self._picture = picture
        self._wake.set()
        return replaced

    def switched(self, latest: Picture | None) -> None:
        """Show another page from now on, whose last picture this is."""
        self._release()
        self._picture = latest
        self._has_picture = False
        self._wake.set()

    def changed(self) -> None:
        """Send the status again if it differs from the last one."""
        status = self._status()
        if status != self._last_status:
            self._last_status = status
            self._say("status", **status)

    def icon(self, tab: BrowserTab) -> None:
        """Send the new icon of a tab."""
        self._say("icon", key=f"icon {tab.id}", tab=tab.id, data=tab.icon or "")

    def browser_ended(self) -> None:
        """End: there is nothing more to see."""
        self.ended_by_browser.set()

    def _say(self, kind: str, *, key: str | None = None, **content: Any) -> None:
        self._news[key or kind] = {"type": kind, **content}
        self._wake.set()

    def _status(self) -> dict[str, Any]:
        watched, cast = self._watched, self._watched.cast_of(self)
        return {
            "tabs": [{"id": tab.id, "title": tab.title, "url": tab.url} for tab in watched.tabs.values()],
            "tab": cast.target_id if cast is not None else None,
            "following": self.pinned is None,
            "state": self._state(cast),
            "busy": cast is not None and cast.busy,
            "back": cast is not None and cast.history[0],
            "forward": cast is not None and cast.history[1],
            "dialog": _dialog(cast),
            "chooser": None if cast is None or cast.chooser is None else cast.chooser["mode"],
            "downloads": [
                {
                    "name": each.name,
                    "received": each.received,
                    "total": each.total,
                    "state": each.state,
                    "elsewhere": self._is_elsewhere(each.path),
                }
                for each in watched.downloads.values()
            ],
            "viewers": sum(viewer.is_person for viewer in watched.viewers),
            "drivers": sum(viewer.driving for viewer in watched.viewers),
            "driving": self.driving,
            "mayDrive": self.may_drive,
        }

    def _is_elsewhere(self, path: str | None) -> bool:
        """Whether a client has sent a file to a folder of its own, where this viewer cannot get it."""
        if path is None or self._saved is None or self._browser_id is None:
            return False
        return not self._saved.keeps(self._browser_id, path)

    def _state(self, cast: Cast | None) -> str:
        if cast is None:
            return "loading" if self._watched.tabs else "empty"
        if cast.crashed:
            return "crashed"
        return "live" if self._has_picture else "loading"

    # --- the socket -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the viewer until it leaves, the browser ends, or the task is cancelled."""
        self._watched.enter(self)
        loop = asyncio.get_running_loop()
        parts = [loop.create_task(work) for work in (self._read(), self._write(), self._report_saved())]
        ended = loop.create_task(self.ended_by_browser.wait())
        try:
            done, _ = await asyncio.wait({*parts, ended}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {ended}:
                task.result()
        except WebSocketDisconnect:
            pass
        finally:
            for task in (*parts, ended):
                task.cancel()
            self._release()
            self.driving = False
            self._watched.leave(self)
            await asyncio.wait({*parts, ended})
            await self._tasks.cancel(_CANCEL_SECONDS)

    async def _write(self) -> None:
        socket = self._socket
        while True:
            self._wake.clear()
            while self._news:
                key = next(iter(self._news))
                await socket.send_text(json.dumps(self._news.pop(key)))
            picture = self._picture
            if picture is not None and self._sent - self._seen < _IN_FLIGHT:
                self._picture = None
                self._sent += 1
                head = picture_head(self._sent, picture.width, picture.height)
                await socket.send_bytes(head + picture.jpeg)
                if not self._has_picture:
                    self._has_picture = True
                    self.changed()
                continue
            if not self._news:
                await self._wake.wait()

    async def _report_saved(self) -> None:
        """Report which files the browser has saved, while this viewer drives."""
        reported: list[dict[str, Any]] = []
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._saved is None or self._browser_id is None or not self.driving:
                continue
            try:
                listed = await self._saved.listing(self._browser_id)
            except OSError as error:  # a file went while we looked
                logger.debug("downloads of browser %s: %s", self._browser_id, error)
                continue
            files = [{"name": file.name, "size": file.size} for file in listed]
            if files != reported:
                reported = files
                self._say("saved", files=files)

    async def _read(self) -> None:
        while True:
            frame = await self._socket.receive()
            if frame["type"] == "websocket.disconnect":
                return
            message = read_message(frame["text"]) if frame.get("text") is not None else "send text frames"
            if isinstance(message, str):
                self._malformed += 1
                if self._malformed > _MAX_MALFORMED:
                    return
                self._say("notice", text=f"A message was not understood. {message}")
            else:
                await self._take(message)

    # --- what the viewer does -------------------------------------------------------------------------------------

    async def _take(self, message: Message) -> None:
        match message:
            case Hello():
                # It was admitted by one before.
                pass
            case Ack(number=number):
                self._seen = min(max(self._seen, number), self._sent)
                self._wake.set()
            case View(tab=tab):
                self._view(tab)
            case Drive(on=on) if self.may_drive:
                self._drive(on=on)
            case Dialog() if self.may_drive:
                # Also of a viewer that has not taken over: a dialog holds up the whole page.
                await self._act(message)
            case _ if self.driving:
                await self._act(message)
            case _:
                self.ignored += 1
                self._count_ignored()

    def _view(self, tab: str | None) -> None:
        # It may have been closed meanwhile.
        if tab is not None and tab not in self._watched.tabs:
            return
        self.pinned = tab
        if self.driving and tab is not None:
            self._start(drive.show_tab(self._watched, tab))
        self._watched.settle()

    def _drive(self, *, on: bool) -> None:
        """Take the browser over, or release it."""
        self.driving = on
        if not on:
            self._release()
            self.pinned = None
        elif (cast := self._watched.cast_of(self)) is not None:
            self._start(drive.show_tab(self._watched, cast.target_id))
        self._watched.settle()

    async def _act(self, message: Message) -> None:
        """Act for a viewer: on the browser, or on the page that it sees.

        Input and the clipboard are awaited, so that they keep their order. What may open a dialog runs beside the reading of messages,
        or the answer to that dialog would never be read.
        """
        watched, cast = self._watched, self._watched.cast_of(self)
        match message:
            case Tab():
                self._start(drive.tab(watched, message))
            case Fetch(name=name):
                self._start(self._fetch(name))
            case _ if cast is not None:
                await self._act_on_page(cast, message)

    async def _act_on_page(self, cast: Cast, message: Message) -> None:
        match message:
            case Mouse() | Wheel() | Touch() | Key() | Text() | Compose():
                self._input(cast, message)
            case Paste(text=text):
                await self._notify_if_it_fails(drive.paste(cast, text))
            case Copy():
                await self._notify_if_it_fails(self._copy(cast))
            case Go():
                self._start(drive.go(cast, message))
            case Reload():
                self._start(drive.reload(self._watched, cast))
            case Dialog():
                self._start(drive.answer_dialog(cast, message))
            case Files():
                self._start(drive.choose_files(cast, message))

    def _input(self, cast: Cast, message: Input) -> None:
        self._hands_on = cast
        cast.input(*self._hands.call(message))

    def _release(self) -> None:
        cast, self._hands_on = self._hands_on, None
        for call in self._hands.release():
            if cast is not None:
                cast.input(*call)

    async def _copy(self, cast: Cast) -> None:
        if text := await drive.selected_text(cast):
            self._say("clipboard", text=text)

    async def _fetch(self, name: str) -> str | None:
        address = None
        if self._saved is not None and self._browser_id is not None:
            address = await self._saved.address(self._browser_id, name)
        if address is None:
            return "The browser does not have that file any more."
        self._say("file", key=f"file {name}", name=name, path=address)
        return None

    def _start(self, work: Coroutine[Any, Any, str | None]) -> None:
        self._tasks.start(self._notify_if_it_fails(work), "an action of a viewer")

    async def _notify_if_it_fails(self, work: Awaitable[str | None]) -> None:
        try:
            said = await work
        except CDPError as error:
            logger.debug("an action of a viewer failed: %s", error)
            said = "The page did not do that in time, or refused it."
        if said:
            self._say("notice", text=said)


def _dialog(cast: Cast | None) -> dict[str, Any] | None:
    if cast is None or cast.dialog is None:
        return None
    about = cast.dialog
    return {
        "kind": about["type"],
        "message": about["message"],
        "default": about.get("defaultPrompt", ""),
        "url": about["url"],
    }
