"""Navigations of a page: begin one, follow the main frame, and return the response of the document that loaded.

A script may replace a document before it has loaded. So the wait is not for one document, but for the state of whichever document
the main frame has: it ends as soon as that has the state, or can no longer get it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Literal

from cdpbridge._concurrency import mark_retrieved
from cdpbridge._durations import waiting_time
from cdpbridge.cdp._connection import is_far
from cdpbridge.cdp._http_credentials import HttpCredentials, with_credentials
from cdpbridge.errors import (
    CDPError,
    CommandError,
    CommandTimeout,
    ConfigurationError,
    NavigationError,
)
from cdpbridge.protocol import Command, Inspector, Network, Page, Runtime
from cdpbridge.rental._proxy_reason import TUNNEL_FAILED, with_proxy_reason

from ._response import Response, proxy_error
from ._watch import EMPTY_FAILURE, NO_CONTENT, Watch

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession, Connection

__all__ = [
    "NAVIGATION_TIMEOUT",
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
_OPAQUE: Final = frozenset({"about", "blob", "data", "javascript", "view-source"})
"""Schemes without `//`."""
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
        settled: Waits until the listeners of the tab hear everything; None: there are none.
    """

    def __init__(
        self,
        session: CDPSession,
        expects_download: Callable[[], bool],
        log_in: Callable[[HttpCredentials], Awaitable[None]],
        settled: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._session = session
        self._expects_download = expects_download
        self._log_in = log_in
        self._settled = settled
        self._is_enabled = False
        self._enabling: list[asyncio.Task[Any]] = []

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
        command = _navigate(address, referrer)

        async def begin(watch: Watch) -> bool:
            for each in logins:
                await self._log_in(each)
            return await self._goto(watch, command, address, limit)

        return await self._run(f"goto ({wait_until})", state, limit, begin, at_once=True)

    async def reload(
        self, wait_until: WaitUntil, timeout: float | timedelta, *, ignore_cache: bool
    ) -> Response | None:
        """See `Tab.reload`."""
        state, limit = checked_state(wait_until), waiting_time("timeout", timeout)
        command = Page.reload(ignore_cache=ignore_cache or None)

        async def begin(watch: Watch) -> bool:
            watch.ends_without_document()
            await self._session.send(command, timeout=limit)
            return True

        return await self._run(f"reload ({wait_until})", state, limit, begin)

    async def move(
        self, name: str, step: int, wait_until: WaitUntil, timeout: float | timedelta
    ) -> Response | None:
        """Go `step` entries through the page's history; None where there is none. See `Tab.back`."""
        state, limit = checked_state(wait_until), waiting_time("timeout", timeout)

        async def begin(watch: Watch) -> bool:
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

    @asynccontextmanager
    async def follow(self, wait_until: WaitUntil) -> AsyncIterator[Watch]:
        """Watch the main frame in a block: for a caller that goes on when the page does, and has a deadline of its own.

        Raises:
            NavigationError: What the block raises, with the reason of the proxy where that is known.
        """
        await self._enable()
        # Listen first: the events may come before the reply.
        async with self._with_reasons(), Watch(self._session, checked_state(wait_until)) as watch:
            yield watch

    async def load(
        self, watch: Watch, url: str, referrer: str | None = None, *, limit: timedelta = NAVIGATION_TIMEOUT
    ) -> None:
        """Go to `url` in a block of `follow`, and return when its document, or the one that took its place, has the state.

        Args:
            limit: For the reply to the command, which comes with the head of the response.

        Raises:
            NavigationError: As of `Tab.goto`.
        """
        if await self._goto(watch, _navigate(url, referrer), url, limit):
            await watch.reached()
        await self._refuse_proxys_own(watch.response())

    async def _goto(self, watch: Watch, command: Any, url: str, limit: timedelta) -> bool:
        watch.ends_with_step(lambda event: event.navigation_type != "historyApi")
        try:
            reply = await self._session.send(command, timeout=limit)
        except CommandError as error:
            raise NavigationError(url, f"{error.message}: {url!r}") from None
        if not reply.error_text:
            watch.begun(reply.loader_id)
        await self._caught_up(watch)
        if not reply.error_text and reply.loader_id is None:
            # A step within the document, which the reply may overtake: nothing loads.
            await self._round_trip(limit)
            with suppress(TimeoutError):
                async with asyncio.timeout(_STEP_SECONDS):
                    await watch.reached()
            return False
        if not reply.error_text:
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
        self,
        doing: str,
        state: str,
        limit: timedelta,
        begin: Callable[[Watch], Awaitable[bool]],
        *,
        at_once: bool = False,
    ) -> Response | None:
        """Begin a navigation and wait for its end.

        Args:
            at_once: True for one that brings another document: it need not wait until the events of the present one are enabled.
        """
        session = self._session
        try:
            async with asyncio.timeout(limit.total_seconds()) as deadline, self._with_reasons():
                if self._settled is not None:
                    await self._settled()
                # Far away, the page has had a round trip to start in; nearer, `navigate` would overtake what is enabled.
                await (self._send_enabling() if at_once and is_far(session.connection) else self._enable())
                # Listen first: the events may come before the reply.
                async with Watch(session, state) as watch:
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
                await self._refuse_proxys_own(response)
                return response
        except TimeoutError:
            if not deadline.expired():  # a command's own timeout
                raise
            raise CommandTimeout(
                doing, target=session.describe(), waited=limit, hint=session.hint()
            ) from None

    @asynccontextmanager
    async def _with_reasons(self) -> AsyncIterator[None]:
        """Add the proxy's reason to a failure of the block."""
        try:
            yield
        except NavigationError as error:
            reason = await with_proxy_reason(self._session.connection, error.url, error.error_text)
            if reason == error.error_text:
                raise
            raise NavigationError(error.url, reason) from None

    async def _refuse_proxys_own(self, response: Response | None) -> None:
        """Raise what the server's proxy has answered in place of the site."""
        if response is not None and (kind := proxy_error(response)) is not None:
            raise await _proxy_failed(self._session.connection, response, kind)
        if response is not None and response.status == 407 and response.url.startswith("https:"):
            # It is the proxy's, and the full build shows a page of its own; the shell says this.
            raise NavigationError(response.url, TUNNEL_FAILED)

    # --- what a watch needs ---------------------------------------------------------------------------------------

    async def _enable(self) -> None:
        """Return when the events that a `Watch` needs are enabled."""
        await self._send_enabling()
        await self._enabled()

    async def _send_enabling(self) -> None:
        """Enable the events that a `Watch` needs, without waiting for the answers: `_caught_up` does.

        To a browser far away, the answers take as long as the navigation.
        """
        if self._is_enabled or (self._enabling and not any(map(_failed, self._enabling))):
            return
        loop, send = asyncio.get_running_loop(), self._session.send
        self._enabling = [
            loop.create_task(send(Page.enable())),
            loop.create_task(send(Page.set_lifecycle_events_enabled(enabled=True))),
            loop.create_task(send(Network.enable())),
            loop.create_task(send(Inspector.enable())),
        ]
        for each in self._enabling:
            each.add_done_callback(mark_retrieved)
        await asyncio.sleep(0)  # they are sent in this turn of the loop, so before all that follows

    async def _enabled(self) -> None:
        """Wait for the answers to `_send_enabling`.

        Raises:
            CDPError: The browser refused one; the next navigation sends them again.
        """
        if self._is_enabled:
            return
        await asyncio.wait(self._enabling)
        for each in self._enabling:
            each.result()
        self._is_enabled = True

    async def _caught_up(self, watch: Watch) -> None:
        """Wait until the events are enabled; when a document has come before that, tell `watch` what it has not heard of it.

        That is a page whose process takes longer than a round trip to start. Chromium repeats the lifecycle of the document that
        is there; the events of the main request are the browser process's own, which has enabled them before it navigates (LIVE,
        Chromium 156). What the page's process has not kept of the response, `Response.body` finds.
        """
        late = not self._is_enabled and not all(each.done() for each in self._enabling)
        await self._enabled()
        if late:
            tree = await self._session.send(Page.get_frame_tree())
            watch.missed(tree.frame_tree.frame)


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _navigate(url: str, referrer: str | None) -> Command[Page.NavigateResult]:
    return Page.navigate(
        checked_url(url), referrer=referrer, referrer_policy="unsafeUrl" if referrer else None
    )


async def _proxy_failed(connection: Connection, response: Response, kind: str) -> NavigationError:
    try:
        reason = (await response.text()).strip()
    except CDPError:  # e.g. it navigated meanwhile, or the page has not kept the answer
        reason = ""
    if not reason:
        known = await with_proxy_reason(connection, response.url, TUNNEL_FAILED)
        reason = known.removeprefix(TUNNEL_FAILED).removeprefix(": ").removesuffix(f" ({kind})")
    return NavigationError(response.url, f"the proxy answered: {reason or kind} ({kind})")
