"""`Live`: who watches which browser, with which right, and how each view ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID
from weakref import WeakKeyDictionary

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from cdpbridge.cdp import Connection
from cdpbridge.errors import CDPError, TargetClosed
from cdpbridge.server._tokens import BrowserTokens
from cdpbridge.server.gateway import NotReachable
from cdpbridge.server.limits import TOO_MANY_TEXT, Border

from ._cast import Picture
from ._ended import Outcome
from ._messages import Hello, read_message
from ._saved import SavedFiles
from ._viewer import Viewer
from ._watched import Tab, Viewing, Watched

__all__ = ["Live"]

logger = logging.getLogger("cdpbridge.server")

_MAX_HELLO: Final = 1000  # characters
_SETTLED_SECONDS: Final = 5.0
"""Seconds that the books of an ended browser may take to be closed."""
_POLL_SECONDS: Final = 0.05
_STILL_SECONDS: Final = 3.0
_STILL_AGE_SECONDS: Final = 5.0
_MAX_VIEWERS: Final = 100
_PER_SECOND: Final = 30.0

# RFC 6455 section 7.4.2 leaves 4000 and up to applications.
_ENDED, _UNKNOWN, _CUT, _BUSY, _ELSEWHERE = 4410, 4404, 4403, 4429, 4421
# The IANA registry of close codes.
_TRY_AGAIN: Final = 1013


class Live:
    """The live view of every browser of this server.

    Args:
        connect: Our own connection to a browser, None when it does not run; see `BrowserHosts.connection`.
        outcome: How a browser ended; None while it has not.
        tokens: Of live addresses.
        view_share: Returns the browser that a share shows, by its token, and counts the view; None without such a share.
        check_runs_nowhere: Raises `NotReachable` for a browser that runs where this server does not reach it; default: all run here.
        saved: What browsers have downloaded.
        record: The messages that show what an ended browser's session did; sent before its end.
        max_per_second: Pictures of one page.
        border: Limits until a viewer's credential was accepted; default: new ones.

    Attributes:
        ignored: Messages of viewers who had no right to them, since the start.
    """

    def __init__(
        self,
        connect: Callable[[UUID], Awaitable[Connection | None]],
        outcome: Callable[[UUID], Awaitable[Outcome | None]],
        tokens: BrowserTokens,
        *,
        view_share: Callable[[str], Awaitable[UUID | None]],
        check_runs_nowhere: Callable[[UUID], Awaitable[None]] | None = None,
        saved: SavedFiles | None = None,
        record: Callable[[UUID], AsyncGenerator[dict[str, Any]]] | None = None,
        max_per_second: float = _PER_SECOND,
        border: Border | None = None,
    ) -> None:
        self._border = border or Border.of()
        self.ignored = 0
        self._connect = connect
        self._outcome = outcome
        self._tokens = tokens
        self._view_share = view_share
        self._check_runs_nowhere = check_runs_nowhere
        self._saved = saved
        self._record = record
        self._max_per_second = max_per_second
        self._watched: dict[UUID, Watched] = {}
        self._orders: WeakKeyDictionary[Connection, list[str]] = (
            WeakKeyDictionary()
        )  # of tabs, for later viewers
        self._opening: dict[UUID, asyncio.Lock] = {}
        self._by_share: dict[str, set[asyncio.Task[None]]] = {}
        self._viewers: dict[UUID, set[Viewer]] = {}
        self._stills: dict[UUID, Picture] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- addresses ------------------------------------------------------------------------------------------------

    @staticmethod
    def share_url(token: str, base: str) -> str:
        """Return the address of a public share: to watch, not to take over."""
        return f"{base}/share/{token}"

    def viewers(self, browser_id: UUID) -> int:
        """Return how many watch a browser now."""
        return len(self._viewers.get(browser_id, ()))

    # --- stills ---------------------------------------------------------------------------------------------------

    async def thumbnail(self, browser_id: UUID) -> bytes | None:
        """Return a JPEG of the page in front, at most 5 s old; None when there is none to be had.

        Who watches has it already; else the page is watched until its first picture.
        """
        now = asyncio.get_running_loop().time()
        watched = self._watched.get(browser_id)
        if watched is not None and (latest := watched.latest()) is not None:
            return latest.jpeg
        still = self._stills.get(browser_id)
        if still is not None and now - still.at < _STILL_AGE_SECONDS:
            return still.jpeg
        glance = _Glance()
        try:
            async with asyncio.timeout(_STILL_SECONDS), self.watching(browser_id, glance) as runs:
                if not runs:
                    self._stills.pop(browser_id, None)
                    return None
                still = self._stills[browser_id] = await glance.taken
        except (TimeoutError, CDPError) as error:
            logger.debug("browser %s: no still: %s", browser_id, error)
            return None
        return still.jpeg

    # --- viewers of our own ---------------------------------------------------------------------------------------

    @asynccontextmanager
    async def watching(self, browser_id: UUID, viewer: Viewing) -> AsyncGenerator[bool]:
        """Let a viewer of ours see a browser while the block runs; give True if the browser runs at all.

        Raises:
            CDPError: The browser does not answer.
        """
        watched = await self._watch(browser_id)
        if watched is None:
            yield False
            return
        watched.enter(viewer)
        try:
            yield True
        finally:
            await self._leave(browser_id, watched, viewer)

    # --- a viewer -------------------------------------------------------------------------------------------------

    async def serve(self, socket: WebSocket) -> None:
        """Serve a viewer's WebSocket, from its first message to its end."""
        await socket.accept()
        try:
            async with asyncio.timeout(self._border.limits.hello_seconds):
                text = await socket.receive_text()
        except (TimeoutError, WebSocketDisconnect, KeyError):  # KeyError: it began with a binary frame
            await _close(socket, _UNKNOWN)
            return
        hello = read_message(text) if len(text) <= _MAX_HELLO else "too long"
        if not isinstance(hello, Hello):
            await _close(socket, _UNKNOWN)
            return
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(self._show(socket, hello))
        # Before the share is looked up: one that is cut meanwhile is cut here too.
        if hello.share:
            self._by_share.setdefault(hello.token, set()).add(task)
        try:
            await asyncio.wait({task})
            if not task.cancelled():
                task.result()
            elif hello.share:
                await _end(socket, _CUT, "Sharing has ended", "The share of this browser was deleted.")
        finally:
            task.cancel()
            if hello.share:
                members = self._by_share.get(hello.token, set())
                members.discard(task)
                if not members:
                    self._by_share.pop(hello.token, None)

    async def cut_share(self, token: str) -> None:
        """Close every viewer of a share at once; call it when the share is deleted."""
        tasks = self._by_share.pop(token, set())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _show(self, socket: WebSocket, hello: Hello) -> None:
        browser_id = await self._view_share(hello.token) if hello.share else self._tokens.read(hello.token)
        if browser_id is None:
            wait = self._border.wrong_token(socket.client.host if socket.client else None, hello.token)
            if wait is not None:
                await _end(socket, _BUSY, "Too many attempts", f"{TOO_MANY_TEXT} ({wait} s).")
                return
            text = (
                "The share may have been taken back."
                if hello.share
                else "The address may be cut off or mistyped."
            )
            await _end(socket, _UNKNOWN, "Nothing to see here", text)
            return
        limits = self._border.limits
        # Absent when another server than ours runs the application.
        admit: Callable[[int], object] = socket.scope.get("state", {}).get("admit", int)
        admit(limits.viewer_bytes if hello.share else limits.driver_bytes)
        if self.viewers(browser_id) >= _MAX_VIEWERS:
            await _end(
                socket, _BUSY, "Too many viewers", f"{_MAX_VIEWERS} people watch this browser already."
            )
            return
        try:
            watched = await self._watch(browser_id)
        except CDPError as error:
            logger.debug("browser %s cannot be watched: %s", browser_id, error)
            watched = None
        if watched is None:
            try:
                if self._check_runs_nowhere is not None:
                    await self._check_runs_nowhere(browser_id)
            except NotReachable as error:
                if error.status == HTTPStatus.MISDIRECTED_REQUEST:
                    text = str(error)
                    await _end(socket, _ELSEWHERE, "On another server", f"{text[:1].upper()}{text[1:]}.")
                else:
                    await _close(socket, _TRY_AGAIN)  # its page does
                return
            await self._say_ended(socket, browser_id, money=not hello.share)
            return
        viewer = Viewer(
            socket,
            watched,
            may_drive=not hello.share,
            count_ignored=self._count_ignored,
            browser_id=browser_id,
            saved=self._saved,
        )
        viewers = self._viewers.setdefault(browser_id, set())
        viewers.add(viewer)
        try:
            await viewer.run()
        finally:
            viewers.discard(viewer)
            if not viewers:
                self._viewers.pop(browser_id, None)
            await self._leave(browser_id, watched)
        if viewer.ended_by_browser.is_set():
            await self._say_ended(socket, browser_id, money=not hello.share)

    def _count_ignored(self) -> None:
        self.ignored += 1

    async def _watch(self, browser_id: UUID) -> Watched | None:
        """Watch the browser, if it is not watched yet; None when it does not run."""
        try:
            return await self._watch_once(browser_id)
        finally:
            self._tidy(browser_id)

    def _tidy(self, browser_id: UUID) -> None:
        lock = self._opening.get(browser_id)
        if lock is not None and browser_id not in self._watched and not lock.locked():
            del self._opening[browser_id]

    async def _watch_once(self, browser_id: UUID) -> Watched | None:
        async with self._opening.setdefault(browser_id, asyncio.Lock()):
            watched = self._watched.get(browser_id)
            if watched is not None and not watched.closed and not watched.connection.closed:
                return watched
            connection = await self._connect(browser_id)
            if connection is None or connection.closed:
                return None
            watched = Watched(
                connection,
                max_per_second=self._max_per_second,
                order=self._orders.setdefault(connection, []),
            )
            try:
                await watched.open()
            except BaseException:
                await watched.close()
                raise
            self._watched[browser_id] = watched
            return watched

    async def _leave(self, browser_id: UUID, watched: Watched, viewer: Viewing | None = None) -> None:
        if viewer is not None:
            watched.leave(viewer)
        if not watched.viewers:
            if self._watched.get(browser_id) is watched:
                del self._watched[browser_id]
                self._tidy(browser_id)
            await watched.close()

    async def _say_ended(self, socket: WebSocket, browser_id: UUID, *, money: bool) -> None:
        outcome = await self._settled(browser_id)
        if outcome is not None and self._record is not None:
            async with aclosing(self._record(browser_id)) as messages:
                async for message in messages:
                    if not await _tell(socket, message):
                        return
        if outcome is None:
            await _end(socket, _ENDED, "Session ended", "This browser is not running.")
        else:
            await _end(socket, _ENDED, *outcome.words(money=money))

    async def _settled(self, browser_id: UUID) -> Outcome | None:
        """Return how it ended, as soon as that is booked."""
        try:
            async with asyncio.timeout(_SETTLED_SECONDS):
                while (outcome := await self._outcome(browser_id)) is None:  # noqa: ASYNC110  # the database sends no event
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            return None
        return outcome


class _Glance:
    """A viewer that wants one picture."""

    may_drive = driving = is_person = False
    per_second = 1.0

    def __init__(self) -> None:
        self.pinned: str | None = None
        self.taken: asyncio.Future[Picture] = asyncio.get_running_loop().create_future()

    def offer(self, picture: Picture) -> bool:
        if not self.taken.done():
            self.taken.set_result(picture)
        return False

    def switched(self, latest: Picture | None) -> None:
        if latest is not None:
            self.offer(latest)

    def changed(self) -> None:
        """Do nothing: it has no status."""

    def icon(self, tab: Tab) -> None:
        """Do nothing: it has no icons."""

    def browser_ended(self) -> None:
        if not self.taken.done():
            self.taken.set_exception(TargetClosed("closed", target="the browser"))


async def _end(socket: WebSocket, code: int, title: str, text: str) -> None:
    """Tell a viewer how it ends, and part."""
    if await _tell(socket, {"type": "end", "title": title, "text": text}):
        await _close(socket, code)


async def _tell(socket: WebSocket, message: dict[str, Any]) -> bool:
    """Send a message; False when the viewer has left."""
    if socket.application_state is not WebSocketState.CONNECTED:
        return False
    try:
        await socket.send_json(message)
    except (WebSocketDisconnect, RuntimeError):
        return False
    return True


async def _close(socket: WebSocket, code: int) -> None:
    if (
        socket.application_state is WebSocketState.CONNECTED
        and socket.client_state is WebSocketState.CONNECTED
    ):
        try:
            await socket.close(code)
        except RuntimeError as error:  # it was closed meanwhile
            logger.debug("a viewer's socket: %s", error)
