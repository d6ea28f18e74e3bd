"""In front of everything, errors included: which `Host` is served, and what every answer says."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cdpbridge.server.gateway import HOST_TEXT, Registry, host_allowed
from cdpbridge.server.limits import SAFE_HEADERS

__all__ = ["KnownHost", "SafeHeaders"]

# Balancers probe these without a name. A page's requests always have one, so there is nothing to rebind.
_PROBED: Final = frozenset({"/healthz", "/readyz"})
_SEEN: Final = 64
_SEEN_CHARACTERS: Final = 256


class KnownHost:
    """ASGI middleware: 403 for a `Host` that is not ours, which a page can send by DNS rebinding.

    Args:
        registry: Knows the allowed names; IP addresses and `localhost` always are.
    """

    def __init__(self, app: ASGIApp, registry: Registry) -> None:
        self._app = app
        self._registry = registry
        # Allowed ones; names are added to the registry, and never taken away.
        self._seen: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        hosts = Headers(scope=scope).getlist("host")
        if len(hosts) == 1:
            allowed = hosts[0] in self._seen or self._is_allowed(hosts[0])
        else:
            allowed = not hosts and scope["path"] in _PROBED
        if allowed:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            # Answered with 403, as nothing was accepted yet.
            await send({"type": "websocket.close", "code": 1008})
        else:
            status = 400 if len(hosts) > 1 else 403
            text = "Host may be given once" if len(hosts) > 1 else HOST_TEXT
            await JSONResponse({"detail": text}, status_code=status)(scope, receive, send)

    def _is_allowed(self, host: str) -> bool:
        if not host_allowed(host, self._registry.allowed_hosts):
            return False
        if len(self._seen) < _SEEN and len(host) < _SEEN_CHARACTERS:
            self._seen.add(host)
        return True


class SafeHeaders:
    """ASGI middleware: `no-store` and `nosniff` for every answer, unless it says how it may be kept."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, safe)
