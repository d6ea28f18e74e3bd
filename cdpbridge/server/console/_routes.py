"""The console's addresses: its page and files, signing in and out, the stream of what changes, and thumbnails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from importlib.resources import files
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Body, Query
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse

from cdpbridge.server.limits import TOO_MANY_TEXT, Border, peer_name
from cdpbridge.server.store import key_hash_of

from ._cookie import SIGN_IN_PATH, ConsoleCookie
from ._files import BrowserFolder
from ._snapshot import Snapshots

__all__ = ["console_router"]

_STATIC: Final = files(__package__) / "static"
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS: Final = {
    # Nothing from anywhere else, nothing inline; images may come from the page itself, for thumbnails.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self'; connect-src 'self'; frame-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
# What agents and pages have written is saved, and never runs as a page of ours.
_FILE_HEADERS: Final = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-store",
}
_MOST_ENTRIES: Final = 2000
_TICK_SECONDS: Final = 1.0
_SILENT_TICKS: Final = 15  # balancers cut what is silent for a minute


def console_router(
    cookie: ConsoleCookie,
    snapshots: Callable[[Request], Snapshots],
    external_base: Callable[[Request], str],
    border: Border,
) -> APIRouter:
    """Return the routes of the console.

    Args:
        cookie: Reads and writes sign-ins.
        snapshots: Where the states of projects come from.
        external_base: The address clients use.
        border: Counts wrong keys.
    """
    console = _Console(cookie, snapshots, external_base, border)
    router = APIRouter(include_in_schema=False)
    router.get("/")(console.page)
    router.get("/console/static/{path:path}")(console.static)
    router.post(SIGN_IN_PATH)(console.sign_in)
    router.post("/console/sign-out")(console.sign_out)
    router.get("/console/events")(console.events)
    router.get("/console/thumbnails/{browser_id}")(console.thumbnail)
    router.get("/console/ledger")(console.ledger)
    router.get("/console/files")(console.listing)
    router.get("/console/files/browsers/{browser_id}/{folder}/{name}")(console.browser_file)
    router.get("/console/files/tasks/{task_id}/{file_id}")(console.task_file)
    return router


class _Console:
    """The handlers of the console's routes."""

    def __init__(
        self,
        cookie: ConsoleCookie,
        snapshots: Callable[[Request], Snapshots],
        external_base: Callable[[Request], str],
        border: Border,
    ) -> None:
        self._cookie = cookie
        self._snapshots = snapshots
        self._external_base = external_base
        self._border = border

    async def _project_or_none(self, request: Request) -> UUID | None:
        key_hash = await self._cookie.key_hash(request)
        return None if key_hash is None else await self._snapshots(request).project_of(key_hash)

    async def _project(self, request: Request) -> UUID:
        project_id = await self._project_or_none(request)
        if project_id is None:
            raise HTTPException(401, "Sign in first")
        return project_id

    async def page(self, request: Request) -> HTMLResponse:
        """Send the page, with the address that it is reached at."""
        text = (_STATIC / "index.html").read_text("utf-8")
        return HTMLResponse(text.replace("{base}", f"{self._external_base(request)}/"), headers=_HEADERS)

    async def static(self, path: str) -> Response:
        """Send a file of the page."""
        found = _files().get(path)
        if found is None:
            raise HTTPException(404)
        body, kind = found
        return Response(body, media_type=kind, headers=_HEADERS)

    async def sign_in(
        self, request: Request, key: Annotated[str, Body(embed=True, max_length=1000)]
    ) -> JSONResponse:
        """Sign in with an API key; the answer sets the cookie."""
        key = key.strip()
        key_hash, keys = key_hash_of(key), self._border.guessing.keys
        peer = peer_name(request.client.host if request.client else "")
        wait = keys.refused(peer, key, self._border.now())
        if wait is not None:
            return JSONResponse(
                {"detail": TOO_MANY_TEXT}, status_code=429, headers={"Retry-After": str(wait)}
            )
        if await self._snapshots(request).project_of(key_hash) is None:
            keys.failed(peer, key, self._border.now())
            return JSONResponse({"detail": "This server does not know that key."}, status_code=401)
        keys.right(peer, key)
        made = Response()
        proof = await self._cookie.sign_in(request, made, key_hash)
        response = JSONResponse({"signedIn": True, "proof": proof}, headers=_FILE_HEADERS)
        response.headers["Set-Cookie"] = made.headers["Set-Cookie"]
        return response

    async def sign_out(self, request: Request) -> JSONResponse:
        """Sign out; only the console's own page may."""
        response = JSONResponse({"signedIn": False}, headers=_FILE_HEADERS)
        if not await self._cookie.sign_out(request, response):
            raise HTTPException(403, "Sign out from the console's own page")
        return response

    async def events(self, request: Request) -> StreamingResponse:
        """Stream the states of the project as server-sent events."""
        project_id = await self._project(request)
        key_hash = await self._cookie.key_hash(request)
        operator = await self._snapshots(request).is_operator(key_hash or "")
        stream = _changes(
            self._snapshots(request),
            project_id,
            operator=operator,
            signed_in=lambda: self._project_or_none(request),
        )
        return StreamingResponse(
            stream, media_type="text/event-stream", headers=_HEADERS | {"X-Accel-Buffering": "no"}
        )

    async def thumbnail(self, request: Request, browser_id: UUID) -> Response:
        """Send a picture of a running browser."""
        project_id = await self._project(request)
        jpeg = await self._snapshots(request).thumbnail(project_id, browser_id)
        if jpeg is None:
            raise HTTPException(404, "There is no picture of such a browser")
        return Response(jpeg, media_type="image/jpeg", headers=_HEADERS | {"Cache-Control": "no-store"})

    async def ledger(
        self, request: Request, limit: Annotated[int, Query(ge=1, le=_MOST_ENTRIES)] = 50
    ) -> JSONResponse:
        """List the newest entries of the project's ledger."""
        project_id = await self._project(request)
        found = await self._snapshots(request).ledger(project_id, limit=limit)
        return JSONResponse(found, headers=_FILE_HEADERS)

    async def listing(self, request: Request) -> JSONResponse:
        """List the files of the project's browsers and tasks."""
        project_id = await self._project(request)
        return JSONResponse(await self._snapshots(request).files.listing(project_id), headers=_FILE_HEADERS)

    async def browser_file(
        self, request: Request, browser_id: UUID, folder: BrowserFolder, name: str
    ) -> Response:
        """Send a file of a browser, to be saved."""
        project_id = await self._project(request)
        files = self._snapshots(request).files
        found = await files.of_browser(project_id, browser_id, folder, name)
        if found is None:
            raise HTTPException(404, "There is no such file")
        return files.attachment(found, found.name, headers=_FILE_HEADERS)

    async def task_file(self, request: Request, task_id: UUID, file_id: UUID) -> Response:
        """Send an output file of a task, to be saved."""
        project_id = await self._project(request)
        files = self._snapshots(request).files
        found = await files.of_task(project_id, task_id, file_id)
        if found is None:
            raise HTTPException(404, "There is no such file")
        return files.attachment(*found, headers=_FILE_HEADERS)


async def _changes(
    snapshots: Snapshots, project_id: UUID, *, operator: bool, signed_in: Callable[[], Any]
) -> AsyncIterator[str]:
    """Server-sent events: each state of the project that differs from the one before."""
    last: dict[str, Any] = {}
    silent = 0
    while not snapshots.closing:
        if await signed_in() != project_id:
            yield "event: signed-out\ndata: {}\n\n"
            return
        found = await snapshots.of(project_id)
        if found != last:
            last, silent = found, 0
            text = json.dumps({"now": snapshots.now(), "operator": operator, **found}, separators=(",", ":"))
            yield f"event: snapshot\ndata: {text}\n\n"
        elif (silent := silent + 1) >= _SILENT_TICKS:
            silent = 0
            yield ": still here\n\n"
        await asyncio.sleep(_TICK_SECONDS)
    yield "event: closing\ndata: {}\n\n"


def _files() -> dict[str, tuple[bytes, str]]:
    if not _cache:
        _read(_STATIC, "")
    return _cache


_cache: dict[str, tuple[bytes, str]] = {}


def _read(folder: Any, prefix: str) -> None:
    for entry in folder.iterdir():
        name = f"{prefix}{entry.name}"
        if entry.is_dir():
            _read(entry, f"{name}/")
        elif (kind := _TYPES.get(entry.name[entry.name.rfind(".") :])) is not None:
            _cache[name] = entry.read_bytes(), kind
