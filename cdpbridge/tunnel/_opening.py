"""The browser's WebSocket for a client of the tunnel: opened when the client asks for it, or before, when one is sure to come."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import secrets
from datetime import timedelta
from typing import Final

from websockets.utils import accept_key

from cdpbridge._version import __version__
from cdpbridge.cdp._ahead import SocketAhead, TakenOnce
from cdpbridge.cdp._endpoint import connecting, dial
from cdpbridge.cdp._frames import text_frame
from cdpbridge.errors import CDPError

from ._messages import LAST_ID
from ._requests import HeadReader, TunnelRequest, request_head

__all__ = ["CONNECT_TIMEOUT", "VERSION_ID", "OpenedAhead", "is_switching", "open_for", "switching_head"]

logger = logging.getLogger("cdpbridge")

# Of the command that `OpenedAhead` has sent.
VERSION_ID: Final = LAST_ID
CONNECT_TIMEOUT: Final = timedelta(seconds=15)
_ANSWER_SECONDS: Final = 15.0
_KEY_BYTES: Final = 16


async def open_for(request: TunnelRequest, address: str, ahead: SocketAhead) -> tuple[HeadReader, bytes]:
    """Pass a client's upgrade on to the browser; return what reads its socket, and the head of its answer.

    Raises:
        CDPError: The browser cannot be reached, or has closed the connection.
        TimeoutError: It does not answer.
    """
    async with connecting(address, CONNECT_TIMEOUT) as progress:
        transport = await ahead.take(address) or await dial(address, progress=progress)
    browser = HeadReader()
    try:
        transport.set_protocol(browser)
        browser.connection_made(transport)
        transport.write(request_head(request, address, connection="Upgrade"))
        async with asyncio.timeout(_ANSWER_SECONDS):
            head = await browser.read()
        if head is None:
            raise CDPError("the browser closed the connection during the upgrade")
    except BaseException:
        transport.abort()
        raise
    return browser, head


class OpenedAhead:
    """A WebSocket that is opened before its client asks, and that has asked for the browser's version, as most clients do first.

    Args:
        address: `ws(s)` address.
    """

    def __init__(self, address: str, ahead: SocketAhead) -> None:
        self._opened = TakenOnce(_opened(address, ahead), _abort)

    async def take(self) -> HeadReader | None:
        """Return what reads it, once; None when the browser has not opened it: its client sees why, then."""
        opening = self._opened.take()
        browser = None if opening is None else await opening
        return None if browser is None or browser.transport.is_closing() else browser

    def drop(self) -> None:
        """Close it, unless it was taken."""
        self._opened.drop()


def _abort(browser: HeadReader | None) -> None:
    if browser is not None:
        browser.transport.abort()


async def _opened(address: str, ahead: SocketAhead) -> HeadReader | None:
    key = base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
    headers = {
        "Upgrade": "websocket",
        "User-Agent": f"cdpbridge/{__version__}",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
    }
    try:
        browser, head = await open_for(TunnelRequest("GET", "/", list(headers.items())), address, ahead)
    except (CDPError, OSError, ValueError) as error:  # TimeoutError is an OSError
        logger.debug("no socket for the client that is to come: %s", error)
        return None
    if not is_switching(head) or accept_key(key).encode() not in head:
        browser.transport.abort()
        return None
    command = {"id": VERSION_ID, "method": "Browser.getVersion"}
    browser.transport.write(text_frame(json.dumps(command).encode(), masked=True))
    return browser


def is_switching(head: bytes) -> bool:
    """Return True if an answer begins a WebSocket."""
    return head.startswith(b"HTTP/1.1 101")


def switching_head(key: str) -> bytes:
    """Return the answer that begins a client's WebSocket; no extension is taken up.

    Args:
        key: Its `Sec-WebSocket-Key`.
    """
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n"
    ).encode("latin-1")
