"""A request that waits for a user's handler, and the rule that hands it over."""

from __future__ import annotations

import asyncio
import inspect
import json as json_module
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from cdpbridge._concurrency import mark_retrieved
from cdpbridge.cdp._paused import PAUSED, answer_paused
from cdpbridge.errors import CDPError, ConfigurationError
from cdpbridge.protocol import Command, Fetch, Network

from ._request_rules import Answer, Rule, checked_pattern
from ._response import headers_of, request_of

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession

__all__ = ["HandlerRule", "Route", "RouteHandler", "handler_rule"]

RouteHandler = Callable[["Route"], object] | Callable[["Route"], Awaitable[object]]

_REASONS: Final = {
    value.lower(): value
    for name, value in vars(Network.ErrorReason).items()
    if name.isupper() and isinstance(value, str)
}


@dataclass(frozen=True, eq=False)
class HandlerRule(Rule):
    """A rule whose requests a handler of the user answers."""

    handler: RouteHandler | None = None


def handler_rule(pattern: str, handler: RouteHandler) -> HandlerRule:
    """Return the rule that gives `handler` the requests whose address matches.

    Raises:
        ConfigurationError: The pattern can match no address.
    """
    return HandlerRule(_answering(handler), checked_pattern("pattern", pattern), handler=handler)


def _answering(handler: RouteHandler) -> Callable[[CDPSession, Fetch.RequestPaused], Awaitable[Answer]]:
    async def answer(session: CDPSession, event: Fetch.RequestPaused) -> Answer:
        route = Route(session, event)
        try:
            result = handler(route)
            if inspect.isawaitable(result):
                await result
        except Exception as error:
            if not route.answered:
                raise
            if error is not route._refused:  # noqa: SLF001  # which is reported already
                session.connection.report(error, session, PAUSED)
        if not route.answered:
            return None
        await route._failure()  # noqa: SLF001  # the request waits until its answer has arrived
        return True

    return answer


class Route:
    """A request that waits for an answer: one of `abort`, `continue_` and `fulfill`. Without one it goes on unchanged.

    The three send their answer at once. They can be awaited, and need not be. When the browser refuses an answer, e.g. a status of
    99999, the request fails, and the awaited call raises `CommandError`; `on_handler_error` gets it in any case.

    Attributes:
        request: It. Its `resource_type` is `"xhr"` for `fetch()` too: at this stage they are one kind.
        answered: True once it is.
    """

    def __init__(self, session: CDPSession, event: Fetch.RequestPaused) -> None:
        self.request = request_of(event.request, event.resource_type, event.frame_id)
        self.answered = False
        self._session = session
        self._cors = _cors_headers(event.request)
        self._id = event.request_id
        self._sending: asyncio.Task[None] | None = None
        self._refused: CDPError | None = None

    def __repr__(self) -> str:
        return f"<Route {self.request.method} {self.request.url}>"

    def abort(self, reason: str = "failed") -> Awaitable[None]:
        """Let it fail, with one of Chrome's `Network.ErrorReason` in any case, e.g. `"blockedbyclient"` or `"timedout"`."""
        found = _REASONS.get(str(reason).lower())
        if found is None:
            raise ConfigurationError(f"reason must be one of {', '.join(_REASONS)}, not {reason!r}")
        return self._choose(Fetch.fail_request(self._id, found))

    def continue_(
        self,
        *,
        url: str | None = None,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
        post_data: str | bytes | None = None,
    ) -> Awaitable[None]:
        """Let it go on, with what is given in place of its own; `headers` replace all of them. The page does not see another url."""
        body = post_data.encode() if isinstance(post_data, str) else post_data
        entries = None if headers is None else _entries(headers)
        return self._choose(
            Fetch.continue_request(self._id, url=url, method=method, headers=entries, post_data=body)
        )

    def fulfill(
        self,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        body: str | bytes = b"",
        content_type: str | None = None,
        json: Any = None,
    ) -> Awaitable[None]:
        """Answer it here, without the network.

        A page may read the answer from another origin, too: the headers of CORS that `headers` does not have are added.

        Args:
            status: HTTP status.
            headers: Of the answer.
            body: Text, in UTF-8, or bytes.
            content_type: Instead of a `Content-Type` in `headers`.
            json: A value to send as JSON, in place of `body`.
        """
        given = dict(headers or {})
        if json is not None:
            body, content_type = json_module.dumps(json), content_type or "application/json"
        if content_type is not None:
            given = {name: value for name, value in given.items() if name.lower() != "content-type"}
            given["Content-Type"] = content_type
        names = {name.lower() for name in given}
        if "access-control-allow-origin" not in names:
            given |= {name: value for name, value in self._cors.items() if name.lower() not in names}
        data = body.encode() if isinstance(body, str) else body
        return self._choose(
            Fetch.fulfill_request(self._id, status, response_headers=_entries(given), body=data)
        )

    def _choose(self, command: Command[None]) -> Awaitable[None]:
        if self.answered:
            raise RuntimeError(f"the request to {self.request.url} is answered already")
        self.answered = True
        self._sending = self._session.connection.create_task(self._send(command))
        taken = asyncio.ensure_future(self._taken())
        taken.add_done_callback(mark_retrieved)
        return taken

    async def _send(self, command: Command[None]) -> None:
        self._refused = await answer_paused(self._session, command, self._id)

    async def _taken(self) -> None:
        """Return when the browser has the answer.

        Raises:
            CDPError: It refused it.
        """
        failure = await self._failure()
        if failure is not None:
            raise failure

    async def _failure(self) -> CDPError | None:
        """Return what the browser refused the answer with, as soon as it is known; None if it took it."""
        assert self._sending is not None  # once answered
        await asyncio.wait({self._sending})
        return self._refused


def _cors_headers(request: Network.Request) -> dict[str, str]:
    """Return the headers that let a page of another origin read the answer; none within one origin."""
    sent = headers_of(request.headers)
    origin = sent.get("origin")
    parts = urlsplit(request.url)
    if origin is None or origin == f"{parts.scheme}://{parts.netloc}":
        return {}
    allowed = {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
        "Vary": "Origin",
    }
    method, names = sent.get("access-control-request-method"), sent.get("access-control-request-headers")
    if request.method == "OPTIONS" and method is not None:
        allowed["Access-Control-Allow-Methods"] = method
        allowed |= {} if names is None else {"Access-Control-Allow-Headers": names}
    return allowed


def _entries(headers: Mapping[str, str]) -> list[Fetch.HeaderEntry]:
    return [Fetch.HeaderEntry(name=name, value=str(value)) for name, value in headers.items()]
