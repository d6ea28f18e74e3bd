"""`Request` and `Response`: what a page asked for and what it got, as values."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from cdpbridge._loopback import is_loopback_address
from cdpbridge.errors import CommandError
from cdpbridge.protocol import Network, Page, Runtime

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession

__all__ = ["PROXY_STATUS", "Request", "Response", "headers_of", "proxy_error", "request_of", "response_of"]

PROXY_STATUS: Final = "cdpbridge; error="
"""How the server's forwarding proxy marks an answer of its own in `Proxy-Status` (RFC 9209)."""
_UNKNOWN: Final = "No resource with given identifier"
"""How Chromium's answer begins when the page has noted no such response."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request of a page.

    Attributes:
        url: Where to, with its fragment.
        method: `"GET"`, `"POST"` and so on.
        headers: By lower-case names. The browser adds some later, e.g. cookies.
        resource_type: What it is for, in lower case as Chrome names it: `"document"`, `"image"`, `"xhr"`, `"fetch"` and so on.
        post_data: The body as text; None without one, or when Chrome does not report it.
        frame_id: Chrome's id of the frame that asks; `""` for a worker.
    """

    url: str
    method: str
    headers: dict[str, str]
    resource_type: str
    post_data: str | None = None
    frame_id: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer that a page got.

    Attributes:
        url: Where it comes from, after redirects.
        status: HTTP status.
        status_text: HTTP reason phrase; `""` with HTTP/2.
        headers: By lower-case names. Repeated ones are joined with `, `, those of `set-cookie` with a line break.
        resource_type: As of `Request`.
        mime_type: Type of the content as the browser sees it.
        from_service_worker: True if a service worker of the site answered.
        frame_id: As of `Request`.
    """

    url: str
    status: int
    status_text: str
    headers: dict[str, str]
    resource_type: str
    mime_type: str = ""
    from_service_worker: bool = False
    frame_id: str = ""
    _session: CDPSession | None = field(default=None, repr=False, compare=False)
    _request_id: str = field(default="", repr=False, compare=False)
    _loader_id: str = field(default="", repr=False, compare=False)
    _through_proxy: bool = field(default=False, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """True for a status of 200 to 299."""
        return 200 <= self.status < 300

    async def body(self) -> bytes:
        """Return the content, which the browser keeps until the page navigates.

        Raises:
            CommandError: The browser does not have it: it is still loading, a redirect, or no longer kept.
        """
        reply = await self._content()
        return base64.b64decode(reply.body) if reply.base64_encoded else reply.body.encode()

    async def text(self) -> str:
        """Return the content as text. Errors as of `body`."""
        reply = await self._content()
        return base64.b64decode(reply.body).decode("utf-8", "replace") if reply.base64_encoded else reply.body

    async def _content(self) -> Network.GetResponseBodyResult:
        assert self._session is not None  # `response_of` gives one
        try:
            return await self._session.send(Network.get_response_body(self._request_id))
        except CommandError as error:
            if not error.message.startswith(_UNKNOWN) or (found := await self._document()) is None:
                raise
            return found

    async def _document(self) -> Network.GetResponseBodyResult | None:
        """Ask the page for its document: a page that navigates while `Network` is being enabled has not noted the response."""
        assert self._session is not None
        send = self._session.send
        state, tree = await asyncio.gather(
            send(Runtime.evaluate("document.readyState")), send(Page.get_frame_tree())
        )
        frame = tree.frame_tree.frame
        if (frame.id, frame.loader_id) != (self.frame_id, self._loader_id) or state.result.value == "loading":
            return None
        try:
            kept = await send(Page.get_resource_content(frame.id, frame.url))
        except CommandError:
            return None
        return Network.GetResponseBodyResult(body=kept.content, base64_encoded=kept.base64_encoded)

    async def json(self) -> Any:
        """Return the content, decoded from JSON. Errors as of `body`, and ValueError."""
        return json.loads(await self.text())


def headers_of(headers: Mapping[str, Any] | None) -> dict[str, str]:
    """Return Chrome's headers, where repeated ones are one value with line breaks, by lower-case names."""
    found = {}
    for given, value in (headers or {}).items():
        name = given.lower()
        found[name] = str(value) if name == "set-cookie" else str(value).replace("\n", ", ")
    return found


def request_of(request: Network.Request, resource_type: str | None, frame_id: str | None) -> Request:
    """Return what an event says of a request."""
    return Request(
        url=request.url + (request.url_fragment or ""),
        method=request.method,
        headers=headers_of(request.headers),
        resource_type=(resource_type or "other").lower(),
        post_data=request.post_data,
        frame_id=frame_id or "",
    )


def response_of(
    event: Network.ResponseReceived,
    session: CDPSession,
    raw: Network.ResponseReceivedExtraInfo | None = None,
) -> Response:
    """Return what an event says of a response; with the headers as the network sent them, if these are known too."""
    response = event.response
    headers = response.headers if raw is None or raw.status_code != response.status else raw.headers
    return Response(
        url=response.url,
        status=response.status,
        status_text=response.status_text,
        headers=headers_of(headers),
        resource_type=event.type.lower(),
        mime_type=response.mime_type,
        from_service_worker=bool(response.from_service_worker),
        frame_id=event.frame_id or "",
        _session=session,
        _request_id=event.request_id,
        _loader_id=event.loader_id,
        _through_proxy=_is_through_proxy(response),
    )


def _is_through_proxy(response: Network.Response) -> bool:
    """Return True if the server's forwarding proxy sent it: from a loopback address, but not from the port that was asked for."""
    parts = urlsplit(response.url)
    if parts.scheme != "http" or response.remote_ip_address is None:
        return False
    return is_loopback_address(response.remote_ip_address.strip("[]")) and response.remote_port != (
        parts.port or 80
    )


def proxy_error(response: Response) -> str | None:
    """Return the error type when the server's forwarding proxy has answered in place of the site; None otherwise.

    It can answer plain HTTP only; what an encrypted site sends, or one without a proxy, is the site's own. From sites that it
    forwards it removes the mark.
    """
    status = response.headers.get("proxy-status", "") if response._through_proxy else ""  # noqa: SLF001
    return status.removeprefix(PROXY_STATUS) if status.startswith(PROXY_STATUS) else None
