"""Who asks: the project that a key belongs to. In front of the routes, so that nothing is parsed for a stranger."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from cdpbridge.server.console import ConsoleCookie
from cdpbridge.server.limits import TOO_MANY_TEXT, peer_name
from cdpbridge.server.store import key_hash_of

from ._services import Services, client_address

__all__ = ["KEY_HEADER", "Authentication"]

KEY_HEADER: Final = "X-Browser-Use-API-Key"


class Authentication:
    """Answers 401 below `prefix` without a known key in `X-Browser-Use-API-Key`, or the console's cookie."""

    def __init__(self, app: ASGIApp, *, prefix: str, cookie: ConsoleCookie) -> None:
        self._app = app
        self._cookie = cookie
        self._prefix = f"{prefix}/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(self._prefix):
            await self._app(scope, receive, send)
            return
        key = Headers(scope=scope).get(KEY_HEADER)
        services: Services = scope["app"].state.services
        border = services.border
        peer = peer_name(client_address(scope))
        wait = border.guessing.keys.refused(peer, key, border.now()) if key else None
        if wait is not None:
            answer = JSONResponse({"detail": TOO_MANY_TEXT}, 429, headers={"Retry-After": str(wait)})
            await answer(scope, receive, send)
            return
        # Keys are looked up by their SHA-256, so the time it takes says nothing about them.
        key_hash = key_hash_of(key) if key else self._cookie.key_hash_for_api(HTTPConnection(scope))
        project_id = await services.store.project_of_hash(key_hash) if key_hash else None
        if project_id is None:
            if key:
                border.guessing.keys.failed(peer, key, border.now())
            detail = "Invalid API key" if key else f"API key required: send it in the header {KEY_HEADER}"
            await JSONResponse({"detail": detail}, status_code=401)(scope, receive, send)
            return
        if key:
            border.guessing.keys.right(peer, key)
        scope.setdefault("state", {})["project_id"] = project_id
        await self._app(scope, receive, send)
