"""From a browser's address to an open WebSocket of which no frame has been read."""

from __future__ import annotations

import asyncio
import re
from typing import Final, cast

from websockets.client import ClientProtocol
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from ._registry import Upstream

__all__ = ["BrowserUnreachable", "TargetNotFound", "dial"]

# A browser that is starting listens in this time, one that hangs never answers.
_CONNECT_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.05
_MAX_ANSWER_BYTES: Final = 64 * 1024
_SWITCHING: Final = b"HTTP/1.1 101 "
_CONTENT_LENGTH: Final = re.compile(rb"(?i)\ncontent-length:[ \t]*(\d{1,4})[ \t]*\r?(?:\n|$)")


class BrowserUnreachable(Exception):
    """The browser does not listen, does not answer, or refuses."""


class TargetNotFound(Exception):
    """The browser has no such target."""


async def dial(upstream: Upstream, path: str) -> tuple[asyncio.Transport, bytes]:
    """Connect to the browser; return a transport that is not reading, and what the browser has already sent.

    Raises:
        BrowserUnreachable: No WebSocket within a few seconds.
        TargetNotFound: There is no such page.
    """
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            return await _dial(upstream, path)
    except TimeoutError:
        raise BrowserUnreachable("the browser does not answer") from None


async def _dial(upstream: Upstream, path: str) -> tuple[asyncio.Transport, bytes]:
    loop = asyncio.get_running_loop()
    while True:
        try:
            handshake = _Handshake(loop, upstream, path)
            transport = await upstream.open(handshake)
        except OSError:
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            break
    try:
        return transport, await handshake.opened
    except BaseException:
        transport.abort()
        raise


class _Handshake(asyncio.Protocol):
    """Sends the upgrade request and reads the answer, up to the first frame."""

    def __init__(self, loop: asyncio.AbstractEventLoop, upstream: Upstream, path: str) -> None:
        self.opened: asyncio.Future[bytes] = loop.create_future()
        # Its Host is an IP address, it has no Origin and no extension: what Chromium accepts.
        self._core = ClientProtocol(parse_uri(f"ws://{upstream.authority}{path}"))
        self._core.debug = False  # the log would show addresses
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The transport of uvloop inherits from no asyncio class.
        self._transport = cast("asyncio.Transport", transport)
        self._core.send_request(self._core.connect())
        self._transport.write(b"".join(self._core.data_to_send()))

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, end, rest = self._answer.partition(b"\r\n\r\n")
        if self.opened.done() or (not end and len(head) < _MAX_ANSWER_BYTES):
            return
        if not head.startswith(_SWITCHING):
            length = _CONTENT_LENGTH.search(head)  # the body tells why
            if len(rest) >= (int(length[1]) if length else _MAX_ANSWER_BYTES):
                self._refused()
            return
        self._core.receive_data(head + end)
        if self._core.state is not OPEN:
            self.opened.set_exception(BrowserUnreachable("the browser's upgrade answer is no WebSocket's"))
            return
        self._transport.pause_reading()
        self.opened.set_result(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self._refused()

    def _refused(self) -> None:
        # Chromium answers 500 "No such target id: ..." for a page and 404 for a wrong browser id.
        missing = self._answer.startswith(b"HTTP/1.1 404 ") or b"No such target id" in self._answer
        error = TargetNotFound if missing else BrowserUnreachable
        self.opened.set_exception(error("the browser refused the WebSocket"))
