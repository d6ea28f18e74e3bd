"""An open WebSocket relayed: bytes pass unchanged, and only frame headers are read.

How it ends. The closing handshake with the client is the table in `_closing`; beside it stands one fact, that the browser is left:
its socket is closing, and nothing of the client's passes any more.

| What happens                      | Then                                                                             |
|-----------------------------------|----------------------------------------------------------------------------------|
| `finish` (stop, expiry)           | our close frame at the end of the running frame; the browser is left at once     |
| the browser sends a close frame   | it is relayed, and counts as ours                                                |
| the browser's socket ends         | our close frame; within a frame of the browser, the client's socket is aborted   |
| the client sends a close frame    | it is relayed, unless the browser is left                                        |
| the client's socket ends          | the browser gets a close frame, so that it drops the client's sessions           |
| a close frame went each way       | both sockets are closed                                                          |
| the handshake takes too long      | the browser is left; a client with a close frame gets time to read it, others    |
|                                   | are aborted                                                                      |

Reading stops on one side while the other side's write buffer is full, so the memory of a relay is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from cdpbridge.cdp._frames import Message, Sieve, text_frame
from cdpbridge.errors import ConfigurationError

from ._closing import Phase, Signal, next_phase
from ._contexts import ContextCommand, OrderedCommand, begins_a_context, context_command, ends_a_context
from ._frames import PING, FrameScanner, close_frame, masked_close_frame
from ._registry import Entry

__all__ = ["Splice"]

logger = logging.getLogger("cdpbridge.server")

# Balancers cut what is silent for 60 seconds (nginx's proxy_read_timeout, AWS's idle timeout): two pings fit in.
_PING_SECONDS: Final = 20.0
# For the closing handshake: the rest of the running frame, and the client's own close frame.
_CLOSE_SECONDS: Final = 1.5
# For a client with a close frame to take what is in its buffer.
_FLUSH_SECONDS: Final = 3.0
_HIGH_WATER: Final = 512 * 1024
# A machine that lives acknowledges something in this time: our pings, a keepalive probe, or a probe of its closed
# window, which Linux sends at most 120 seconds apart (TCP_RTO_MAX). Its program may be busy for as long as it likes,
# and therefore this is not TCP_USER_TIMEOUT, which also counts the time a window is closed.
_UNACKNOWLEDGED_SECONDS: Final = 150.0
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 9}
# tcpi_last_ack_recv, milliseconds: struct tcp_info of linux/tcp.h has 8 bytes and 12 words before it.
_LAST_ACK: Final = struct.Struct("=56xI")
# To a client's close frame, when the browser has not answered it.
_ANSWER: Final = close_frame(1000, "")
# Commands that are looked for are short, but for lists of hosts that do without a proxy; see `Splice`.
_LONGEST_COMMAND: Final = 16 * 1024
_BROWSER_ENDED: Final = (1001, "the browser closed the connection")


def _asks_for_downloads(payload: bytes) -> bool:
    return b"setDownloadBehavior" in payload


def _is_looked_at(payload: bytes, _whole: bool) -> bool:  # see `Verdict`
    return _asks_for_downloads(payload) or begins_a_context(payload) or ends_a_context(payload)


class Splice:
    """One client and one browser socket, both open and not reading.

    Three of the client's commands are looked for:

    * Chromium forgets what holds for downloads when a client leaves that has set it, also what others have set. So
      `entry.downloads_reset` is called when the browser has closed such a client's sessions.
    * A context with a proxy of its own gets the one of `entry.context_proxy` instead, see `_contexts`. What comes behind such a
      command waits until that is there.
    * Beginnings and ends of contexts wait in the same way for `entry.context_order`.

    Args:
        entry: Where traffic is counted.
        client: The client's transport, after our 101.
        browser: The browser's transport, after its 101.
        pending: What the browser has sent since.
        on_end: Called when the client's socket is closed.

    Attributes:
        ended: Done when the browser is free of the client.
        phase: Of the closing handshake with the client.
        browser_left: The browser's socket is closing: nothing of the client's passes any more.
        relaying: Chunks of the browser pass whole: it is not left, and no close frame of ours is due.
        watch: Reads the client's commands; None when none are looked for.
    """

    def __init__(
        self,
        entry: Entry,
        client: asyncio.Transport,
        browser: asyncio.Transport,
        pending: bytes,
        on_end: Callable[[], object],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.entry = entry
        self.client = client
        self.browser = browser
        self.up = FrameScanner()
        self.down = FrameScanner()
        self.phase = Phase.OPEN
        self.browser_left = False
        self.relaying = True
        self._close_frame = b""
        self._on_end = on_end
        self.watch: Sieve | None = None
        if entry.downloads_reset or entry.context_proxy or entry.context_order:
            self.watch = Sieve(
                masked=True,
                verdict=_is_looked_at,
                passed=self.send_up,
                read=self._look,
                largest=_LONGEST_COMMAND,
            )
        # A command that the server prepares for, and what waits behind it; the task that does it.
        self._held: deque[bytes | ContextCommand | OrderedCommand] = deque()
        self._preparing: asyncio.Task[None] | None = None
        self.replies = b""  # ours to the client, for the end of the browser's running frame
        self._asked_for_downloads = False
        self._client_deadline: asyncio.TimerHandle | None = None
        self._browser_deadline: asyncio.TimerHandle | None = None
        entry.open_clients += 1
        _keep_alive(client)
        browser_end = _BrowserEnd(self)
        for transport, end in ((client, _ClientEnd(self)), (browser, browser_end)):
            transport.set_protocol(end)
            transport.set_write_buffer_limits(_HIGH_WATER)
        if pending:
            browser_end.data_received(pending)
        client.resume_reading()
        if client.get_write_buffer_size() <= _HIGH_WATER:
            browser.resume_reading()
        self._pulse = self._loop.call_later(_PING_SECONDS, self._beat)

    # --- the closing handshake ------------------------------------------------------------------------------------

    def finish(self, code: int, reason: str) -> None:
        """Send a close frame at the end of the running frame, and end within `_CLOSE_SECONDS`."""
        if self.phase not in {Phase.OPEN, Phase.RECEIVED}:
            return
        self._close_frame = close_frame(code, reason)
        self._start_deadline()
        if self.down.at_boundary:
            self._send_close()
        else:
            self._take(Signal.DUE)

    def finish_frame(self, data: bytes) -> None:
        """Relay the rest of the frame after which our close frame is due; drop what follows it."""
        if self.browser_left:
            return
        self.client.write(data[: self.down.feed_one(data)])
        if self.down.closed:
            self.browser_closed()
        elif self.down.at_boundary:
            self._send_close()

    def abort(self) -> None:
        """Close both sockets now, whatever is unsent."""
        self._leave_browser()
        self.client.abort()

    def browser_closed(self) -> None:
        """Note that the browser's close frame was relayed."""
        self._take(Signal.SENT)
        self._start_deadline()
        self._close_if_agreed()

    def client_closed(self) -> None:
        """Note that the client's close frame came, and was relayed unless the browser is left."""
        self._take(Signal.RECEIVED)
        self._start_deadline()
        self._close_if_agreed()

    def browser_lost(self) -> None:
        """Note that the browser's socket has ended, with or without a close frame."""
        if self._asked_for_downloads and self.entry.downloads_reset is not None:
            self._asked_for_downloads = False
            self.entry.downloads_reset()
        self._leave_browser()
        if self._browser_deadline is not None:
            self._browser_deadline.cancel()
        if self.phase.has_sent or self.phase is Phase.LOST:
            return
        # What is missing of a running frame will never come.
        if not self.down.at_boundary:
            self.client.abort()
            return
        if not self._close_frame:
            self._close_frame = _ANSWER if self.phase.has_received else close_frame(*_BROWSER_ENDED)
        self._start_deadline()
        self._send_close()

    def client_left(self) -> None:
        """Note that the client sends nothing any more; it may still read what is in its buffer."""
        self._leave_browser()
        self._close_client()

    def client_lost(self) -> None:
        """Note that the client's socket is closed. Nothing may be written to it after that: uvloop's raises then."""
        self._take(Signal.LOST)
        self._leave_browser()
        self._pulse.cancel()
        if self._client_deadline is not None:
            self._client_deadline.cancel()
        self.entry.open_clients -= 1
        self._settle()
        self._on_end()

    def _take(self, signal: Signal) -> None:
        self.phase = next_phase(self.phase, signal)
        self.relaying = not self.browser_left and not self.phase.is_due

    def _send_close(self) -> None:
        self.client.write(self._close_frame)
        self._take(Signal.SENT)
        self._leave_browser()
        self._close_if_agreed()

    def _close_if_agreed(self) -> None:
        if self.phase is Phase.CLOSED:
            self._leave_browser()
            self._close_client()

    def _start_deadline(self) -> None:
        if self._client_deadline is None:
            self._client_deadline = self._loop.call_later(_CLOSE_SECONDS, self._on_close_timeout)

    def _on_close_timeout(self) -> None:
        self._leave_browser()
        if self.phase.has_sent:
            self._close_client()
        elif self.phase.has_received and self.down.at_boundary:
            self._close_frame = _ANSWER
            self._send_close()
        else:
            self.client.abort()

    def _close_client(self) -> None:
        """Close after what is in its buffer, in bounded time; the browser does not depend on that."""
        self.client.close()
        if self._client_deadline is not None:
            self._client_deadline.cancel()
        self._client_deadline = self._loop.call_later(_FLUSH_SECONDS, self.client.abort)
        self._settle()

    def _leave_browser(self) -> None:
        if self.browser_left:
            return
        self.browser_left = True
        self.relaying = False
        if self._preparing is not None:
            self._preparing.cancel()
        if not self.client.is_closing():
            # Its close frame may stand behind what the browser was slow to take.
            self.client.resume_reading()
        if self._asked_for_downloads and not self.browser.is_closing():
            # Its end of the socket is waited for: what is set before that, it would still forget.
            if not self._browser_at_boundary:
                self.browser.write_eof()
            elif not self.up.closed or self._held:
                self.browser.write(masked_close_frame(1001))
            self.browser.resume_reading()
            self._browser_deadline = self._loop.call_later(_CLOSE_SECONDS, self.browser.abort)
        elif self._browser_at_boundary:
            if (not self.up.closed or self._held) and not self.browser.is_closing():
                self.browser.write(masked_close_frame(1001))
            self.browser.close()
            self._browser_deadline = self._loop.call_later(_CLOSE_SECONDS, self.browser.abort)
        else:
            self.browser.abort()

    @property
    def _browser_at_boundary(self) -> bool:
        """True if a frame of ours may follow what the browser was sent: what is held back begins with a whole frame."""
        return self.up.at_boundary or bool(self._held) or (self.watch is not None and self.watch.holds)

    def _settle(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    # --- while it lasts -------------------------------------------------------------------------------------------

    def send_up(self, data: bytes) -> None:
        """Relay what the client has sent, behind what waits."""
        if self._held:
            self._held.append(data)
        elif not self.browser_left:
            self.browser.write(data)

    def _look(self, message: Message) -> None:
        """Relay a command of the client that is looked for, and do what it needs."""
        if _asks_for_downloads(message.payload):
            self._asked_for_downloads = True
        begins, ends = begins_a_context(message.payload), ends_a_context(message.payload)
        command: ContextCommand | OrderedCommand | None = None
        if begins and self.entry.context_proxy is not None:
            command = context_command(message.payload)
        if command is None and (begins or ends) and self.entry.context_order is not None:
            command = OrderedCommand(message.raw, ends)
        if command is None:
            self.send_up(message.raw)
            return
        self._held.append(command)
        if self._preparing is None:
            self.client.pause_reading()
            self._preparing = self._loop.create_task(self._send_held())

    async def _send_held(self) -> None:
        """Prepare for each command that needs it, and relay what waits."""
        while self._held:
            first = self._held[0]
            if isinstance(first, ContextCommand):
                await self._make_context(first)
            elif isinstance(first, OrderedCommand):
                await self._in_order(first.raw, ends=first.ends)
            elif not self.browser_left:
                self.browser.write(first)
            self._held.popleft()
        self._preparing = None
        if self.browser.get_write_buffer_size() <= _HIGH_WATER and not self.client.is_closing():
            self.client.resume_reading()

    async def _make_context(self, command: ContextCommand) -> None:
        assert self.entry.context_proxy is not None  # see `_look`
        try:
            address = await self.entry.context_proxy(command.proxy_server, command.bypass_list)
        except ConfigurationError as error:
            self.reply(command.refused(str(error)))
        except OSError as error:
            self.reply(command.refused(f"no proxy can be started: {error.strerror or error}"))
        except Exception:
            logger.exception("a context could not be given its proxy")
            self.reply(command.refused("the server failed"))
        else:
            await self._in_order(text_frame(command.through(address), masked=True), ends=False)

    async def _in_order(self, frames: bytes, *, ends: bool) -> None:
        """Relay a command that begins or ends a context."""
        order = self.entry.context_order

        def send() -> None:
            if not self.browser_left:
                self.browser.write(frames)

        if order is None:
            send()
        else:
            await (order.end(send) if ends else order.begin(send))

    def reply(self, payload: bytes) -> None:
        """Answer a command in the browser's place, between its frames."""
        if not self.relaying:
            return
        self.replies += text_frame(payload, masked=False)
        if self.down.at_boundary:
            self.send_replies()

    def send_replies(self) -> None:
        """Send our answers; a frame of the browser has just ended."""
        self.client.write(self.replies)
        self.replies = b""

    def _beat(self) -> None:
        if _is_half_open(self.client):
            self.abort()
            return
        # Within a frame, or with something in the buffer, there is traffic anyway.
        if self.down.at_boundary and not self.phase.has_sent and not self.client.get_write_buffer_size():
            self.client.write(PING)
        self._pulse = self._loop.call_later(_PING_SECONDS, self._beat)


class _ClientEnd(asyncio.Protocol):
    """The client's socket."""

    def __init__(self, splice: Splice) -> None:
        self._splice = splice
        self._up = splice.up
        self._entry = splice.entry
        self._write = splice.browser.write
        self._time = asyncio.get_running_loop().time

    def data_received(self, data: bytes) -> None:
        splice, up = self._splice, self._up
        before = up.messages
        up.feed(data)
        if not splice.browser_left:
            if splice.watch is not None:
                splice.watch.feed(data)
            else:
                self._write(data)
            if up.messages != before:
                self._entry.messages_sent += up.messages - before
                self._entry.active_at = self._time()
        if up.closed:
            splice.client_closed()

    def pause_writing(self) -> None:
        if not self._splice.browser.is_closing():
            self._splice.browser.pause_reading()

    def resume_writing(self) -> None:
        if not self._splice.browser.is_closing():
            self._splice.browser.resume_reading()

    def eof_received(self) -> None:
        self._splice.client_left()

    def connection_lost(self, exc: Exception | None) -> None:
        self._splice.client_lost()


class _BrowserEnd(asyncio.Protocol):
    """The browser's socket."""

    def __init__(self, splice: Splice) -> None:
        self._splice = splice
        self._down = splice.down
        self._entry = splice.entry
        self._write = splice.client.write

    def data_received(self, data: bytes) -> None:
        splice, down = self._splice, self._down
        if not splice.relaying:
            splice.finish_frame(data)
            return
        before = down.messages
        if splice.replies:
            used = down.feed_one(data)
            self._write(data[:used])
            if down.at_boundary and not down.closed:
                splice.send_replies()
            data = data[used:]
        down.feed(data)
        self._write(data)
        self._entry.messages_received += down.messages - before
        if down.closed:
            splice.browser_closed()

    def pause_writing(self) -> None:
        if not self._splice.client.is_closing():
            self._splice.client.pause_reading()

    def resume_writing(self) -> None:
        if not self._splice.client.is_closing():
            self._splice.client.resume_reading()

    def eof_received(self) -> None:
        self._splice.browser_lost()

    def connection_lost(self, exc: Exception | None) -> None:
        self._splice.browser_lost()


def _keep_alive(client: asyncio.Transport) -> None:
    """Have the kernel probe an idle client's machine."""
    connection: socket.socket | None = client.get_extra_info("socket")
    if connection is None or connection.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # macOS has other names for some
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _is_half_open(client: asyncio.Transport) -> bool:
    """Return True if the client's machine has not acknowledged for so long that it has vanished (Linux; elsewhere keepalive finds out)."""
    connection: Any = client.get_extra_info("socket")
    if connection is None or not hasattr(socket, "TCP_INFO"):
        return False
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_ACK.size)
    except OSError:  # not TCP, or closing
        return False
    if len(info) < _LAST_ACK.size:
        return False
    return bool(_LAST_ACK.unpack(info)[0] > 1000 * _UNACKNOWLEDGED_SECONDS)
