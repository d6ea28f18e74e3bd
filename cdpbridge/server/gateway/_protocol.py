"""The upgrade: uvicorn hands over a socket and its request, and gets back a relayed WebSocket or a refusal.

Addresses of browsers are ours; the application's own WebSockets are passed on to uvicorn's protocol, and so to it.

The order of the checks: token, `Host`, `Origin`, path, handshake. Who has no token learns nothing else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, ClassVar, Final, cast
from urllib.parse import unquote, urlsplit

from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.datastructures import MultipleValuesError
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from cdpbridge.errors import CDPBridgeError
from cdpbridge.server.limits import NO_PLACE_TEXT, SAFE_HEADERS, TOO_MANY_TEXT, Border

from ._dial import BrowserUnreachable, TargetNotFound, dial
from ._hosts import HOST_TEXT, host_allowed, origin_allowed
from ._registry import Entry, NotReachable, Registry, Upstream
from ._splice import Splice
from ._viewer import viewer_protocol

__all__ = ["gateway_protocol"]

logger = logging.getLogger("cdpbridge.server")

_PATH: Final = re.compile(r"/cdp/([^/]+)(/.*)?")
_TARGET: Final = re.compile(rb"[A-Z]+ (?:https?://[^/ ]+)?([^ ?]*)")
_PAGE: Final = re.compile(r"/devtools/page/[A-Za-z0-9-]+")


def gateway_protocol(
    registry: Registry,
    allowed_hosts: Iterable[str] = (),
    *,
    passed_on: Iterable[str] = (),
    border: Border | None = None,
    max_clients: int | None = None,
) -> type[asyncio.Protocol]:
    """Return the class to give to uvicorn as `ws`. The ASGI application sees no WebSocket but those of `passed_on`.

    Args:
        registry: The table of addresses; it learns `allowed_hosts`, so that the HTTP side goes by them too.
        allowed_hosts: Names accepted in `Host` and `Origin` besides IP addresses and `localhost`.
        passed_on: Paths that belong to the application.
        border: Limits of peers without a token; default: new ones.
        max_clients: WebSockets of one browser, 429 above; default: no limit.
    """
    registry.allow_hosts(allowed_hosts)
    border = border or Border.of()
    relay = type(
        "GatewayProtocol",
        (_GatewayProtocol,),
        {"_registry": registry, "_border": border, "_max_clients": max_clients},
    )
    application = viewer_protocol(border)
    return type(
        "UpgradeProtocol",
        (_UpgradeProtocol,),
        {"_relay": relay, "_application": application, "_passed_on": frozenset(passed_on)},
    )


class _Refusal(CDPBridgeError):
    """The answer to an upgrade that is not one."""

    def __init__(self, status: HTTPStatus, detail: str, *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after = retry_after


class _UpgradeProtocol(asyncio.Protocol):
    """Reads the path of the upgrade request, which uvicorn hands over whole, and hands the socket to whom it concerns."""

    _relay: ClassVar[type[_GatewayProtocol]]
    _application: ClassVar[type[asyncio.Protocol]]
    _passed_on: ClassVar[frozenset[str]]

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        self._arguments: dict[str, Any] = {
            "config": config,
            "server_state": server_state,
            "app_state": app_state,
        }
        self._transport: asyncio.BaseTransport
        self._taker: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._taker is None:
            match = _TARGET.match(data)
            passed_on = match is not None and match[1].decode("latin-1") in self._passed_on
            self._taker = (self._application if passed_on else self._relay)(**self._arguments)
            self._taker.connection_made(self._transport)
            # uvicorn makes us the socket's protocol as soon as we return.
            asyncio.get_running_loop().call_soon(self._step_aside)
        self._taker.data_received(data)

    def _step_aside(self) -> None:
        if not self._transport.is_closing():
            self._transport.set_protocol(self._taker)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._taker is not None:
            self._taker.connection_lost(exc)

    def pause_writing(self) -> None:
        self._taker.pause_writing()

    def resume_writing(self) -> None:
        self._taker.resume_writing()

    def eof_received(self) -> None:
        if self._taker is not None:
            self._taker.eof_received()


class _GatewayProtocol(asyncio.Protocol):
    """One client from its upgrade request to the end of its socket."""

    _registry: ClassVar[Registry]
    _border: ClassVar[Border]
    _max_clients: ClassVar[int | None]

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        # uvicorn waits for these when it stops.
        self._connections: set[Any] = server_state.connections
        # Offers no extension: compressed frames would tie both sides together.
        self._core = ServerProtocol()
        self._core.debug = False  # the log would show addresses
        self._transport: asyncio.Transport
        self._entry: Entry | None = None
        self._opening: asyncio.Task[None] | None = None
        self._splice: Splice | None = None

    # --- uvicorn's side -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The transport of uvloop inherits from no asyncio class.
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._entry is not None or self._opening is not None or self._transport.is_closing():
            return  # no frame may come before our answer
        self._core.receive_data(data)
        for event in self._core.events_received():
            assert isinstance(event, Request)
            self._answer(event)
        self._write_core()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._opening is not None:
            self._opening.cancel()
        self._over()

    def shutdown(self) -> None:
        """Run by uvicorn when it stops; clients whose browser has been stopped know already."""
        if self._splice is None:
            self.finish(1001, "server stopping")
        elif self._splice.ended.done():
            self._splice.abort()
        else:
            self._splice.finish(1001, "server stopping")

    # --- the registry's side, until the WebSocket is open ---------------------------------------------------------

    def finish(self, code: int, reason: str) -> None:
        """Refuse the WebSocket: the browser is being stopped."""
        if self._opening is not None:
            self._opening.cancel()
        if not self._transport.is_closing():
            self._refuse(_Refusal(HTTPStatus.SERVICE_UNAVAILABLE, reason))
        self._settle()

    # --- the upgrade ----------------------------------------------------------------------------------------------

    def _answer(self, request: Request) -> None:
        match = _PATH.fullmatch(urlsplit(request.path).path)
        token = unquote(match[1]) if match else None
        entry = None if token is None else self._registry.find(token)
        if entry is not None or token is None:
            self._lead(request, entry)
        else:
            self._transport.pause_reading()
            self._opening = self._loop.create_task(self._resolve(request, token))

    async def _resolve(self, request: Request, token: str) -> None:
        """Answer for a token that may be of a browser that another server has started."""
        try:
            entry = await self._registry.resolved(token)
        except NotReachable as error:
            self._refuse(_Refusal(error.status, str(error)))
        except Exception:
            logger.exception("a browser's address could not be resolved")
            self._refuse(_Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the gateway failed"))
        else:
            self._opening = None
            self._lead(request, entry)
            self._write_core()

    def _lead(self, request: Request, entry: Entry | None) -> None:
        try:
            entry, path = self._check(request, entry)
        except _Refusal as refusal:
            self._refuse(refusal)
            return
        response = self._core.accept(request)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            self._core.send_response(response)
            return
        self._entry = entry
        entry.clients.add(self)
        self._transport.pause_reading()
        self._opening = self._loop.create_task(self._open(entry, path, response))

    def _check(self, request: Request, entry: Entry | None) -> tuple[Entry, str]:
        match = _PATH.fullmatch(urlsplit(request.path).path)
        if match is None or entry is None:
            self._count_guess(request, match[1] if match else request.path)
            raise _Refusal(HTTPStatus.NOT_FOUND, "no browser has this address, or it has been stopped")
        try:
            host, origin = request.headers.get("Host"), request.headers.get("Origin")
        except MultipleValuesError:
            raise _Refusal(HTTPStatus.BAD_REQUEST, "Host and Origin may be given once") from None
        if not host_allowed(host, self._registry.allowed_hosts):
            raise _Refusal(HTTPStatus.FORBIDDEN, HOST_TEXT)
        if not origin_allowed(origin, host, self._registry.allowed_hosts):
            raise _Refusal(
                HTTPStatus.FORBIDDEN, "pages of this Origin may not connect; CDP clients send none"
            )
        path = _browser_path(entry.upstream, match[2] or "")
        if path is None:
            raise _Refusal(HTTPStatus.NOT_FOUND, "the browser has no WebSocket here")
        if self._max_clients is not None and len(entry.clients) >= self._max_clients:
            raise _Refusal(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"the browser has {self._max_clients} clients already; see the setting `max_clients_per_browser`",
            )
        if not self._border.connections.may_stay():
            raise _Refusal(HTTPStatus.SERVICE_UNAVAILABLE, NO_PLACE_TEXT)
        return entry, path

    def _count_guess(self, request: Request, token: str) -> None:
        peername = self._transport.get_extra_info("peername")
        socket_address = str(peername[0]) if isinstance(peername, tuple) else ""
        address = self._border.peers.client(socket_address, request.headers.get_all("X-Forwarded-For"))
        wait = self._border.wrong_token(address, token)
        if wait is not None:
            raise _Refusal(HTTPStatus.TOO_MANY_REQUESTS, TOO_MANY_TEXT, retry_after=wait)

    async def _open(self, entry: Entry, path: str, response: Response) -> None:
        try:
            browser, pending = await dial(entry.upstream, path)
        except TargetNotFound:
            self._refuse(_Refusal(HTTPStatus.NOT_FOUND, "the browser has no such target"))
        except BrowserUnreachable as error:
            self._refuse(_Refusal(HTTPStatus.BAD_GATEWAY, str(error)))
        except Exception:
            logger.exception("a client could not be connected")
            self._refuse(_Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the gateway failed"))
        else:
            self._opening = None
            self._core.send_response(response)
            self._write_core()
            entry.clients.discard(self)
            self._splice = Splice(entry, self._transport, browser, pending, self._over)
            entry.clients.add(self._splice)
            self._settle()

    def _refuse(self, refusal: _Refusal) -> None:
        response = self._core.reject(refusal.status, json.dumps({"detail": refusal.detail}))
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "application/json"
        for name, value in SAFE_HEADERS.items():
            response.headers[name] = value
        if refusal.retry_after is not None:
            response.headers["Retry-After"] = str(refusal.retry_after)
        self._core.send_response(response)
        self._write_core()

    def _write_core(self) -> None:
        for data in self._core.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._transport.close()

    # --- the end --------------------------------------------------------------------------------------------------

    def _over(self) -> None:
        self._connections.discard(self)
        if self._entry is not None:
            self._entry.clients.discard(self)
            if self._splice is not None:
                self._entry.clients.discard(self._splice)
        self._settle()

    def _settle(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


def _browser_path(upstream: Upstream, path: str) -> str | None:
    """Return where a path below the token leads. Chromium takes any path that begins with its browser id: compared here."""
    if path in {"", "/", upstream.browser_path}:
        return upstream.browser_path
    return path if _PAGE.fullmatch(path) else None
