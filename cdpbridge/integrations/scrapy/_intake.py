"""What is no page comes as the server sent it: its body is taken from the network, before the browser builds anything of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Final

from cdpbridge.browser._request_rules import Rule
from cdpbridge.browser._response import PROXY_STATUS
from cdpbridge.browser._watch import NO_CONTENT
from cdpbridge.cdp import read_stream
from cdpbridge.errors import CDPError
from cdpbridge.integrations.scrapy._documents import (
    Header,
    Kind,
    cut_off,
    declared_length,
    ends_early,
    kind_of,
    looks_like_html,
    without_transfer,
)
from cdpbridge.protocol import Fetch, Network

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession
    from cdpbridge.protocol import Command

__all__ = ["BodyCutOff", "BodyTooLarge", "Intake", "Limits", "Taken"]

logger = logging.getLogger("cdpbridge")

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_BUILT_AT_MOST: Final = 64 * 1024 * 1024
"""Bytes of what is given back to the browser: it takes no message above 100 MiB, and base64 adds a third."""
_LARGE: Final = 1024 * 1024  # bytes that are looked through in a thread


class BodyTooLarge(Exception):
    """A body is larger than `Limits.max_size`."""


class BodyCutOff(Exception):
    """A body ends before its end."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a body is taken. Sizes in bytes, 0 for no limit.

    Attributes:
        max_size: Beyond it the visit fails.
        warn_size: Beyond it there is a warning.
        fail_on_data_loss: Whether a body that is cut off is a failure.
    """

    max_size: int = 0
    warn_size: int = 0
    fail_on_data_loss: bool = True


@dataclass(slots=True)
class Taken:
    """A response whose body was taken.

    Attributes:
        request_id: Chrome's, also the id of the loader that its document would have had.
        headers: As Chrome's interception tells them: bytes that are no UTF-8 are missing.
        cut_off: The body ended before its end.
        built: The browser got it, too, and has a document of it.
    """

    request_id: str
    url: str
    status: int
    headers: list[Header]
    body: bytes
    cut_off: bool = False
    built: bool = False


class Intake:
    """Takes what the main frame of a page gets and what is no HTML, visit by visit.

    Args:
        frame_id: Of the page's main frame.

    Attributes:
        rule: For the page's interception.
        taken: Of this visit.
        failure: Why nothing could be taken.
    """

    def __init__(self, frame_id: str) -> None:
        self.rule = Rule(self._answer, resource_type="Document", at_response=True, page_only=True)
        self.taken: Taken | None = None
        self.failure: Exception | None = None
        self._frame_id = frame_id
        self._limits = Limits()
        self._build = False
        self._open = False
        self._has_page = False
        self._notify: Callable[[], None] = lambda: None

    def begin(self, limits: Limits, notify: Callable[[], None], *, build: bool) -> None:
        """Begin a visit.

        Args:
            notify: Called when something was taken or failed.
            build: Give what was taken to the browser, too, so that there is a document to take a picture of.
        """
        self.taken = self.failure = None
        self._limits, self._notify, self._build = limits, notify, build
        self._open, self._has_page = True, False

    def end(self) -> None:
        """Take nothing more: the visit has its document. What comes now does not take its place, unless it is a page."""
        self._open = False

    def watch_page(self, url: str, size: int) -> None:
        """Note how much of a page the browser has got; one that is too large is not waited for."""
        if self._open and self.failure is None and not self._fits(url, size, expected=False):
            self._notify()

    @property
    def over(self) -> bool:
        """True when there is no document to wait for."""
        return self.failure is not None or (self.taken is not None and not self.taken.built)

    async def _answer(self, session: CDPSession, event: Fetch.RequestPaused) -> Command[None] | None:
        """Answer a request of which the head of the response is there."""
        status = event.response_status_code
        if event.frame_id != self._frame_id or status is None:
            return None
        headers = [(each.name, each.value.encode()) for each in event.response_headers or ()]
        if status in _REDIRECTS and any(name.lower() == "location" for name, _value in headers):
            return None
        kind = kind_of(headers)
        if kind is Kind.PAGE and not self._open:
            return None
        refused = Fetch.fail_request(event.request_id, Network.ErrorReason.ABORTED)
        # A file that a page offers, and an answer without content, leave the page as it is.
        leaves = self._has_page and (kind is Kind.SAVED or status in NO_CONTENT)
        if not self._open or self.taken is not None or leaves:
            return refused
        if any(
            name.lower() == "proxy-status" and value.startswith(PROXY_STATUS.encode())
            for name, value in headers
        ):
            return None  # whether it is the proxy's own is known when the browser has it
        if (
            kind is Kind.PAGE
            and status not in NO_CONTENT
            and event.request.method != "HEAD"
            and self._fits(event.request.url, declared_length(headers), expected=True)
        ):
            self._has_page = True
            return None
        command: Command[None] = refused
        try:
            if self.failure is None:
                command = await self._take(session, event, status, headers, kind) or refused
        except (CDPError, BodyTooLarge, BodyCutOff) as error:
            self.failure = error
        if self.over:
            self._notify()
        return command

    async def _take(
        self,
        session: CDPSession,
        event: Fetch.RequestPaused,
        status: int,
        headers: list[Header],
        kind: Kind,
    ) -> Command[None] | None:
        """Take the body; return the command with which the browser builds a document all the same."""
        body, lost = b"", False
        if status not in NO_CONTENT and event.request.method != "HEAD" and declared_length(headers) != 0:
            if not self._fits(event.request.url, declared_length(headers), expected=True):
                return None
            body = await self._body(session, event)
            lost = cut_off(headers, len(body)) or await _ends_early(headers, body)
            if lost and self._limits.fail_on_data_loss:
                raise BodyCutOff(
                    f"{event.request.url}: the body ends after {len(body)} bytes, before its end"
                )
        is_page = kind is Kind.UNKNOWN and looks_like_html(body)
        built = (is_page or (self._build and kind is not Kind.SAVED)) and 0 < len(body) <= _BUILT_AT_MOST
        if is_page and built:
            self._has_page = True
        else:
            url = event.request.url + (event.request.url_fragment or "")
            request_id = event.network_id or ""
            self.taken = Taken(request_id, url, status, headers, body, cut_off=lost, built=built)
        if not built:
            return None
        given = [
            Fetch.HeaderEntry(name=name, value=value.decode())
            for name, value in without_transfer(headers)
            if name.lower() != "set-cookie"  # which the browser has seen
        ]
        if is_page:
            given.append(Fetch.HeaderEntry(name="Content-Type", value="text/html"))
        return Fetch.fulfill_request(event.request_id, status, response_headers=given, body=body)

    async def _body(self, session: CDPSession, event: Fetch.RequestPaused) -> bytes:
        stream = (await session.send(Fetch.take_response_body_as_stream(event.request_id))).stream
        # Its value is its own buffer, so that a body is in memory once.
        body = BytesIO()
        async with aclosing(read_stream(session, stream)) as chunks:
            async for chunk in chunks:
                body.write(chunk)
                self._fits(event.request.url, body.tell(), expected=False)
                if self.failure is not None:
                    raise self.failure
        return body.getvalue()

    def _fits(self, url: str, size: int | None, *, expected: bool) -> bool:
        """Return False if a body is too large; warn of a large one, once."""
        limits, size = self._limits, size or 0
        what = "will have" if expected else "has at least"
        if limits.max_size and size > limits.max_size:
            self.failure = BodyTooLarge(
                f"{url} {what} {size} bytes, over the limit of {limits.max_size} (DOWNLOAD_MAXSIZE)"
            )
            return False
        if limits.warn_size and size > limits.warn_size:
            logger.warning("%s %s %s bytes, over %s (DOWNLOAD_WARNSIZE)", url, what, size, limits.warn_size)
            self._limits = Limits(limits.max_size, 0, limits.fail_on_data_loss)
        return True


async def _ends_early(headers: list[Header], body: bytes) -> bool:
    if len(body) < _LARGE:
        return ends_early(headers, body)
    return await asyncio.to_thread(ends_early, headers, body)
