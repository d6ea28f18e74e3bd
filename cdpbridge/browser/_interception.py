"""Requests of a page, and of the frames and workers in it, that are blocked, changed, answered or logged in here.

Chromium pauses only what matches a pattern of ours; everything else never leaves the browser.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from cdpbridge.cdp._http_auth import HttpAuth, note_page
from cdpbridge.cdp._http_credentials import HttpCredentials
from cdpbridge.cdp._paused import FAILED, PAUSED, answer_paused
from cdpbridge.errors import CDPError
from cdpbridge.protocol import Fetch

from ._request_rules import Answer, Rule
from ._route import HandlerRule, RouteHandler, handler_rule

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession

    from ._frames import Frames

__all__ = ["Interception"]

logger = logging.getLogger("cdpbridge")

_NO_ADDRESS: Final = [Fetch.RequestPattern(url_pattern="cdpbridge-no-address:")]
# Kinds of target that serve other tabs too.
_SHARED: Final = frozenset({"service_worker", "shared_worker"})


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
        await self.add(handler_rule(pattern, handler))

    async def unroute(self, pattern: str, handler: RouteHandler | None) -> None:
        """See `Tab.unroute`."""
        await self.remove(
            each
            for each in self._rules
            if isinstance(each, HandlerRule)
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
