"""Files over signed addresses: an upload in one request, a download into a file that is complete or absent."""

from __future__ import annotations

import os
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import BinaryIO

from cdpbridge._folders import in_its_folder, names_a_folder
from cdpbridge.api import _async_io as io
from cdpbridge.api._file_rules import Partial, UploadPlan, local_target
from cdpbridge.api._http import failure, transfer_error, transfer_timeout
from cdpbridge.api._httpx import httpx
from cdpbridge.api._task_models import PresignedUpload
from cdpbridge.api.calls import Call
from cdpbridge.errors import APIConnectionError, redact_url

from ._requests import AsyncRequests

__all__ = ["download", "upload"]


async def upload(requests: AsyncRequests, where: PresignedUpload, plan: UploadPlan, content: bytes) -> None:
    """Post a file as its signed form says; that may be repeated, as the name is signed too."""
    call: Call[None] = Call("POST", redact_url(where.url), None)

    async def once(_tries: int) -> None:
        http = await io.whole_http(await requests.connections())
        try:
            response = await http.post(
                where.url,
                data=where.fields,
                files={"file": (where.fields.get("key", plan.file_name), content, plan.content_type)},
                timeout=transfer_timeout(requests.timeout_seconds),
                follow_redirects=False,
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise failure(call, error) from error
        if response.status_code >= 300:
            raise transfer_error(call, response)

    await requests.repeat(call, once)


async def download(
    requests: AsyncRequests, address: Callable[[], Awaitable[tuple[str, str]]], path: Path | str
) -> Path:
    """Download a file; until it is complete, it has another name.

    Args:
        requests: Of the client whose connections are used.
        address: Gives a signed address and the file's name; called before each try, as addresses expire.
        path: The file, replaced if it is there; or a folder (one that does not exist yet if the name ends with a
            slash), and the file has the server's name.

    Returns:
        Where it is.
    """
    url, name = await address()
    target = local_target(Path(path), name, is_folder=await io.in_thread(names_a_folder, path))
    unfinished = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.part")
    call: Call[None] = Call("GET", redact_url(url), None)
    state = Partial()
    file: BinaryIO = await io.in_thread(_create, unfinished)
    try:

        async def once(tries: int) -> None:
            fresh = url if tries == 1 else (await address())[0]
            await _receive(requests, call, fresh, file, state)

        await requests.repeat(call, once)
        await io.in_thread(_finish, file, unfinished, target)
    finally:
        file.close()
        unfinished.unlink(missing_ok=True)
    return target


async def _receive(
    requests: AsyncRequests, call: Call[None], url: str, file: BinaryIO, state: Partial
) -> None:
    http = await io.whole_http(await requests.connections())
    try:
        async with http.stream(
            "GET",
            url,
            headers=state.headers(),
            timeout=transfer_timeout(requests.timeout_seconds),
            follow_redirects=True,
        ) as response:
            if response.status_code >= 300:
                await response.aread()
                raise transfer_error(call, response)
            try:
                goes_on = state.begin(response.status_code, response.headers)
            except ValueError as error:
                raise APIConnectionError(str(error), method=call.method, path=call.path) from error
            if not goes_on:
                await io.in_thread(_empty, file)
            async for chunk in response.aiter_bytes():
                await io.in_thread(file.write, chunk)
                state.received += len(chunk)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise failure(call, error) from error
    if wrong := state.missing():
        raise APIConnectionError(f"the connection broke: {wrong}", method=call.method, path=call.path)


def _create(path: Path) -> BinaryIO:
    return in_its_folder(path).open("xb")


def _empty(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()


def _finish(file: BinaryIO, unfinished: Path, target: Path) -> None:
    """Give the file its name when it is safely on the disk."""
    file.flush()
    os.fsync(file.fileno())
    file.close()
    unfinished.replace(target)
