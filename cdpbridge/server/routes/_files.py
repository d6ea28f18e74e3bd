"""`/files`: presigned addresses, and behind them the files themselves, which need no key."""

from __future__ import annotations

import asyncio
import logging
import mimetypes
import secrets
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID

from fastapi import APIRouter, HTTPException
from starlette.requests import Request
from starlette.responses import Response

from cdpbridge._file_names import safe_file_name
from cdpbridge.api._task_models import (
    UPLOAD_CONTENT_TYPES,
    PresignedUpload,
    TaskOutputFile,
    UploadFileRequest,
)
from cdpbridge.server import store
from cdpbridge.server.files import (
    BadSignature,
    Grant,
    UploadLimits,
    UploadRefused,
    file_response,
    receive_upload,
    stored_uploads,
)

from ._addresses import FILES_PATH, signed_url
from ._fields import FieldsRoute
from ._files_here import check_path_here
from ._problems import STOPPED_TEXT, not_found, unprocessable
from ._rest import rest_router
from ._services import ProjectId, Services, ServicesOf, client_address, external_base

__all__ = ["public_router", "router"]

router = rest_router("/files", tags=["Files"], route_class=FieldsRoute)
public_router = APIRouter(prefix=FILES_PATH, include_in_schema=False)

logger = logging.getLogger("cdpbridge.server")

_UPLOAD_AGE: Final = timedelta(minutes=10)
_NONCE_BYTES: Final = 12
# What agents and pages have written must not run as a page of ours.
_HEADERS: Final = {
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@router.post("/sessions/{session_id}/presigned-url")
async def presign_session_upload(
    request: Request, services: ServicesOf, project_id: ProjectId, session_id: UUID, body: UploadFileRequest
) -> PresignedUpload:
    """Generate a secure presigned URL for uploading files that AI agents can use during tasks.

    `fileName` in the answer is the name under which agents find the file. It is another one than asked for when the session has
    a file of that name, or an address for one: `note (2).txt`.
    """
    found = await services.store.agent_session(project_id, session_id)
    return await _presign(request, services, found and found[1], body, unique=True)


@router.post("/browsers/{session_id}/presigned-url")
async def presign_browser_upload(
    request: Request, services: ServicesOf, project_id: ProjectId, session_id: UUID, body: UploadFileRequest
) -> PresignedUpload:
    """Generate a secure presigned URL for uploading files that the browser can use.

    `path` in the answer is where the browser finds the file, for `DOM.setFileInputFiles`.
    """
    return await _presign(request, services, await services.store.browser(project_id, session_id), body)


async def _presign(
    request: Request,
    services: Services,
    browser: store.Browser | None,
    body: UploadFileRequest,
    *,
    unique: bool = False,
) -> PresignedUpload:
    if browser is None:
        raise not_found("Session")
    if body.content_type not in UPLOAD_CONTENT_TYPES:
        raise HTTPException(400, "Unsupported content type")
    if browser.over:
        raise HTTPException(400, STOPPED_TEXT)
    await services.resolver.reach(browser)
    folder = await asyncio.to_thread(services.files.make, services.files.uploads(browser.id))
    name = safe_file_name(body.file_name)
    now = services.wall()
    expires = now + _UPLOAD_AGE
    # A browser's file replaces the one of its name; a session's gets a name of its own.
    files, size = await asyncio.to_thread(stored_uploads, folder, without="" if unique else name)
    if (why := await services.quota.refusal(browser.project_id, body.size_bytes)) is not None:
        raise HTTPException(400, why)
    # Looked at again when the file has come: others may come before it.
    if (why := _limits(services).refusal(files + 1, size + body.size_bytes)) is not None:
        raise HTTPException(400, why)
    if unique:
        reserve = partial(services.files.reserve, now=now.timestamp(), age=_UPLOAD_AGE.total_seconds())
        try:
            name = await asyncio.to_thread(reserve, folder, name)
        except FileExistsError as error:
            raise unprocessable("fileName", str(error)) from None
    grant = Grant(
        path=services.files.relative(folder / name),
        content_type=body.content_type,
        size=body.size_bytes,
        expires=int(expires.timestamp()),
        nonce=secrets.token_hex(_NONCE_BYTES),
    )
    return PresignedUpload(
        url=f"{external_base(request)}{FILES_PATH}",
        method="POST",
        fields=services.signer.upload_fields(grant),
        file_name=name,
        expires_in=int(_UPLOAD_AGE.total_seconds()),
        path=str(services.hosts.upload_path(browser.id, folder / name)),
    )


def _limits(services: Services) -> UploadLimits:
    settings = services.settings
    return UploadLimits(settings.max_uploads_per_browser, settings.max_upload_mb_per_browser)


async def _place(services: Services, grant: Grant) -> Path | None:
    """Return where an upload goes; None when its browser has been stopped, or its files removed."""
    browser_id = services.files.browser_of(grant.path)
    browser = None if browser_id is None else await services.store.rental(browser_id)
    if browser is None or browser.over:
        return None
    await services.resolver.reach(browser)
    return services.files.place(grant.path)


@router.get("/tasks/{task_id}/output-files/{file_id}")
async def get_output_file(
    request: Request, services: ServicesOf, project_id: ProjectId, task_id: UUID, file_id: UUID
) -> TaskOutputFile:
    """Get secure download URL for an output file generated by the AI agent."""
    if await services.store.task(project_id, task_id) is None:
        raise not_found("Task")
    file = await services.store.task_file(task_id, file_id)
    if file is None:
        raise not_found("Output file")
    if await asyncio.to_thread(services.files.find, file.path) is None:
        await check_path_here(services, file.path)
        raise not_found("Output file")
    return TaskOutputFile(
        id=file.id, file_name=file.file_name, download_url=signed_url(request, services, file.path)
    )


# --- behind the addresses ---------------------------------------------------------------------------------------------


@public_router.post("")
async def upload(request: Request, services: ServicesOf) -> Response:
    """One file, as the signed fields of the form allow it, once."""
    presented = ""

    def now() -> float:
        return services.wall().timestamp()

    def check(fields: dict[str, str]) -> Grant:
        nonlocal presented
        presented = f"{fields.get('policy')}\n{fields.get('signature')}"
        return services.signer.check_upload(fields, now=now())

    try:
        place = await receive_upload(
            request.headers.get("content-type", ""),
            request.stream(),
            check=check,
            target=partial(_place, services),
            limits=_limits(services),
            now=now,
        )
    except BadSignature as error:
        raise _wrong(request, services, error, presented) from None
    except UploadRefused as error:
        raise HTTPException(error.status, str(error)) from None
    browser_id = services.files.browser_of(services.files.relative(place))
    if browser_id is not None:
        try:
            await services.hosts.give_upload(browser_id, place)
        except OSError as error:
            logger.warning("an upload is not with browser %s: %s", browser_id, error)
            raise HTTPException(502, "the file has come, and cannot be brought to its browser") from None
    return Response(status_code=204)


@public_router.api_route("/{path:path}", methods=["GET", "HEAD"], response_model=None)
async def download(
    request: Request, services: ServicesOf, path: str, expires: str = "", signature: str = ""
) -> Response:
    """Return a file, or the range of it that is asked for."""
    try:
        services.signer.check_download(path, expires, signature, now=services.wall().timestamp())
    except BadSignature as error:
        raise _wrong(request, services, error, f"{path}\n{expires}\n{signature}") from None
    file = await asyncio.to_thread(services.files.find, path)
    if file is None:
        await check_path_here(services, path)
        raise HTTPException(404, "the file has been removed")
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    inline = kind in {"image/png", "image/jpeg", "text/plain"}
    return file_response(
        services.files,
        file,
        media_type=kind,
        headers=_HEADERS,
        disposition="inline" if inline else "attachment",
    )


def _wrong(request: Request, services: Services, error: BadSignature, address: str) -> HTTPException:
    """401, or 429 for a peer that has sent too many wrong addresses."""
    try:
        services.border.check_token(client_address(request.scope), address)
    except HTTPException as too_many:
        return too_many
    return HTTPException(401, f"{error}; ask the API for a new one")
