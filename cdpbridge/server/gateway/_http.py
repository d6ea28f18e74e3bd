"""Chromium's HTTP endpoints below a browser's address, with the addresses in their answers made external."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import h11
from fastapi import APIRouter, HTTPException, Request, Response

from cdpbridge.server.limits import Border

from ._file_access import FileAccess
from ._files import add_file_routes
from ._hosts import HOST_TEXT, host_allowed, origin_allowed
from ._registry import Entry, NotReachable, Registry, Upstream

__all__ = ["router"]

_ANSWER_SECONDS: Final = 10.0
# /json/protocol has 1.6 MB, /json/list about 500 bytes a page, and a page's `data:` address may have 2 MB.
_MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
_CHUNK_BYTES: Final = 64 * 1024
_JSON: Final = "application/json; charset=UTF-8"
_TARGET: Final = re.compile(r"[A-Za-z0-9-]+")
_INNER: Final = re.compile(r"\Aws://[^/]+(?=/devtools/)")
_FRONTEND: Final = re.compile(r"(?<=[?&])ws=[^/&]+(?=/devtools/)")


def router(
    registry: Registry, external_base: Callable[[Request], str], *, border: Border | None = None
) -> APIRouter:
    """Return the routes below `/cdp/{token}`.

    Args:
        registry: The table of addresses.
        external_base: The address under which the request's client sees the server, `http(s)://host[:port][/prefix]`.
        border: Counts wrong tokens; default: a new one.
    """
    endpoints = _Endpoints(registry, external_base, border or Border.of())
    routes = APIRouter(prefix="/cdp/{token}", include_in_schema=False)
    # Playwright asks with a slash at the end.
    for path in ("", "/", "/json/version", "/json/version/"):
        routes.add_api_route(path, endpoints.version)
    for path in ("/json", "/json/list", "/json/list/"):
        routes.add_api_route(path, endpoints.targets)
    for path in ("/json/protocol", "/json/protocol/"):
        routes.add_api_route(path, endpoints.protocol)
    # By GET too: Chromium refuses it for `new` in its own words.
    routes.add_api_route("/json/new", endpoints.new, methods=["GET", "PUT"])
    routes.add_api_route("/json/{command}/{target_id}", endpoints.act, methods=["GET", "PUT"])
    routes.add_api_route("/proxy/failures", endpoints.proxy_failures)
    add_file_routes(routes, endpoints.files)
    return routes


class _Endpoints:
    def __init__(self, registry: Registry, external_base: Callable[[Request], str], border: Border) -> None:
        self._border = border
        self._registry = registry
        self._external_base = external_base

    async def version(self, request: Request) -> Response:
        return await self._forward(request, "/json/version")

    async def targets(self, request: Request) -> Response:
        tabs = "?for_tab" if "for_tab" in request.query_params else ""
        return await self._forward(request, f"/json/list{tabs}")

    async def protocol(self, request: Request) -> Response:
        entry = await self._browser(request)
        if entry.protocol is None:
            answer = await _ask(entry.upstream, "GET", "/json/protocol")
            if answer.status != 200:
                return answer.response()
            self._registry.keep_protocol(entry, answer.body)
        return Response(entry.protocol, media_type=_JSON)

    async def new(self, request: Request) -> Response:
        url = f"?{request.url.query}" if request.url.query else ""
        return await self._forward(request, f"/json/new{url}")

    async def act(self, request: Request) -> Response:
        command, target_id = request.path_params["command"], request.path_params["target_id"]
        await self._browser(request)
        if command not in {"activate", "close"} or not _TARGET.fullmatch(target_id):
            raise HTTPException(404, "the browser has no such command or target")
        return await self._forward(request, f"/json/{command}/{target_id}")

    async def _forward(self, request: Request, target: str) -> Response:
        entry = await self._browser(request)
        answer = await _ask(entry.upstream, request.method, target)
        if answer.status == 200:
            base = f"{self._external_base(request)}/cdp/{request.path_params['token']}"
            answer = replace(answer, body=_with_external(answer.body, base))
        return answer.response()

    async def proxy_failures(self, request: Request) -> list[dict[str, object]]:
        """Return why the browser's proxy could not serve it: for encrypted pages Chromium does not show its answer."""
        failures = (await self._browser(request)).proxy_failures
        return [] if failures is None else await failures()

    async def files(self, request: Request) -> FileAccess | None:
        """Return the files of the browser behind the request's token, for those who may ask."""
        return (await self._browser(request)).files

    async def _browser(self, request: Request) -> Entry:
        """Return the browser behind the request's token, for those who may ask."""
        try:
            entry = await self._registry.resolved(request.path_params["token"])
        except NotReachable as error:
            raise HTTPException(error.status, str(error)) from None
        if entry is None:
            self._border.check_token(
                request.client.host if request.client else None, request.path_params["token"]
            )
            raise HTTPException(404, "no browser has this address, or it has been stopped")
        host, origin = _once(request, "host"), _once(request, "origin")
        if not host_allowed(host, self._registry.allowed_hosts):
            raise HTTPException(403, HOST_TEXT)
        if not origin_allowed(origin, host, self._registry.allowed_hosts):
            raise HTTPException(403, "pages of this Origin may not read this; CDP clients send none")
        return entry


def _once(request: Request, name: str) -> str | None:
    values = request.headers.getlist(name)
    if len(values) > 1:
        raise HTTPException(400, "Host and Origin may be given once")
    return values[0] if values else None


def _with_external(body: bytes, base: str) -> bytes:
    """Return an answer of Chromium in which it has the address `base`; what is no JSON stays as it is."""
    try:
        value = json.loads(body)
    except ValueError:
        return body
    websocket = re.sub(r"\Ahttp", "ws", base)
    scheme, _, place = websocket.partition("://")
    for item in value if isinstance(value, list) else [value]:
        _rewrite(item, "webSocketDebuggerUrl", _INNER, websocket)
        _rewrite(item, "devtoolsFrontendUrl", _FRONTEND, f"{scheme}={place}")
    return json.dumps(value, indent=3).encode()


def _rewrite(item: Any, name: str, inner: re.Pattern[str], outer: str) -> None:
    if isinstance(item, dict) and isinstance(item.get(name), str):
        item[name] = inner.sub(lambda _: outer, item[name])


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    content_type: str
    body: bytes

    def response(self) -> Response:
        return Response(self.body, self.status, media_type=self.content_type)


async def _ask(upstream: Upstream, method: str, target: str) -> _Answer:
    """Ask Chromium, in bounded time and for an answer of bounded size."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            transport = await upstream.open(protocol)
            writer = asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
            try:
                return await _exchange(reader, writer, upstream, method, target)
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError:
        raise HTTPException(504, "the browser does not answer") from None
    except (OSError, h11.ProtocolError) as error:
        raise HTTPException(502, f"the browser cannot be asked ({type(error).__name__})") from None


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: Upstream, method: str, target: str
) -> _Answer:
    connection = h11.Connection(h11.CLIENT)
    # Chromium wants an IP address as Host and no Origin.
    headers = [("Host", upstream.authority), ("Connection", "close"), ("Content-Length", "0")]
    writer.write(connection.send(h11.Request(method=method, target=target, headers=headers)) or b"")
    connection.send(h11.EndOfMessage())
    status, content_type, body = 502, "text/plain", bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_CHUNK_BYTES))
        elif isinstance(event, h11.Response):
            status = event.status_code
            given = {name: value.decode("latin-1") for name, value in event.headers}
            content_type = given.get(b"content-type", content_type)
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > _MAX_ANSWER_BYTES:
                raise HTTPException(502, "the browser's answer is too long")
        elif isinstance(event, h11.EndOfMessage):
            return _Answer(status, content_type, bytes(body))
        else:
            raise h11.RemoteProtocolError("no answer")
