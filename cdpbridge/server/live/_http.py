"""The live page, its files, and its WebSocket, below `/live` and `/share`.

The page is the same for every address, so it tells nothing about the credential, which it moves from the address into its
memory at once and sends as the first message of the WebSocket: no request after the first carries it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, HTTPException, Request, Response, WebSocket
from starlette.requests import HTTPConnection

if TYPE_CHECKING:
    from ._live import Live

__all__ = ["SOCKET_PATHS", "router"]

SOCKET_PATHS: Final = ("/live/socket", "/share/socket")
"""Paths of viewers' WebSockets; they carry no credential."""

_KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS: Final = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Any page may show it in a frame: that is what live addresses are for. Nothing is loaded from elsewhere.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors *"
    ),
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    """Content and entity tag of each file of the page, by its name."""
    found = {}
    for file in files("cdpbridge.server.live").joinpath("page").iterdir():
        if "." in file.name and file.name[file.name.rindex(".") :] in _KINDS:
            content = file.read_bytes()
            found[file.name] = content, f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    return found


def router(live: Callable[[HTTPConnection], Live]) -> APIRouter:
    """Return the routes.

    Args:
        live: The live view of the running server that a request came to.
    """
    routes = APIRouter(include_in_schema=False)

    def page() -> Response:
        content, _ = _files()["index.html"]
        return Response(
            content, media_type=_KINDS[".html"], headers={**_HEADERS, "Cache-Control": "no-store"}
        )

    def asset(name: str, request: Request) -> Response:
        content, tag = _files().get(name, (None, ""))
        if content is None or name == "index.html":
            raise HTTPException(404, "no such file")
        headers = {**_HEADERS, "ETag": tag, "Cache-Control": "no-cache"}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=_KINDS[name[name.rindex(".") :]], headers=headers)

    async def socket(socket: WebSocket) -> None:
        await live(socket).serve(socket)

    for prefix in ("/live", "/share"):
        routes.add_api_route(f"{prefix}/assets/{{name}}", asset)
        routes.add_api_route(f"{prefix}/{{token}}", page)
        routes.add_api_route(f"{prefix}/", page)
    for path in SOCKET_PATHS:
        routes.add_api_websocket_route(path, socket)
    return routes
