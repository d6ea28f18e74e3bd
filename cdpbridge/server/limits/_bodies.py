"""The limit on the length of bodies, checked before the body or its sender is looked at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["BodyLimit"]

_TOO_LARGE: Final = 413


class BodyLimit:
    """ASGI middleware: 413 for a longer body, by its announced length at once, else as soon as it is too long.

    Args:
        most: Bytes.
        paths: Other limits for some paths; None for a path that has limits of its own.
        own: Matches whole paths that have limits of their own.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        most: int,
        paths: Mapping[str, int | None],
        own: re.Pattern[str] | None = None,
    ) -> None:
        self._own = own
        self._app = app
        self._most = most
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        most = self._paths.get(scope["path"], self._most) if scope["type"] == "http" else None
        if most is not None and self._own is not None and self._own.fullmatch(scope["path"]):
            most = None
        if most is None:
            await self._app(scope, receive, send)
            return
        detail = f"the body has more than {most} bytes"
        length = Headers(scope=scope).get("content-length", "")
        # The parser takes digits only, of any number.
        if len(length) > 15 or (length.isdecimal() and int(length) > most):
            await JSONResponse({"detail": detail}, status_code=_TOO_LARGE)(scope, receive, send)
            return
        count = 0

        async def counted() -> Message:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            if count > most:
                raise HTTPException(_TOO_LARGE, detail)
            return message

        await self._app(scope, counted, send)
