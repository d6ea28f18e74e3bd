"""How long answers take, for the metrics."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ._services import Services

__all__ = ["Timing"]


class Timing:
    """Counts every request below `prefix` and how long its answer took."""

    def __init__(self, app: ASGIApp, *, prefix: str) -> None:
        self._app = app
        self._prefix = f"{prefix}/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(self._prefix):
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            services: Services = scope["app"].state.services
            # Newer FastAPI gives a route of an included router its own path, older ones the one with the prefix.
            route = str(getattr(scope.get("route"), "path", "unknown")).removeprefix(self._prefix[:-1])
            services.metrics.answered(scope["method"], route, status, time.perf_counter() - began)
