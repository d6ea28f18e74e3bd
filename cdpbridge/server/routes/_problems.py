"""Errors as the cloud words them: `{"detail": ...}`, and a list of `{"loc", "msg", "type"}` for 422."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from cdpbridge.errors import BrowserStartFailed
from cdpbridge.server.accounts import AccountRefused
from cdpbridge.server.gateway import NotReachable
from cdpbridge.server.hosts import NoFreeSlot
from cdpbridge.server.objects import ObjectStorageError
from cdpbridge.server.rentals import ClientLeft, KeyReused, OwnerSilent, StartWithdrawn
from cdpbridge.server.store import (
    AdmissionRefused,
    InsufficientCredits,
    KeyRevoked,
    SessionBusy,
    SessionOver,
    TooManyBrowsers,
    TooManyProfiles,
)

__all__ = ["STOPPED_TEXT", "database_failed", "install_problems", "not_found", "unprocessable"]

logger = logging.getLogger("cdpbridge.server")

# nginx's number for a client that has left; no one reads it.
_CLIENT_LEFT: Final = 499
# What FastAPI says of a body that is not even text (fastapi/routing.py); the reference knows 422 only.
_UNREADABLE: Final = (400, "There was an error parsing the body")
_CAUSE_CHARACTERS: Final = 1000
# When to come back to a server whose database or storage is away: it may be for a moment, and each try is cheap.
_AWAY: Final = {"Retry-After": "2"}
STOPPED_TEXT: Final = "Browser session is stopped. Please start a new session and try again."
_BUSY_TEXT: Final = (
    "Agent session already has a running task. Please wait for it to finish or stop it manually."
)


def not_found(what: str) -> HTTPException:
    """404 in the cloud's words: `Session not found`."""
    return HTTPException(404, f"{what} not found")


def unprocessable(field: str, message: str, *, where: str = "body") -> RequestValidationError:
    """422 for a field that only the server can judge."""
    return RequestValidationError([{"loc": (where, field), "msg": message, "type": "value_error"}])


def _answer(status: int, detail: Any, *, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status_code=status, headers=headers)


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _answer(
        422,
        [{"loc": list(item["loc"]), "msg": item["msg"], "type": item["type"]} for item in error.errors()],
    )


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if (error.status_code, error.detail) == _UNREADABLE:
        return _answer(422, [{"loc": ["body"], "msg": "the body is no JSON", "type": "json_invalid"}])
    return await http_exception_handler(request, error)


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, TooManyBrowsers):
        text = (
            "Too many concurrent active sessions. "
            "Please wait for one to finish, kill one, or upgrade your plan."
        )
        hint = (
            "the operator sets it by `max_browsers`, or for a project; a client can wait, with `slot_timeout`"
        )
        return _answer(429, f"{text} (limit: {error.limit}; {hint})")
    if isinstance(error, KeyRevoked):
        return _answer(401, "Invalid API key")
    free = request.app.state.services.plan(request.state.project_id) == "free"
    if isinstance(error, TooManyProfiles) and not free:
        return _answer(
            402,
            f"Too many profiles: the project has {error.limit}, which is the setting `max_profiles`. Delete one and try again.",
        )
    if isinstance(error, InsufficientCredits):
        return _answer(
            402, "Insufficient credits (the server's operator adds some: cdpbridge credits grant PROJECT USD)"
        )
    return _answer(402, "Subscription required for additional profiles")


async def _account_refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, AccountRefused)
    return _answer(error.status, str(error))


async def _not_started(_request: Request, error: Exception) -> Response:
    logger.warning("a browser could not be started: %s", error)
    return _answer(503, str(error)[:_CAUSE_CHARACTERS])


async def _no_free_slot(_request: Request, error: Exception) -> Response:
    assert isinstance(error, NoFreeSlot)
    logger.warning("a browser could not be started: %s", error)
    # With a time to come back it is not the project's own limit, and clients ask again by themselves.
    return _answer(429, str(error), headers={"Retry-After": str(error.retry_after_seconds)})


async def _withdrawn(_request: Request, error: Exception) -> Response:
    return _answer(503, str(error))


async def _reused(_request: Request, error: Exception) -> Response:
    return _answer(409, str(error))


async def _busy(_request: Request, _error: Exception) -> Response:
    return _answer(400, _BUSY_TEXT)


async def _over(_request: Request, _error: Exception) -> Response:
    return _answer(400, STOPPED_TEXT)


async def _client_left(_request: Request, _error: Exception) -> Response:
    return Response(status_code=_CLIENT_LEFT)


async def database_failed(request: Request, error: Exception) -> Response:
    """503, with the reason in the log."""
    logger.error("%s %s: the database failed", request.method, request.url.path, exc_info=error)
    return _answer(503, "The server's database cannot be used at the moment; try again later", headers=_AWAY)


async def _elsewhere(_request: Request, error: Exception) -> Response:
    assert isinstance(error, NotReachable)
    return _answer(error.status, str(error))


async def _storage(request: Request, error: Exception) -> Response:
    logger.error("%s %s: the object storage failed: %s", request.method, request.url.path, error)
    return _answer(
        503, "The server's object storage cannot be used at the moment; try again later", headers=_AWAY
    )


async def _unexpected(_request: Request, _error: Exception) -> Response:
    # Starlette raises it again, so the log has it.
    return _answer(500, "Internal server error")


def install_problems(app: FastAPI) -> None:
    """Tell `app` how each error is answered."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(AdmissionRefused, _refused)
    app.add_exception_handler(AccountRefused, _account_refused)
    app.add_exception_handler(BrowserStartFailed, _not_started)
    app.add_exception_handler(NoFreeSlot, _no_free_slot)
    app.add_exception_handler(StartWithdrawn, _withdrawn)
    app.add_exception_handler(OwnerSilent, _withdrawn)
    app.add_exception_handler(KeyReused, _reused)
    app.add_exception_handler(ClientLeft, _client_left)
    app.add_exception_handler(ClientDisconnect, _client_left)
    app.add_exception_handler(SessionBusy, _busy)
    app.add_exception_handler(SessionOver, _over)
    app.add_exception_handler(SQLAlchemyError, database_failed)
    app.add_exception_handler(NotReachable, _elsewhere)
    app.add_exception_handler(ObjectStorageError, _storage)
    app.add_exception_handler(Exception, _unexpected)
