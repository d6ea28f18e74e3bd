"""One client's WebSocket, relayed to the browser's: bytes pass untouched except for the few messages that concern files.

Commands of a session that is waiting for files are kept in order behind it; other sessions go on. Reading stops on one side while
the other side does not take more, so the memory of a relay is bounded.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import Any, Final, NamedTuple

from cdpbridge._concurrency import TaskSet
from cdpbridge.cdp._frames import Message, Sieve, close_frame
from cdpbridge.errors import CDPBridgeError

from ._control import Control
from ._disk import Disk, log_failure
from ._downloads import Downloads
from ._ends import BrowserEnd, ClientEnd
from ._hiding import Hiding
from ._messages import (
    DETACHED,
    EVENTS,
    FILE_EVENTS,
    FIRST_ID,
    LAST_ID,
    USUAL,
    Command,
    command_frame,
    decoded,
    event_frame,
    files_of,
    is_command,
    is_event,
    opened_command,
    opened_event,
    reply_frames,
)
from ._opening import VERSION_ID
from ._uploads import Uploads

__all__ = ["Files", "Relay"]

logger = logging.getLogger("cdpbridge")

_HIGH_WATER: Final = 1024 * 1024
_LOST: Final = (1011, "the connection to the browser was lost")
_CLOSED: Final = (1001, "the tunnel was closed")
_FLUSH_SECONDS: Final = 3.0


class Files(NamedTuple):
    """What all clients of a tunnel share."""

    disk: Disk
    control: Control


class Relay:
    """A client and the browser, both sockets open and not reading.

    Args:
        client: The client's transport, after the 101 that was passed on.
        browser: The browser's transport.
        pending: What the browser has sent since.
        page: The socket is a page's own (`/devtools/page/...`), not the browser's.
        asked: The browser has been asked for its version, under `VERSION_ID`: a client that asks first of all gets that answer.
    """

    def __init__(
        self,
        client: asyncio.Transport,
        browser: asyncio.Transport,
        pending: bytes,
        files: Files,
        *,
        page: bool,
        asked: bool = False,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._client = client
        self._browser = browser
        self._page = page
        self._control = files.control
        self._downloads = Downloads(files.disk, files.control, self._send_event)
        self._uploads = Uploads(files.disk)
        self._hiding = Hiding(files.control.hidden, self._send_command)
        self._up = Sieve(masked=True, verdict=is_command, passed=browser.write, read=self._take_command)
        self._down = Sieve(
            masked=False,
            verdict=is_event,
            passed=client.write,
            read=self._take_event,
            usual=(USUAL, EVENTS),
        )
        self._up_waiting: list[bytes] = []  # frames of ours that wait for a boundary
        self._down_waiting: list[bytes] = []
        self._lines: dict[str, deque[tuple[Message, Command]]] = {}
        self._paths: dict[str, tuple[str, ...]] = {}  # of sessions in messages of other ones
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._first = asked  # the client's first message has not come, and may ask for the version
        if asked:
            self._replies[VERSION_ID] = self._loop.create_future()
            self._up.everything = True
        self._next_id = FIRST_ID + 1
        self._tasks = TaskSet(logger)
        self._listening = False
        self._browser_closed = False
        self._browser_ended: asyncio.Future[None] = self._loop.create_future()
        for transport, end in ((client, ClientEnd(self)), (browser, BrowserEnd(self))):
            transport.set_protocol(end)
            transport.set_write_buffer_limits(_HIGH_WATER)
        files.control.when_hiding(self._hide)
        if pending:
            self.from_browser(pending)
        client.resume_reading()
        browser.resume_reading()

    @property
    def had_asked(self) -> bool:
        """True if the client has said what becomes of downloads."""
        return self._downloads.asked

    # --- bytes ----------------------------------------------------------------------------------------------------

    def from_client(self, data: bytes) -> None:
        """Take bytes of the client."""
        if self._browser_closed:
            return
        self._up.feed(data)
        if self._up_waiting and self._up.at_boundary:
            self._flush_up()

    def from_browser(self, data: bytes) -> None:
        """Take bytes of the browser."""
        if self._browser_closed:
            return
        if self._down_waiting and (left := self._down.left):  # the boundary may be within the chunk
            self._down.feed(data[:left])
            data = data[left:]
            if self._down.at_boundary:
                self._flush_down()
        if data:
            self._down.feed(data)
        if self._down_waiting and self._down.at_boundary:
            self._flush_down()

    def _send_up(self, frame: bytes) -> None:
        self._up_waiting.append(frame)
        if self._up.at_boundary:
            self._flush_up()

    def _send_down(self, frame: bytes) -> None:
        self._down_waiting.append(frame)
        if self._down.at_boundary:
            self._flush_down()

    def _flush_up(self) -> None:
        frames, self._up_waiting = self._up_waiting, []
        if not self._browser.is_closing():
            self._browser.write(b"".join(frames))

    def _flush_down(self) -> None:
        frames, self._down_waiting = self._down_waiting, []
        if not self._client.is_closing():
            self._client.write(b"".join(frames))

    # --- commands -------------------------------------------------------------------------------------------------

    def _take_command(self, message: Message) -> None:
        """Handle a message of the client, at its place in the stream."""
        command = opened_command(message.payload)
        if self._first:
            self._first = self._up.everything = False
            if command is not None and self._knows(command):
                return
        line = None if command is None else self._lines.get(command.session)
        if command is not None and line is not None:
            line.append((message, command))
            return
        now = message.raw
        if command is not None:
            if len(command.path) > 1:
                self._paths[command.session] = command.path
            if self._waits(command):
                self._lines[command.session] = deque([(message, command)])
                self._up.everything = True
                self._tasks.start(self._work_off(command.session), "bringing a client's files to the browser")
                return
            changed = self._rewritten(command)
            now = message.raw if changed is None else changed
        if now and not self._browser.is_closing():
            self._browser.write(now)

    def _knows(self, command: Command) -> bool:
        """Answer a client's first command, if it asks for the version and the browser has answered that; return whether."""
        version = self._replies.pop(VERSION_ID)
        asks = command.body.get("method") == "Browser.getVersion" and command.path == ("",)
        known = asks and version.done() and "result" in version.result()
        if known:
            self._answer(command, {"result": version.result()["result"]})
        return known

    def _waits(self, command: Command) -> bool:
        """Return True if a command cannot be sent on at once."""
        method, parameters = command.body.get("method"), command.body.get("params")
        if not isinstance(parameters, dict):
            return False
        if method == "Page.setDownloadBehavior":
            return parameters.get("behavior") == "allow"
        if method == "Browser.setDownloadBehavior":
            own_socket = self._page or command.session != ""
            return own_socket and parameters.get("behavior") in {"allow", "allowAndName"}
        if method == "DOM.getFileInfo":
            return self._uploads.any
        files = files_of(method, parameters)
        return any(self._uploads.concerns(path) for path in files or ())

    def _rewritten(self, command: Command) -> bytes | None:
        """Return the frame to send instead of a command's own; None: its own; empty: none, it has been answered."""
        method, parameters = command.body.get("method"), command.body.get("params")
        if not isinstance(parameters, dict):
            return None
        if method == "Browser.setDownloadBehavior":
            changed = self._downloads.rewritten(command.session, parameters)
            return None if changed is None else command.frame(command.body | {"params": changed})
        if method == "Page.setDownloadBehavior":  # one that saves nothing
            self._downloads.asked = True
        if method == "Browser.cancelDownload" and self._downloads.cancel(str(parameters.get("guid"))):
            self._answer(command, {"result": {}})
            return b""
        return None

    async def _work_off(self, session: str) -> None:
        """Send what waits in a session, one command after the other."""
        line = self._lines[session]
        try:
            while line:
                message, command = line[0]
                frame: bytes | None = None
                if self._waits(command):
                    try:
                        frame = await self._prepared(command)
                    except Exception as error:  # noqa: BLE001  # the client gets an answer in any case
                        log_failure("files could not be brought to the browser", error)
                        text = f"cdpbridge: the files could not be brought to the browser: {error}"
                        self._answer(command, {"error": {"code": -32000, "message": text}})
                        frame = b""
                else:
                    frame = self._rewritten(command)
                line.popleft()
                if frame is None:
                    frame = message.raw
                if frame:
                    self._send_up(frame)
        finally:
            del self._lines[session]
            self._up.everything = bool(self._lines)

    async def _prepared(self, command: Command) -> bytes | None:
        """Do what a command waits for; return as `_rewritten`."""
        body, session = command.body, command.session
        method, parameters = body["method"], body["params"]
        if method == "Browser.setDownloadBehavior":
            await self._listen(parameters.get("browserContextId"))
            return self._rewritten(command)
        if method == "Page.setDownloadBehavior":
            context_id = await self._context_of(session)
            await self._listen(context_id)
            changed = self._downloads.rewritten(
                session, parameters | {"browserContextId": context_id, "eventsEnabled": False}
            )
            if changed is None:
                return None
            return command.frame(body | {"method": "Browser.setDownloadBehavior", "params": changed})
        if method == "DOM.getFileInfo":
            self._answer(command, self._uploads.as_given(await self._ask(session, method, parameters)))
            return b""
        there = await self._uploads.put(session, files_of(method, parameters) or [])
        if method == "DOM.setFileInputFiles":
            return command.frame(body | {"params": parameters | {"files": there}})
        return command.frame(body | {"params": parameters | {"data": parameters["data"] | {"files": there}}})

    async def _listen(self, context_id: str | None) -> None:
        """Receive every download of a context: a page's session receives those of its own frames only."""
        if not self._listening:
            self._listening = True
            self._control.listen(self._own_event)
        await self._control.send_downloads_to(self._downloads.folder(context_id), context_id)

    def _own_event(self, method: str, parameters: dict[str, Any]) -> None:
        self._downloads.event(None, method, parameters)

    async def _context_of(self, session: str) -> str | None:
        """Return the browser context of a session's page."""
        reply = await self._ask(session, "Target.getTargetInfo")
        found: str | None = reply.get("result", {}).get("targetInfo", {}).get("browserContextId")
        return found

    def _send_command(self, session: str, method: str, parameters: dict[str, Any]) -> None:
        """Send a command of the tunnel's own on the client's connection, in a session that the client does not see."""
        self._send_up(command_frame({"id": FIRST_ID, "method": method, "params": parameters}, (session,)))

    async def _ask(
        self, session: str, method: str, parameters: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Send a command of the tunnel's own on the client's connection, and get its reply."""
        number = self._next_id
        self._next_id = number + 1 if number < LAST_ID else FIRST_ID + 1
        path = self._paths.get(session, (session,))
        command = {"id": number, "method": method, "params": parameters or {}}
        reply: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._replies[number] = reply
        self._send_up(command_frame(command, path, [FIRST_ID] * (len(path) - 1)))
        try:
            return await reply
        finally:
            del self._replies[number]

    def _answer(self, command: Command, outcome: dict[str, Any]) -> None:
        for frame in reply_frames(command, outcome):
            self._send_down(frame)

    # --- events ---------------------------------------------------------------------------------------------------

    def _take_event(self, message: Message) -> None:
        """Handle a message of the browser, at its place in the stream."""
        if self._control.hidden and not message.payload.startswith(FILE_EVENTS):
            self._show(message)
            return
        event, session = opened_event(message.payload)
        number = event.get("id")
        if isinstance(number, int) and FIRST_ID <= number <= LAST_ID:
            reply = self._replies.get(number)
            if reply is not None and not reply.done():
                reply.set_result(event)
            return
        method, parameters = event.get("method"), event.get("params")
        if (
            isinstance(method, str)
            and ".download" in method
            and isinstance(parameters, dict)
            and not self._downloads.event(session, method, parameters)
        ):
            return
        if method == "Target.detachedFromTarget":
            self._detached(event)
        if not self._client.is_closing():
            self._client.write(message.raw)

    def _detached(self, event: dict[str, Any]) -> None:
        parameters = event.get("params") or {}
        session, target = parameters.get("sessionId"), parameters.get("targetId")
        if isinstance(session, str) and self._uploads.has(session):
            self._tasks.start(self._forget_if_closed(session, target), "removing a client's files")

    async def _forget_if_closed(self, session: str, target: object) -> None:
        reply = await self._ask("", "Target.getTargetInfo", {"targetId": target})
        if "error" in reply:
            await self._uploads.forget(session)

    def _hide(self) -> None:
        self._down.everything = True

    def _show(self, message: Message) -> None:
        """Pass a message on, without what is the tunnel's own in it."""
        frame = message.raw
        if message.payload.startswith(DETACHED):
            self._detached(decoded(message.payload))
        if self._hiding.touches(message.payload):
            event = decoded(message.payload)
            shown = self._hiding.shown(event)
            if shown is None:
                return
            if shown is not event:
                frame = event_frame(shown, ("",))
        if not self._client.is_closing():
            self._client.write(frame)

    def _send_event(self, session: str, method: str, parameters: dict[str, Any]) -> None:
        path = self._paths.get(session, (session,))
        self._send_down(event_frame({"method": method, "params": parameters}, path))

    # --- the end --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End both sides: the tunnel is being closed."""
        self._say(self._client, _CLOSED, self._down, masked=False)
        self._client.close()
        self._leave_browser()
        self._settle()

    def browser_lost(self) -> None:
        """End the client's side: the browser's socket has ended."""
        self._browser.close()
        if not self._browser_ended.done():
            self._browser_ended.set_result(None)
        if not self._browser_closed:
            self._browser_closed = True
            self._say(self._client, _LOST, self._down, masked=False)
            self._client.close()
            self._loop.call_later(_FLUSH_SECONDS, self._client.abort)
            self._settle()

    def client_lost(self) -> None:
        """End the browser's side: the client's socket has ended."""
        self._client.close()
        self._leave_browser()
        self._settle()

    def _leave_browser(self) -> None:
        """Send the browser a close frame; its end of the socket is waited for, as it has put the client's sessions away then."""
        if not self._browser_closed:
            self._browser_closed = True
            if self._browser.is_closing():
                return
            self._say(self._browser, (1001, ""), self._up, masked=True)
            if not self._up.at_boundary and self._browser.can_write_eof():
                self._browser.write_eof()
            self._browser.resume_reading()
            self._loop.call_later(_FLUSH_SECONDS, self._browser.abort)

    @staticmethod
    def _say(transport: asyncio.Transport, reason: tuple[int, str], sieve: Sieve, *, masked: bool) -> None:
        """Send a close frame, where one may stand and none has passed."""
        if not transport.is_closing() and sieve.at_boundary and not sieve.closed:
            transport.write(close_frame(*reason, masked=masked))

    def _settle(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    async def finish(self) -> None:
        """Cancel what is under way, and clean up. Await it once, after `ended`: the browser has ended its sessions then."""
        self._control.forget(self._own_event)
        self._control.stop_telling(self._hide)
        await self._tasks.cancel()
        await self._downloads.close()
        await self._browser_ended

    def uploads_left(self) -> list[str]:
        """Return what the client has put on the browser's disk and pages may still need."""
        return self._uploads.left()

    async def renew_downloads(self) -> None:
        """Ask for downloads again: Chromium forgets what holds in a context when any client leaves that had asked, too."""
        for context_id in self._downloads.contexts:
            with suppress(CDPBridgeError):  # the context may have been closed, or the browser
                await self._control.send_downloads_to(self._downloads.folder(context_id), context_id)

    # --- flow -----------------------------------------------------------------------------------------------------

    def pause(self, *, client: bool) -> None:
        """Stop reading one side while the other, the client or the browser, does not take more."""
        other = self._browser if client else self._client
        if not other.is_closing():
            other.pause_reading()

    def resume(self, *, client: bool) -> None:
        """Read on."""
        other = self._browser if client else self._client
        if not other.is_closing():
            other.resume_reading()
