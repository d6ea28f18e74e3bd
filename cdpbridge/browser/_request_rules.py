"""Which requests of a page are paused, and the checks of what users write for that: kinds and addresses."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal, Self

from cdpbridge.errors import ConfigurationError
from cdpbridge.protocol import Command, Fetch

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession

__all__ = ["RESOURCE_TYPES", "Answer", "Rule", "checked_pattern", "checked_patterns", "checked_types"]

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

_BLOCKED: Final = "BlockedByClient"

Answer = Command[None] | Literal[True] | None


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
