"""`upgrade`: from a connected socket to an open WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from websockets.client import ClientProtocol
from websockets.extensions import ClientExtensionFactory
from websockets.uri import parse_uri

from cdpbridge._version import __version__
from cdpbridge.cdp._websocket import WebSocketTransport

__all__ = ["upgrade"]


async def upgrade(
    transport: asyncio.Transport,
    url: str,
    *,
    headers: Mapping[str, str],
    max_message_bytes: int,
    compression: bool,
) -> WebSocketTransport:
    """Turn a connected transport into an open WebSocket. No Origin header is sent: Chromium refuses any.

    Raises:
        ConnectFailed: The server refused the upgrade; the transport is closed then.
    """
    extensions: Sequence[ClientExtensionFactory] | None = None
    if compression:
        from websockets.extensions.permessage_deflate import (  # noqa: PLC0415  # zlib, for those who ask
            ClientPerMessageDeflateFactory,
        )

        extensions = [ClientPerMessageDeflateFactory(compress_settings={"memLevel": 5})]
    core = ClientProtocol(parse_uri(url), extensions=extensions, max_size=max_message_bytes)
    core.debug = False  # its log shows addresses, headers and payloads, which are secrets
    websocket = WebSocketTransport(core, max_message_bytes)
    sent: dict[str, Any] = {"User-Agent": f"cdpbridge/{__version__}", **headers}
    websocket.open(transport, sent)
    try:
        await websocket.opened
    except BaseException:
        websocket.abort()
        raise
    return websocket
