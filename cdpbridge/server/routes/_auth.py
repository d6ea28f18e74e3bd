"""Authentication: the project that a key belongs to. In front of the routes, so that nothing is parsed without a key."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cdpbridge.server._log import ABOUT_PROGRAM
from cdpbridge.server.console import ConsoleCookie
from cdpbridge.server.limits import TOO_MANY_TEXT, peer_name
from cdpbridge.server.store import key_hash_of

from ._problems import database_failed
from ._services import Services, client_address

__all__ = ["KEY_HEADER", "Authentication"]

KEY_HEADER: Final = "X-Browser-Use-API-Key"
# What proxies add (RFC 7239, and the older ones).
_FORWARDED: Final = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")


class Authentication:
    """Answers 401 below `prefix` without a known key in `X-Browser-Use-API-Key`, or the console's cookie.

    Args:
        app: What is behind it.
        prefix: The part of the server that it guards.
        cookie: Reads sign-ins.
        admin: Whether an admin key is needed: 403 with another one.
    """

    def __init__(self, app: ASGIApp, *, prefix: str, cookie: ConsoleCookie, admin: bool = False) -> None:
        self._app = app
        self._cookie = cookie
        self._prefix = f"{prefix}/"
        self._admin = admin

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
            answer: Response = JSONResponse(
                {"detail": TOO_MANY_TEXT}, 429, headers={"Retry-After": str(wait)}
            )
            await answer(scope, receive, send)
            return
        # Keys are looked up by their SHA-256, so the time it takes says nothing about them.
        identify = services.accounts.operator if self._admin else services.accounts.identify
        try:
            key_hash = key_hash_of(key) if key else await self._cookie.key_hash_for_api(HTTPConnection(scope))
            identity = await identify(key_hash) if key_hash else None
        except SQLAlchemyError as error:  # in front of the routes, whose handlers do not see it
            answer = await database_failed(Request(scope), error)
            await answer(scope, receive, send)
            return
        if identity is not None and identity.key_id is None and not _from_this_machine(scope):
            identity = None  # the key of the data folder is for the commands beside it
        if identity is None:
            if key:
                border.guessing.keys.failed(peer, key, border.now())
            detail = "Invalid API key" if key else f"API key required: send it in the header {KEY_HEADER}"
            await JSONResponse({"detail": detail}, status_code=401)(scope, receive, send)
            return
        if key:
            border.guessing.keys.right(peer, key)
        if self._admin and not identity.admin:
            await JSONResponse({"detail": "This needs an admin key"}, status_code=403)(scope, receive, send)
            return
        if identity.program is not None:
            ABOUT_PROGRAM.set(identity.program.id)
        scope.setdefault("state", {}).update(
            project_id=identity.project_id, key_id=identity.key_id, program=identity.program
        )
        await self._app(scope, receive, send)


def _from_this_machine(scope: Scope) -> bool:
    """Return True if the peer is on this machine, and no proxy has passed the request on."""
    headers = Headers(scope=scope)
    if any(name in headers for name in _FORWARDED):
        return False
    peer, own = scope.get("client"), scope.get("server")
    if peer is None:
        return False
    try:
        address = ip_address(peer[0])
    except ValueError:
        return False
    return address.is_loopback or (own is not None and peer[0] == own[0])
