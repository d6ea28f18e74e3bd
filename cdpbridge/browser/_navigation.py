"""Navigations of a page: begin one, follow the main frame, and return the response of the document that loaded.

A script may replace a document before it has loaded. So the wait is not for one document, but for the state of whichever document
the main frame has: it ends as soon as that has the state, or can no longer get it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from cdpbridge._durations import waiting_time
from cdpbridge.cdp._http_credentials import HttpCredentials, with_credentials
from cdpbridge.errors import (
    CDPError,
    CommandError,
    CommandTimeout,
    ConfigurationError,
    NavigationError,
    TargetCrashed,
)
from cdpbridge.protocol import Inspector, Network, Page, Runtime
from cdpbridge.rental._proxy_reason import TUNNEL_FAILED, with_proxy_reason

from ._response import Response, proxy_error, response_of

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession
    from cdpbridge.cdp._stream import EventStream

__all__ = [
    "EMPTY_FAILURE",
    "NAVIGATION_TIMEOUT",
    "NO_CONTENT",
    "Navigation",
    "WaitUntil",
    "checked_state",
    "checked_url",
    "moved_on",
]

WaitUntil = Literal["commit", "domcontentloaded", "load", "networkidle"]

NAVIGATION_TIMEOUT: Final = timedelta(seconds=30)
"""Playwright's default, which its users expect."""

# Names of `Page.lifecycleEvent`. "commit" is the beginning of the document.
_STATES: Final = {
    "commit": "",
    "domcontentloaded": "DOMContentLoaded",
    "load": "load",
    "networkidle": "networkIdle",
}
# A status of 400 or more without a body; the full build shows a page of its own then.
EMPTY_FAILURE: Final = "net::ERR_HTTP_RESPONSE_CODE_FAILURE"
NO_CONTENT: Final = frozenset({204, 205})
_OPAQUE: Final = frozenset({"about", "blob", "data", "javascript", "view-source"})
"""Schemes without `//`."""
_RESTORED: Final = "BackForwardCacheRestore"
_STEP_SECONDS: Final = 1.0
"""How long a step within the document may be silent once its page answers again: a page can cancel one, and Chromium sends no event then."""
# What a command meets when the page moves on under it: Chromium's own texts.
_MOVED_ON: Final = (
    "Execution context was destroyed",
    "Cannot find default execution context",
    "Inspected target navigated or closed",
    "Cannot find context with specified id",
    "Could not find object with given id",
)


def moved_on(error: CommandError) -> bool:
    """Return True if a command failed because the page navigated meanwhile: it can be repeated in the next document."""
    return error.message.startswith(_MOVED_ON)


def checked_url(url: object) -> str:
    """Check an address before the browser gets it, and return it.

    Raises:
        ConfigurationError: It is no text.
        NavigationError: It has no scheme; the message has the address as it was probably meant.
    """
    if not isinstance(url, str):
        raise ConfigurationError(f"url must be a text like 'https://example.com', not {url!r}")
    if not url.strip():
        raise NavigationError(url, "the address is empty; give one like https://example.com")
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", url) or url.partition(":")[0].lower() in _OPAQUE:
        return url
    bare = url.lstrip("/")
    scheme = "http" if _is_near(re.split(r"[/?#]", bare)[0]) else "https"
    raise NavigationError(url, f"the address has no scheme; is it {scheme}://{bare} ?")


def _is_near(authority: str) -> bool:
    """Return True for localhost and for IP addresses, which rarely speak TLS."""
    host = authority.rpartition("@")[2].rpartition(":")[0] if ":" in authority else authority
    with suppress(ValueError):
        ipaddress.ip_address(host.strip("[]"))
        return True
    return host == "localhost" or host.endswith(".localhost")


def checked_state(wait_until: object) -> str:
    """Return Chrome's name of a state to wait for.

    Raises:
        ConfigurationError: There is no such state.
    """
    if isinstance(wait_until, str) and wait_until in _STATES:
        return _STATES[wait_until]
    near = get_close_matches(str(wait_until).lower(), _STATES, n=1)
    raise ConfigurationError(
        f"wait_until must be one of {', '.join(map(repr, _STATES))}, not {wait_until!r}"
        + (f"; do you mean {near[0]!r}?" if near else "")
    )


class Navigation:
    """Begins navigations of one page and waits for them.

    Args:
        expects_download: Tells whether a download of the page is waited for, so that an address which is one is no failure.
        log_in: Gives credentials to the servers of their origin.
    """

    def __init__(
        self,
        session: CDPSession,
        expects_download: Callable[[], bool],
        log_in: Callable[[HttpCredentials], Awaitable[None]],
    ) -> None:
        self._session = session
        self._expects_download = expects_download
        self._log_in = log_in
        self._enabled = False

    async def goto(
        self,
        url: str,
        wait_until: WaitUntil,
        timeout: float | timedelta,
        referrer: str | None = None,
        http_credentials: HttpCredentials | Mapping[str, str] | None = None,
    ) -> Response | None:
        """See `Tab.goto`."""
        state, limit = checked_state(wait_until), waiting_time("timeout", timeout)
        address, logins = with_credentials(checked_url(url), http_credentials)
        command = Page.navigate(address, referrer=referrer, referrer_policy="unsafeUrl" if referrer else None)

        async def begin(watch: _Watch) -> bool:
            for each in logins:
                await self._log_in(each)
            return await self._goto(watch, command, address, limit)

        return await self._run(f"goto ({wait_until})", state, limit, begin)

    async def reload(
        self, wait_until: WaitUntil, timeout: float | timedelta, *, ignore_cache: bool
    ) -> Response | None:
        """See `Tab.reload`."""
        state, limit = checked_state(wait_until), waiting_time("timeout", timeout)
        command = Page.reload(ignore_cache=ignore_cache or None)

        async def begin(watch: _Watch) -> bool:
            watch.ends_without_document()
            await self._session.send(command, timeout=limit)
            return True

        return await self._run(f"reload ({wait_until})", state, limit, begin)

    async def move(
        self, name: str, step: int, wait_until: WaitUntil, timeout: float | timedelta
    ) -> Response | None:
        """Go `step` entries through the page's history; None where there is none. See `Tab.back`."""
        state, limit = checked_state(wait_until), waiting_time("timeout", timeout)

        async def begin(watch: _Watch) -> bool:
            history = await self._session.send(Page.get_navigation_history(), timeout=limit)
            index = history.current_index + step
            if not 0 <= index < len(history.entries):
                return False
            entry = history.entries[index]
            command = Page.navigate_to_history_entry(entry.id)
            # From here on: the step of an earlier call may still be on its way.
            watch.ends_with_step(lambda event: event.url == entry.url)
            watch.ends_without_document()
            await self._session.send(command, timeout=limit)
            return True

        return await self._run(f"{name} ({wait_until})", state, limit, begin)

    async def _goto(self, watch: _Watch, command: Any, url: str, limit: timedelta) -> bool:
        watch.ends_with_step(lambda event: event.navigation_type != "historyApi")
        try:
            reply = await self._session.send(command, timeout=limit)
        except CommandError as error:
            raise NavigationError(url, f"{error.message}: {url!r}") from None
        if not reply.error_text and reply.loader_id is None:
            # A step within the document, which the reply may overtake: nothing loads.
            await self._round_trip(limit)
            with suppress(TimeoutError):
                async with asyncio.timeout(_STEP_SECONDS):
                    await watch.reached()
            return False
        if not reply.error_text:
            watch.begun(reply.loader_id)
            return True
        last = watch.last_response()
        if last is not None and last.status in NO_CONTENT:
            watch.settle(last)
        elif reply.error_text == EMPTY_FAILURE and last is not None and reply.loader_id:
            watch.begun(reply.loader_id)
            return True
        elif reply.is_download:
            if not self._expects_download():
                raise NavigationError(url, "this is a download: put goto into a block of expect_download")
        else:
            raise NavigationError(url, reply.error_text)
        return False

    async def _round_trip(self, limit: timedelta) -> None:
        """Ask the document for an answer: by then the browser has entered its earlier steps in the history."""
        try:
            await self._session.send(Runtime.evaluate("0"), timeout=limit)
        except CommandError as error:
            if not moved_on(error):
                raise

    async def _run(
        self, doing: str, state: str, limit: timedelta, begin: Callable[[_Watch], Awaitable[bool]]
    ) -> Response | None:
        session = self._session
        try:
            async with asyncio.timeout(limit.total_seconds()) as deadline:
                await self._enable()
                # Listen first: the events may come before the reply.
                async with _Watch(session, state) as watch:
                    if await begin(watch):
                        await watch.reached()
                        if watch.stepped:
                            await self._round_trip(limit)
                        if watch.downloaded is not None and not self._expects_download():
                            verb = doing.partition(" ")[0]
                            raise NavigationError(
                                watch.downloaded,
                                f"this is a download: put {verb} into a block of expect_download",
                            )
                    response = watch.response()
                if response is not None and (kind := proxy_error(response)) is not None:
                    raise await _proxy_failed(response, kind)
                if response is not None and response.status == 407 and response.url.startswith("https:"):
                    # It is the proxy's, and the full build shows a page of its own; the shell says this.
                    raise NavigationError(response.url, TUNNEL_FAILED)
                return response
        except NavigationError as error:
            reason = await with_proxy_reason(session.connection, error.url, error.error_text)
            if reason == error.error_text:
                raise
            raise NavigationError(error.url, reason) from None
        except TimeoutError:
            if not deadline.expired():  # a command's own timeout
                raise
            raise CommandTimeout(
                doing, target=session.describe(), waited=limit, hint=session.hint()
            ) from None

    async def _enable(self) -> None:
        if not self._enabled:
            send = self._session.send
            await asyncio.gather(
                send(Page.enable()),
                send(Page.set_lifecycle_events_enabled(enabled=True)),
                send(Network.enable()),
            )
            self._enabled = True


class _Watch:
    """What the main frame does from the beginning of a navigation on.

    A document is known by its loader, and its request has the loader's id.

    Attributes:
        stepped: It was a step within the document.
        downloaded: Address that brought a file and no document.
    """

    def __init__(self, session: CDPSession, state: str) -> None:
        self._session = session
        self._frame = session.target_id  # Chrome's main frame has the id of its page
        self._state = state
        self._loader: str | None = None  # of the document that counts now
        self._first: str | None = (
            None  # loader that the reply names; older documents may still commit before it
        )
        self._over = False
        self._is_step: Callable[[Page.NavigatedWithinDocument], bool] | None = None
        self._without_document = False
        self._aborted: set[str] = set()
        self._started: str | None = None  # loader of the navigation that began last
        self.stepped = False
        self.downloaded: str | None = None
        self._unreachable: str | None = None
        self._reached: dict[str, set[str]] = {}
        self._responses: dict[str, Network.ResponseReceived] = {}
        self._raw: dict[str, Network.ResponseReceivedExtraInfo] = {}
        self._failed: dict[str, str] = {}
        self._answer: Response | None = None
        self._news = asyncio.Event()
        self._ended: CDPError | None = None
        self._remove: list[Callable[[], None]] = []

    async def __aenter__(self) -> Self:
        on = self._session.on
        self._remove = [
            on(Page.LifecycleEvent, self._on_lifecycle),
            on(Page.FrameNavigated, self._on_navigated),
            on(Page.NavigatedWithinDocument, self._on_step),
            on(Network.ResponseReceived, self._on_response),
            on(Network.ResponseReceivedExtraInfo, self._on_raw_response),
            on(Network.LoadingFailed, self._on_failed),
            on(Page.FrameStartedNavigating, self._on_started),
            on(Page.FrameStoppedLoading, self._on_stopped),
        ]
        stream = self._session.events(Inspector.TargetCrashed)
        task = self._session.connection.create_task(self._end(stream))
        self._remove += [stream.close, lambda: _cancel(task)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for remove in self._remove:
            remove()

    def begun(self, loader: str | None) -> None:
        """Count from the document of `loader` on."""
        if loader is not None and loader not in self._reached:
            self._first = self._loader = loader
            self._unreachable = None

    def ends_with_step(self, is_step: Callable[[Page.NavigatedWithinDocument], bool]) -> None:
        """Count a step within the document, from now on, as the end."""
        self._is_step = is_step

    def ends_without_document(self) -> None:
        """Count an answer that leaves the page as it was, a download or one without content, as the end."""
        self._without_document = True

    def settle(self, response: Response) -> None:
        """Return `response`, although it leaves the page as it was."""
        self._answer = response

    async def reached(self) -> None:
        """Return when the document that counts has the state.

        Raises:
            NavigationError: It cannot get it any more.
        """
        while not self._done():
            self._news.clear()
            await self._news.wait()
            if self._ended is not None:
                raise self._ended

    def response(self) -> Response | None:
        """Return the response of the document that counts; None where there was none."""
        if self._answer is not None or self._loader is None:
            return self._answer
        event = self._responses.get(self._loader)
        return None if event is None else self._of(event)

    def last_response(self) -> Response | None:
        """Return the last response to a request for a document of the main frame."""
        event = next(reversed(self._responses.values()), None)
        return None if event is None else self._of(event)

    def _of(self, event: Network.ResponseReceived) -> Response:
        return response_of(event, self._session, self._raw.get(event.request_id))

    def _done(self) -> bool:
        loader = self._loader
        if self._over:
            return True
        if loader is None:
            return False
        response = self._responses.get(loader)
        if self._unreachable is not None and (response is None or response.response.status < 400):
            raise NavigationError(self._unreachable, self._failed.get(loader, "it failed"))
        if response is not None and loader in self._failed and self._unreachable is None:
            raise NavigationError(response.response.url, self._failed[loader])
        reached = self._reached.get(loader)
        return reached is not None and (not self._state or self._state in reached)

    async def _end(self, stream: EventStream[Inspector.TargetCrashed]) -> None:
        try:
            async for _ in stream:
                self._ended = TargetCrashed(target=self._session.describe(), doing="navigation")
                break
        except CDPError as error:
            self._ended = error
        self._news.set()

    def _on_lifecycle(self, event: Page.LifecycleEvent) -> None:
        if event.frame_id != self._frame:
            return
        if event.name in {"init", "commit"}:
            self._committed(event.loader_id)
        elif event.loader_id == self._loader:  # its beginning may have come before we listened
            self._reached.setdefault(event.loader_id, set()).add(event.name)
        elif event.loader_id in self._reached:
            self._reached[event.loader_id].add(event.name)
        self._news.set()

    def _on_navigated(self, event: Page.FrameNavigated) -> None:
        if event.frame.id != self._frame:
            return
        self._committed(event.frame.loader_id)
        if event.frame.loader_id == self._loader:
            self._unreachable = event.frame.unreachable_url
        self._over = self._over or event.type == _RESTORED
        self._news.set()

    def _on_step(self, event: Page.NavigatedWithinDocument) -> None:
        if event.frame_id != self._frame or self._loader is not None:
            return
        if self._is_step is not None and self._is_step(event):
            self._over = self.stepped = True
            self._news.set()

    def _on_response(self, event: Network.ResponseReceived) -> None:
        if event.type == "Document" and event.frame_id == self._frame:
            self._responses[event.loader_id] = event
            self._news.set()

    def _on_raw_response(self, event: Network.ResponseReceivedExtraInfo) -> None:
        self._raw[event.request_id] = event

    def _on_failed(self, event: Network.LoadingFailed) -> None:
        if event.type == "Document" and event.canceled:
            self._aborted.add(event.request_id)
        if event.type == "Document" and not event.canceled and event.error_text != EMPTY_FAILURE:
            self._failed[event.request_id] = event.error_text
            self._news.set()

    def _on_started(self, event: Page.FrameStartedNavigating) -> None:
        if event.frame_id == self._frame:
            self._started = event.loader_id

    def _on_stopped(self, event: Page.FrameStoppedLoading) -> None:
        """See whether an answer has left the page as it was: it came, was cancelled, and nothing took its place."""
        if event.frame_id != self._frame or not self._without_document or self._loader is not None:
            return
        answer = self._responses.get(self._started or "")
        if answer is None or answer.request_id not in self._aborted:
            return
        if answer.response.status in NO_CONTENT:
            self._answer = self._of(answer)
        else:
            self.downloaded = answer.response.url
        self._over = True
        self._news.set()

    def _committed(self, loader: str) -> None:
        if loader in self._reached:
            return
        self._reached[loader] = set()
        if self._first is None or loader == self._first or self._first in self._reached:
            self._loader = loader
            self._unreachable = None


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


async def _proxy_failed(response: Response, kind: str) -> NavigationError:
    try:
        reason = (await response.text()).strip()
    except CDPError:  # e.g. it navigated meanwhile
        reason = ""
    return NavigationError(response.url, f"the proxy answered: {reason or kind} ({kind})")
