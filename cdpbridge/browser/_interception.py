"""Requests of a page, and of the frames and workers in it, that are blocked, changed, answered or logged in here.

Chromium pauses only what matches a pattern of ours; everything else never leaves the browser.
"""

from __future__ import annotations

import asyncio
import inspect
import json as json_module
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal, Self
from urllib.parse import urlsplit
from weakref import WeakSet

from cdpbridge._concurrency import mark_retrieved
from cdpbridge.cdp._http_auth import HttpAuth, note_page
from cdpbridge.cdp._http_credentials import HttpCredentials
from cdpbridge.cdp._paused import FAILED, PAUSED, answer_paused
from cdpbridge.errors import CDPError, ConfigurationError
from cdpbridge.protocol import Command, Fetch, Network

from ._response import headers_of, request_of

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession

    from ._frames import Frames

__all__ = [
    "RESOURCE_TYPES",
    "Interception",
    "Route",
    "RouteHandler",
    "Rule",
    "checked_pattern",
    "checked_patterns",
    "checked_types",
]

logger = logging.getLogger("cdpbridge")

RESOURCE_TYPES: Final = {
    "stylesheet": "Stylesheet",
    "image": "Image",
    "media": "Media",
    "font": "Font",
    "script": "Script",
    "texttrack": "Media",
    "xhr": "XHR",
    "fetch": "XHR",
    "prefetch": "Fetch",
    "eventsource": "XHR",
    "manifest": "Manifest",
    "ping": "Ping",
    "other": "Other",
}
"""Our word, Chrome's `Network.ResourceType` in lower case -> the type by which the Fetch domain knows it: there `fetch()` and
`EventSource` are XHR, text tracks are media, and a prefetch is Fetch (LIVE, Chromium 156)."""

_REASONS: Final = {
    value.lower(): value
    for name, value in vars(Network.ErrorReason).items()
    if name.isupper() and isinstance(value, str)
}
_BLOCKED: Final = "BlockedByClient"
_NO_ADDRESS: Final = [Fetch.RequestPattern(url_pattern="cdpbridge-no-address:")]
# Kinds of target that serve other tabs too.
_SHARED: Final = frozenset({"service_worker", "shared_worker"})

Answer = Command[None] | Literal[True] | None
RouteHandler = Callable[["Route"], object] | Callable[["Route"], Awaitable[object]]


@dataclass(frozen=True, eq=False)
class Rule:
    """Which requests are paused, and what becomes of them.

    Attributes:
        answer: Called with each; returns the command that answers it, True if it is answered, or None for the next rule.
        url_pattern: Addresses, with `*` for anything and `?` for one sign; a backslash takes the meaning of these.
        resource_type: Chrome's `Network.ResourceType`; None for all.
        at_response: Pause them when the head of their response has come, in place of before they are sent.
        page_only: Not in workers, and not in frames that have a process of their own.
    """

    answer: Callable[[CDPSession, Fetch.RequestPaused], Awaitable[Answer]]
    url_pattern: str = "*"
    resource_type: str | None = None
    at_response: bool = False
    page_only: bool = False

    @classmethod
    def blocking(cls, url_pattern: str = "*", *, resource_type: str | None = None) -> Self:
        """Return a rule that lets requests fail."""
        return cls(_refuse, url_pattern, resource_type)

    @property
    def blocks(self) -> bool:
        """True for a rule that lets requests fail."""
        return self.answer is _refuse

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        signs = re.findall(r"\\.|.", self.url_pattern, re.DOTALL)
        meaning = {"*": ".*", "?": "."}
        return re.compile("".join(meaning.get(each) or re.escape(each[-1]) for each in signs), re.DOTALL)

    def matches(self, event: Fetch.RequestPaused) -> bool:
        """Return True if the rule is about this request."""
        has_response = event.response_status_code is not None or event.response_error_reason is not None
        return (
            self.at_response == has_response
            and self.resource_type in {None, event.resource_type}
            and (self.url_pattern == "*" or self._expression.fullmatch(event.request.url) is not None)
        )

    def pattern(self) -> Fetch.RequestPattern:
        """Return it for Chromium."""
        stage = Fetch.RequestStage.RESPONSE if self.at_response else None
        return Fetch.RequestPattern(
            url_pattern=self.url_pattern, resource_type=self.resource_type, request_stage=stage
        )


async def _refuse(_session: CDPSession, event: Fetch.RequestPaused) -> Command[None]:
    return Fetch.fail_request(event.request_id, _BLOCKED)


class Interception:
    """The rules of one page. The newest rule that matches a request answers it; what no rule answers goes on.

    Args:
        frames: Of the page.
        spare_page: Do not block the page itself, whatever its address is.

    Attributes:
        blocked: Requests that were not let out.
    """

    def __init__(self, frames: Frames, *, spare_page: bool = False) -> None:
        self.blocked = 0
        self._spare_page = spare_page
        self._frames = frames
        self._rules: list[Rule] = []
        self._blocking: list[Rule] = []
        self._auth = HttpAuth()
        # Of the page; of its frames and workers that are targets of their own; and of the workers that serve other tabs too, which
        # rules leave alone.
        self._patterns: list[Fetch.RequestPattern] = []
        self._inner_patterns: list[Fetch.RequestPattern] = []
        self._patterns_of_shared: list[Fetch.RequestPattern] = []
        # One change at a time: each reaches several targets.
        self._changing = asyncio.Lock()
        self._set_up = False
        # False from the beginning of a change until every target has agreed: a change that was cancelled is sent again.
        self._applied = True
        self._heard: WeakSet[CDPSession] = WeakSet()
        # Requests that wait for a rule. `Fetch.disable` would release them, so it waits for them.
        self._open = 0
        self._enabled_for_open = False

    async def block(self, types: Iterable[str], urls: Iterable[str]) -> None:
        """Block Chrome's resource types and addresses from now on, and no others."""
        blocking = [Rule.blocking(resource_type=each) for each in types]
        await self.set([*blocking, *map(Rule.blocking, urls)], self._rules)

    async def set(
        self,
        blocking: Iterable[Rule],
        rules: Iterable[Rule],
        credentials: Iterable[HttpCredentials] | None = None,
    ) -> None:
        """Replace all rules, those that block and the others; and the credentials, if some are given."""
        self._blocking, self._rules = list(blocking), list(rules)
        if credentials is not None:
            self._auth.replace(credentials)
        await self._apply()

    async def log_in(self, credentials: HttpCredentials) -> None:
        """Give `credentials` to the servers of their origin, from now on, in place of those given before."""
        if self._auth.add(credentials):
            note_page(self._frames.main.session.connection, self._frames.main.id, self._auth)
            await self._apply()

    async def add(self, rule: Rule) -> None:
        """Let `rule` answer what it matches, from now on."""
        self._rules.append(rule)
        try:
            await self._apply()
        except BaseException:
            self._rules = [each for each in self._rules if each is not rule]
            raise

    async def remove(self, rules: Iterable[Rule]) -> None:
        """Remove rules."""
        removed = set(rules)
        self._rules = [each for each in self._rules if each not in removed]
        await self._apply()

    async def route(self, pattern: str, handler: RouteHandler) -> None:
        """See `Tab.route`."""
        await self.add(
            _HandlerRule(_answering(handler), checked_pattern("pattern", pattern), handler=handler)
        )

    async def unroute(self, pattern: str, handler: RouteHandler | None) -> None:
        """See `Tab.unroute`."""
        await self.remove(
            each
            for each in self._rules
            if isinstance(each, _HandlerRule)
            and each.url_pattern == pattern
            and handler in {None, each.handler}
        )

    async def _apply(self) -> None:
        async with self._changing:
            of_shared = self._auth.patterns()
            rules = [*self._rules, *self._blocking]
            patterns = [*(each.pattern() for each in rules), *of_shared]
            inner = [*(each.pattern() for each in rules if not each.page_only), *of_shared]
            had = (self._patterns, self._inner_patterns, self._patterns_of_shared)
            if self._applied and (patterns, inner, of_shared) == had:
                return
            self._patterns, self._inner_patterns, self._patterns_of_shared = patterns, inner, of_shared
            self._applied = False
            if self._set_up:
                await self._frames.everywhere(self._set)
            elif inner:
                await self._frames.set_up(self._set)
                self._set_up = True
            else:
                await self._set(self._frames.main.session)
            self._applied = True

    async def _set(self, session: CDPSession) -> None:
        if session.target_type in _SHARED:
            patterns = self._patterns_of_shared
        else:
            patterns = self._patterns if session is self._frames.main.session else self._inner_patterns
        if session not in self._heard:
            if not patterns:
                return
            self._heard.add(session)
            session.on(Fetch.RequestPaused, lambda event: self._on_paused(session, event))
            session.on(Fetch.AuthRequired, lambda event: self._on_auth(session, event))
        if patterns:
            # Challenges only when there is an answer: other sessions may have one.
            logs_in = bool(self._patterns_of_shared) or None
            await session.send(Fetch.enable(patterns=patterns, handle_auth_requests=logs_in))
        elif self._open:
            self._enabled_for_open = True
            await session.send(Fetch.enable(patterns=_NO_ADDRESS))
        else:
            await session.send(Fetch.disable())

    def _on_paused(self, session: CDPSession, event: Fetch.RequestPaused) -> None:
        # Not one after the other: each waits for the browser, or for a handler.
        self._open += 1
        session.connection.create_task(self._until_answered(self._decide(session, event)))

    def _on_auth(self, session: CDPSession, event: Fetch.AuthRequired) -> None:
        self._open += 1
        command = self._auth.answer(event)
        session.connection.create_task(
            self._until_answered(answer_paused(session, command, event.request_id))
        )

    async def _until_answered(self, answer: Coroutine[Any, Any, object]) -> None:
        try:
            await answer
        finally:
            self._open -= 1
        if not self._open and self._enabled_for_open:
            await self._disable()

    async def _disable(self) -> None:
        """Disable the domain, now that no request waits any more."""
        async with self._changing:
            if self._patterns or self._open or not self._enabled_for_open:
                return
            self._enabled_for_open = False
            try:
                await self._frames.everywhere(self._set)
            except (
                CDPError
            ) as error:  # the page has closed meanwhile, or will be set again by the next change
                self._applied = False
                logger.debug("the interception of a page was not disabled: %s", error)

    def _is_page(self, event: Fetch.RequestPaused) -> bool:
        return event.resource_type == "Document" and event.frame_id == self._frames.main.id

    async def _decide(self, session: CDPSession, event: Fetch.RequestPaused) -> None:
        try:
            answer = await self._answer(session, event)
        except Exception as error:  # noqa: BLE001  # a handler's failure belongs to its owner
            session.connection.report(error, session, PAUSED)
            answer = Fetch.fail_request(event.request_id, FAILED)
        if answer is not True:
            await answer_paused(session, answer or Fetch.continue_request(event.request_id), event.request_id)

    async def _answer(self, session: CDPSession, event: Fetch.RequestPaused) -> Answer:
        rules = () if session.target_type in _SHARED else [*self._blocking, *reversed(self._rules)]
        for rule in rules:
            if not rule.matches(event) or (rule.blocks and self._spare_page and self._is_page(event)):
                continue
            answer = await rule.answer(session, event)
            if answer is not None:
                self.blocked += rule.blocks
                return answer
        return None


@dataclass(frozen=True, eq=False)
class _HandlerRule(Rule):
    handler: RouteHandler | None = None


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


def checked_types(name: str, types: object) -> list[str]:
    """Return Chrome's names of resource types.

    Raises:
        ConfigurationError: There is no such type.
    """
    found = []
    for each in _texts(name, types):
        if each.lower() not in RESOURCE_TYPES:
            near = get_close_matches(each.lower(), RESOURCE_TYPES, n=1)
            raise ConfigurationError(
                f"{name}: there is no {each!r}; "
                + (f"do you mean {near[0]!r}?" if near else f"there are {', '.join(RESOURCE_TYPES)}")
            )
        found.append(RESOURCE_TYPES[each.lower()])
    return found


def checked_patterns(name: str, patterns: object) -> list[str]:
    """Return patterns of addresses. Errors as of `checked_pattern`."""
    return [checked_pattern(name, each) for each in _texts(name, patterns)]


def checked_pattern(name: str, pattern: object) -> str:
    """Return a pattern of addresses.

    Raises:
        ConfigurationError: It can match no address.
    """
    if not isinstance(pattern, str) or not re.match(r"[*?]|[a-zA-Z][a-zA-Z0-9+.*?-]*:", pattern):
        raise ConfigurationError(
            f"{name}: {pattern!r} matches no address: begin with * or a scheme, e.g. '*://example.com/*' or '*.png'"
        )
    return pattern


def _texts(name: str, given: object) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, Iterable):
        raise ConfigurationError(f"{name} must be a list of texts, not {given!r}")
    found = list(texts)
    if not all(isinstance(each, str) and each for each in found):
        raise ConfigurationError(f"{name} must be a list of texts, not {given!r}")
    return found
