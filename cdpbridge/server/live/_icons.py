"""A tab's icon, loaded by the browser itself: through its proxy, with its cache, and never by the viewer."""

from __future__ import annotations

import base64
import logging
from datetime import timedelta
from typing import Final

from cdpbridge.cdp import CDPSession, Connection
from cdpbridge.errors import CDPError

__all__ = ["read_icon"]

logger = logging.getLogger("cdpbridge.server")

_TIMEOUT: Final = timedelta(seconds=3)
_MAX_BYTES: Final = 64 * 1024
_CHUNK_BYTES: Final = 32 * 1024
_FIND: Final = """(() => {
  const links = [...Document.prototype.querySelectorAll.call(document, 'link[rel~="icon"]')];
  const small = links.find(link => /(^|\\s)(16|32|48)x/.test(link.sizes?.value ?? ''));
  return (small ?? links[0])?.href ?? '';
})()"""
_KINDS: Final = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"RIFF", "image/webp"),
)


async def read_icon(connection: Connection, target_id: str) -> str:
    """Return the icon that a page names, as a `data:` address; empty without one. It asks for no `/favicon.ico` on suspicion."""
    try:
        session = await connection.attach(target_id)
        try:
            world = await session.send(
                "Page.createIsolatedWorld", {"frameId": target_id, "worldName": "icons"}, timeout=_TIMEOUT
            )
            params = {"expression": _FIND, "contextId": world["executionContextId"], "returnByValue": True}
            found = await session.send("Runtime.evaluate", params, timeout=_TIMEOUT)
            address = str(found["result"].get("value", ""))
            if address.startswith("data:image/"):
                return address if len(address) <= _MAX_BYTES else ""
            if address.startswith(("http://", "https://")):
                return await _load(session, target_id, address)
        finally:
            if session.closed is None:
                await session.detach()
    except CDPError as error:
        logger.debug("page %s has no icon: %s", target_id, error)
    return ""


async def _load(session: CDPSession, frame_id: str, address: str) -> str:
    options = {"disableCache": False, "includeCredentials": False}
    params = {"frameId": frame_id, "url": address, "options": options}
    resource = (await session.send("Network.loadNetworkResource", params, timeout=_TIMEOUT))["resource"]
    handle = resource.get("stream")
    if not resource["success"] or handle is None:
        return ""
    body = bytearray()
    try:
        while len(body) <= _MAX_BYTES:
            chunk = await session.send("IO.read", {"handle": handle, "size": _CHUNK_BYTES}, timeout=_TIMEOUT)
            data = chunk["data"]
            body += base64.b64decode(data) if chunk.get("base64Encoded") else data.encode()
            if chunk["eof"]:
                return _as_data(bytes(body))
    finally:
        await session.send("IO.close", {"handle": handle}, timeout=_TIMEOUT)
    return ""


def _as_data(body: bytes) -> str:
    kind = next((kind for start, kind in _KINDS if body.startswith(start)), None)
    if kind is None and b"<svg" in body[:1000].lower():
        kind = "image/svg+xml"  # shown as <img>, where it runs no script
    return f"data:{kind};base64,{base64.b64encode(body).decode()}" if kind else ""
