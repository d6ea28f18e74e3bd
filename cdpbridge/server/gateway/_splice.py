"""An open WebSocket relayed: bytes pass unchanged, and only frame headers are read.

How it ends is told by two facts, that a close frame went to the client (`_told`) and that one came from it (`_heard`):

| What happens                   | Then                                                                                |
|--------------------------------|-------------------------------------------------------------------------------------|
| `finish` (stop, expiry)        | our close frame at the next boundary; the browser is left at once                   |
| the browser sends a close      | it passes; told                                                                     |
| the browser's socket ends      | our close frame, if at a boundary; within a frame the client is cut                 |
| the client sends a close       | it passes unless the browser is left; heard                                         |
| the client's socket ends       | the browser gets a close frame, so that it drops the client's sessions; all is over |
| told and heard                 | both sockets are closed                                                             |
| the goodbye takes too long     | the browser is left; who was told gets some seconds more to read it, others are cut |

Reading stops on one side while the other side's write buffer is full, so the memory of a relay is bounded.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any, Final

from cdpbridge.cdp._frames import Message, Sieve

from ._frames import PING, FrameScanner, close_frame, masked_close_frame
from ._registry import Entry

__all__ = ["Splice"]

# Balancers cut what is silent for 60 seconds (nginx's proxy_read_timeout, AWS's idle timeout): two pings fit in.
_PING_SECONDS: Final = 20.0
# From the wish to part to the end of patience: the rest of the running frame, and the client's own close frame.
_GOODBYE_SECONDS: Final = 1.5
# So long a client that was told may take what is in its buffer.
_FLUSH_SECONDS: Final = 3.0
_HIGH_WATER: Final = 512 * 1024
# A machine that lives acknowledges something in this time: our pings, a keepalive probe, or a probe of its closed
# window, which Linux sends at most 120 seconds apart (TCP_RTO_MAX). Its program may be busy for as long as it likes,
# and therefore this is not TCP_USER_TIMEOUT, which also counts the time a window is closed.
_UNACKNOWLEDGED_SECONDS: Final = 150.0
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 9}
# tcpi_last_ack_recv, milliseconds: struct tcp_info of linux/tcp.h has 8 bytes and 12 words before it.
_LAST_ACK: Final = struct.Struct("=56xI")
_ANSWER: Final = close_frame(1000, "")  # to a client's close frame, if the browser owes it
# A command that says what becomes of downloads is short; see `Splice`.
_LONGEST_COMMAND: Final = 8 * 1024
_BROWSER_ENDED: Final = (1001, "the browser closed the connection")


def _asks_for_downloads(payload: bytes, _whole: bool) -> bool:  # see `Verdict`
    return b"setDownloadBehavior" in payload


def _let_pass(_data: bytes) -> None:
    """The watch only looks."""


class Splice:
    """One client and one browser socket, both open and not reading.

    Chromium forgets what holds for downloads when a client leaves that has set it, also what others have set. So these commands are
    looked for until there was one, and `entry.downloads_reset` is called when the browser has put such a client's sessions away.

    Args:
        entry: Where traffic is counted.
        client: The client's transport, after our 101.
        browser: The browser's transport, after its 101.
        pending: What the browser has sent since.
        on_end: Called when the client's socket is closed.
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
        self.client_is_slow = False
        self.left = False  # the browser's socket is closing: nothing of the client's passes any more
        self.finishing = False  # our close frame waits for the end of the browser's running frame
        self._goodbye = b""
        self._told = False
        self._heard = False
        self._gone = False
        self._on_end = on_end
        self.watch: Sieve | None = None
        if entry.downloads_reset is not None:
            self.watch = Sieve(
                masked=True,
                verdict=_asks_for_downloads,
                passed=_let_pass,
                read=self._look,
                largest=_LONGEST_COMMAND,
            )
        self._asked_for_downloads = False
        self._patience: asyncio.TimerHandle | None = None
        self._browser_patience: asyncio.TimerHandle | None = None
        entry.open_clients += 1
        _keep_alive(client)
        browser_end = _BrowserEnd(self)
        for transport, end in ((client, _ClientEnd(self)), (browser, browser_end)):
            transport.set_protocol(end)
            transport.set_write_buffer_limits(_HIGH_WATER)
        if pending:
            browser_end.data_received(pending)
        client.resume_reading()
        if not self.client_is_slow:
            browser.resume_reading()
        self._pulse = self._loop.call_later(_PING_SECONDS, self._beat)

    # --- parting --------------------------------------------------------------------------------------------------

    def finish(self, code: int, reason: str) -> None:
        """Say goodbye at the end of the running frame, and part within `_GOODBYE_SECONDS`."""
        if self._told or self._goodbye:
            return
        self._goodbye = close_frame(code, reason)
        self._wait()
        if self.down.at_boundary:
            self._say_goodbye()
        else:
            self.finishing = True

    def finish_frame(self, data: bytes) -> None:
        """The rest of the frame after which a goodbye is due, or bytes behind it, which nobody wants."""
        if self.left:
            return
        self.client.write(data[: self.down.feed_one(data)])
        if self.down.closed:
            self.finishing = False
            self.browser_said_goodbye()
        elif self.down.at_boundary:
            self._say_goodbye()

    def abort(self) -> None:
        """Part now, whatever is unsent."""
        self._leave_browser()
        self.client.abort()

    def browser_said_goodbye(self) -> None:
        """Its close frame has been passed on."""
        self._told = True
        self._wait()
        self._end_if_agreed()

    def client_said_goodbye(self) -> None:
        """Its close frame has been passed on, or there was nobody to pass it on to."""
        self._heard = True
        self._wait()
        self._end_if_agreed()

    def _look(self, message: Message) -> None:
        """Note when the client has sent a command that says what becomes of downloads."""
        if _asks_for_downloads(message.payload, True):
            self.watch = None
            self._asked_for_downloads = True

    def browser_lost(self) -> None:
        """Its socket has ended, with or without a word."""
        if self._asked_for_downloads and self.entry.downloads_reset is not None:
            self._asked_for_downloads = False
            self.entry.downloads_reset()
        self._leave_browser()
        if self._browser_patience is not None:
            self._browser_patience.cancel()
        if self._told or self._gone:
            return
        if not self.down.at_boundary:  # what is missing of the frame will never come
            self.client.abort()
            return
        if not self._goodbye:
            self._goodbye = _ANSWER if self._heard else close_frame(*_BROWSER_ENDED)
        self._wait()
        self._say_goodbye()

    def client_left(self) -> None:
        """It sends nothing any more; it may still read what is in its buffer."""
        self._leave_browser()
        self._close_client()

    def client_lost(self) -> None:
        """Its socket is closed; the last call but `browser_lost`, which must not write to it: uvloop's raises then."""
        self._gone = True
        self._leave_browser()
        self._pulse.cancel()
        if self._patience is not None:
            self._patience.cancel()
        self.entry.open_clients -= 1
        self._settle()
        self._on_end()

    def _say_goodbye(self) -> None:
        self.client.write(self._goodbye)
        self._told = True
        self._leave_browser()
        self._end_if_agreed()

    def _end_if_agreed(self) -> None:
        if self._told and self._heard:
            self._leave_browser()
            self._close_client()

    def _wait(self) -> None:
        if self._patience is None:
            self._patience = self._loop.call_later(_GOODBYE_SECONDS, self._lose_patience)

    def _lose_patience(self) -> None:
        self._leave_browser()
        if self._told:
            self._close_client()
        elif self._heard and self.down.at_boundary:
            self._goodbye = _ANSWER
            self._say_goodbye()
        else:
            self.client.abort()

    def _close_client(self) -> None:
        """Close after what is in its buffer, in bounded time; the browser does not depend on that."""
        self.client.close()
        if self._patience is not None:
            self._patience.cancel()
        self._patience = self._loop.call_later(_FLUSH_SECONDS, self.client.abort)
        self._settle()

    def _leave_browser(self) -> None:
        if self.left:
            return
        self.left = True
        if not self.client.is_closing():
            self.client.resume_reading()  # its goodbye may stand behind what the browser was slow to take
        if self._asked_for_downloads and not self.browser.is_closing():
            # Its end of the socket is waited for: what is set before that, it would still forget.
            if not self.up.at_boundary:
                self.browser.write_eof()
            elif not self.up.closed:
                self.browser.write(masked_close_frame(1001))
            self.browser.resume_reading()
            self._browser_patience = self._loop.call_later(_GOODBYE_SECONDS, self.browser.abort)
        elif self.up.at_boundary:
            if not self.up.closed and not self.browser.is_closing():
                self.browser.write(masked_close_frame(1001))
            self.browser.close()
            self._browser_patience = self._loop.call_later(_GOODBYE_SECONDS, self.browser.abort)
        else:
            self.browser.abort()

    def _settle(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    # --- while it lasts -------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        if _is_half_open(self.client):
            self.abort()
            return
        # Within a frame, or with a full buffer, there is traffic anyway.
        if self.down.at_boundary and not self._told and not self.client_is_slow:
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
        if not splice.left:
            if splice.watch is not None:
                splice.watch.feed(data)
            self._write(data)
            if up.messages != before:
                self._entry.messages_sent += up.messages - before
                self._entry.active_at = self._time()
        if up.closed:
            splice.client_said_goodbye()

    def pause_writing(self) -> None:
        self._splice.client_is_slow = True
        if not self._splice.browser.is_closing():
            self._splice.browser.pause_reading()

    def resume_writing(self) -> None:
        self._splice.client_is_slow = False
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
        if splice.finishing or splice.left:
            splice.finish_frame(data)
            return
        before = down.messages
        down.feed(data)
        self._write(data)
        self._entry.messages_received += down.messages - before
        if down.closed:
            splice.browser_said_goodbye()

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
    """Have the kernel ask an idle client's machine whether it is there."""
    connection: socket.socket | None = client.get_extra_info("socket")
    if connection is None or connection.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):  # macOS has other names for some
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _is_half_open(client: asyncio.Transport) -> bool:
    """Whether the client's machine has been silent for so long that it is gone (Linux; elsewhere keepalive must do)."""
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
