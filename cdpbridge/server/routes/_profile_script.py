"""`/profile.sh`: a script that runs the profile sync on the machine of a user who may not have cdpbridge installed."""

from __future__ import annotations

import shlex
from importlib.resources import files
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from ._services import BASE_PATH, external_base

__all__ = ["router"]

_PLACEHOLDER: Final = "'@SERVER@'"

router = APIRouter(include_in_schema=False)


@router.get("/profile.sh")
def script(request: Request) -> PlainTextResponse:
    """Return the script, with the address of this server in it; the key stays with the user."""
    text = files("cdpbridge.server.routes").joinpath("profile.sh").read_text("utf-8")
    server = shlex.quote(f"{external_base(request)}{BASE_PATH}")
    return PlainTextResponse(
        text.replace(_PLACEHOLDER, server),
        media_type="text/x-shellscript",
        headers={"Cache-Control": "no-store"},
    )
