"""A page that is visited again and again: CDP for one visit, and what is kept for the next."""

from __future__ import annotations

import asyncio
import base64
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from cdpbridge.browser._frames import Frames
from cdpbridge.browser._interception import Interception, Rule
from cdpbridge.browser._navigation import EMPTY_FAILURE, NO_CONTENT, moved_on
from cdpbridge.browser._tab import Tab
from cdpbridge.errors import CDPError, CommandError, NavigationError
from cdpbridge.integrations.scrapy._visit import Rendered, Visit, header_list, set_cookie_lines
from cdpbridge.protocol import Browser, Emulation, Fetch, Network, Page, Runtime, Security, Storage
from cdpbridge.protocol._base import Command

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession

__all__ = ["DownloadStarted", "RenderedPage"]

logger = logging.getLogger("cdpbridge")

_LIFECYCLE_NAMES: Final = {
    "domcontentloaded": "DOMContentLoaded",
    "load": "load",
    "networkidle": "networkIdle",
}
_POLL_SECONDS: Final = 0.05
_LONG: Final = timedelta(hours=1)  # the visit's own deadline comes before
_ABORTED: Final = "net::ERR_ABORTED"  # a download, or an answer that leaves the page as it is (204, 205)
_HTML: Final = frozenset({"text/html", "application/xhtml+xml"})
_CONTENT: Final = (
    "(document.doctype ? new XMLSerializer().serializeToString(document.doctype) : '')"
    " + document.documentElement.outerHTML"
)
# They have no command that clears them; both outlive the document, in the tab.
_FORGET: Final = "try { window.name = ''; sessionStorage.clear() } catch {}"
_KEPT_BY_SITES: Final = "local_storage,indexeddb,websql,service_workers,cache_storage,file_systems"


class DownloadStarted(Exception):
    """The address brings a file to save and no page."""


class _SameDocument(Exception):
    """The address is another fragment of the document that is there, so that nothing was requested."""


class RenderedPage:
    """A tab, prepared once, in which one visit follows another.

    When the tab's context is its own, a visit's cookies and its site's storage are removed before the next; the HTTP cache and the
    storage of other sites in frames stay.

    Args:
        tab: A fresh one.
        shared: Its browser context is the browser's own, with a profile's cookies: nothing is cleared in it.

    Attributes:
        visits: That were begun.
        spent: Not fit for another visit.
        stage: What the visit is at, for messages.
    """

    def __init__(self, tab: Tab, *, shared: bool) -> None:
        self.visits = 0
        self.spent = False
        self.stage = ""
        self._tab = tab
        self._session = tab.session
        self._frame = tab.target_id  # Chrome's main frame has the id of its page
        self._shared = shared
        self._origin: str | None = None
        self._user_agent: str | None = None
        self._interception = Interception(Frames(tab.session), spare_page=True)
        self._main_request = Rule(self._change, resource_type="Document")
        self._loader = ""
        self._reached: set[str] = set()
        self._visit: Visit | None = None
        self._changed = False  # whether the main request has been given its method, headers and body
        self._responses: dict[str, Network.ResponseReceived] = {}
        self._raw: dict[str, Network.ResponseReceivedExtraInfo] = {}
        self._redirects: dict[str, list[tuple[str, int]]] = {}

    async def prepare(self, context_id: str | None, *, ignore_certificate_errors: bool = False) -> None:
        """Listen, and switch on what visits need.

        Args:
            context_id: Of the tab's browser context, None for the browser's own.
            ignore_certificate_errors: Load what comes with a certificate that the browser does not trust.
        """
        on, send = self._session.on, self._session.send
        if ignore_certificate_errors:
            await send(Security.set_ignore_certificate_errors(ignore=True))
        on(Page.LifecycleEvent, self._on_lifecycle)
        on(Page.JavascriptDialogOpening, self._on_dialog)
        on(Network.RequestWillBeSent, self._on_request)
        on(Network.ResponseReceived, self._on_response)
        on(Network.ResponseReceivedExtraInfo, self._on_raw_response)
        await asyncio.gather(
            send(Page.enable()),
            send(Page.set_lifecycle_events_enabled(enabled=True)),
            send(Network.enable()),
            # A file would fill the disk of the machine the browser is on, where the spider does not look for it.
            self._session.connection.root.send(
                Browser.set_download_behavior("deny", browser_context_id=context_id)
            ),
        )

    async def render(self, visit: Visit) -> Rendered:
        """Visit a page, wait as it says, and bring what it asks for. Cancel it to stop waiting.

        Raises:
            NavigationError: The page could not be loaded.
            DownloadStarted: It is a file.
            EvaluationError: The visit's script failed.
            CDPError: The page or the browser went away.
        """
        options = visit.options
        self.stage = "preparing the tab"
        await self._set_up(visit)
        self.visits += 1
        self.stage = f"loading, until {options.wait_until}"
        bare = await self._navigate(visit)
        if bare is None:
            await self._wait_for(options.wait_for_selector, options.wait_for_expression)
            rendered = await self._read(visit)
        else:
            rendered = self._answer(bare, b"", html=False)
        rendered.blocked = self._interception.blocked
        return rendered

    # --- before ---------------------------------------------------------------------------------------------------

    async def _set_up(self, visit: Visit) -> None:
        """Set everything that must hold before the request is sent. Sent together: the browser answers in order."""
        send, options = self._session.send, visit.options
        commands: list[Any] = []
        if visit.user_agent != self._user_agent:
            commands.append(Emulation.set_user_agent_override(visit.user_agent or ""))
            self._user_agent = visit.user_agent
        changes = visit.method != "GET" or visit.body or visit.headers
        self._interception.blocked = 0
        await self._interception.set(
            blocking=[
                *(Rule.blocking(resource_type=each) for each in sorted(options.block_types)),
                *(Rule.blocking(each) for each in options.block_urls),
            ],
            rules=[self._main_request] if changes else [],
            credentials=visit.http_credentials,
        )
        if self.visits and not self._shared:
            commands.append(Network.clear_browser_cookies())
            if self._origin is not None:
                commands.append(Storage.clear_data_for_origin(self._origin, _KEPT_BY_SITES))
        if visit.cookies:
            commands.append(Network.set_cookies(await self._cookies(visit)))
        await asyncio.gather(*map(send, commands))

    async def _cookies(self, visit: Visit) -> list[Network.CookieParam]:
        """Set the visit's cookies, in place of those that a shared context has by the same names."""
        there: dict[str, Network.Cookie] = {}
        if self._shared:
            reply = await self._session.send(Network.get_cookies(urls=[visit.url]))
            there = {each.name: each for each in reply.cookies}
        params = []
        for name, value in visit.cookies:
            old = there.get(name)
            params.append(
                Network.CookieParam(
                    name=name,
                    value=value,
                    url=visit.url,
                    domain=old.domain if old is not None and old.domain.startswith(".") else None,
                    path="/" if old is None else old.path,
                    # Names that promise it (RFC 6265bis, 4.1.3) are refused without.
                    secure=name.startswith(("__Secure-", "__Host-"))
                    or (old is not None and old.secure)
                    or None,
                    http_only=None if old is None else old.http_only,
                    expires=None if old is None or old.session else old.expires,
                )
            )
        return params

    # --- there ----------------------------------------------------------------------------------------------------

    async def _navigate(self, visit: Visit) -> Network.ResponseReceived | None:
        """Go there and wait for the state asked for. A response that leaves no document is returned."""
        self._visit, self._changed = visit, False
        self._responses.clear()
        self._raw.clear()
        self._redirects.clear()
        command = Page.navigate(
            visit.url, referrer=visit.referrer, referrer_policy="unsafeUrl" if visit.referrer else None
        )
        try:
            return await self._go(command, visit.url, _LIFECYCLE_NAMES[visit.options.wait_until])
        except _SameDocument:
            await self._go(Page.navigate("about:blank"), "about:blank", "load")
            return await self._go(command, visit.url, _LIFECYCLE_NAMES[visit.options.wait_until])

    async def _go(
        self, command: Command[Page.NavigateResult], url: str, wanted: str
    ) -> Network.ResponseReceived | None:
        before = self._loader
        # Each document has a loader of its own. The wait is for the state of any but the one that was there: when a script
        # moves on before the state is reached, it is its target's.
        async with self._session.expect(
            Page.LifecycleEvent,
            lambda _event: self._loader != before and wanted in self._reached,
            timeout=_LONG,
        ):
            reply = await self._session.send(command, timeout=_LONG)
            if reply.error_text:
                self.spent = True  # Chromium's own page about the failure may still be on its way
                last = self._last()
                if last is not None and (
                    reply.error_text == EMPTY_FAILURE or last.response.status in NO_CONTENT
                ):
                    return last
                if reply.is_download or (last is not None and reply.error_text == _ABORTED):
                    raise DownloadStarted(url)
                raise NavigationError(url, reply.error_text)
            if not reply.loader_id:
                raise _SameDocument
        last = self._last()
        return last if last is not None and last.response.status in NO_CONTENT else None

    def _last(self) -> Network.ResponseReceived | None:
        return next(reversed(self._responses.values()), None)

    async def _wait_for(self, selector: str | None, expression: str | None) -> None:
        if selector is not None:
            self.stage = f"waiting for the selector {selector!r}"
            await self._tab.wait_for_selector(selector, state="attached", timeout=_LONG)
        if expression is not None:
            self.stage = f"waiting for the expression {expression!r}"
            await self._tab.wait_for_expression(expression, timeout=_LONG)

    async def _evaluate(self, expression: str) -> Any:
        """Return its value; when the page navigates meanwhile, the value in the next document."""
        while True:
            try:
                return await self._tab.evaluate(expression, timeout=_LONG)
            except CommandError as error:
                if not moved_on(error):
                    raise
            await asyncio.sleep(_POLL_SECONDS)

    # --- after ----------------------------------------------------------------------------------------------------

    async def _read(self, visit: Visit) -> Rendered:
        options = visit.options
        self.stage = "evaluating the script"
        script = None if options.script is None else await self._evaluate(options.script)
        self.stage = "reading the document"
        last = self._responses.get(self._loader) or self._last()
        if last is None:
            raise NavigationError(visit.url, "no response was seen")
        html = last.response.mime_type in _HTML
        content = self._evaluate(_CONTENT) if html else self._raw_body(last.request_id)
        body, cookies, _ = await asyncio.gather(content, self._cookies_after(visit, last), self._forget())
        rendered = self._answer(last, body.encode() if html else body, html=html)
        rendered.redirects = self._redirects.get(last.request_id, [])
        rendered.headers = set_cookie_lines(
            rendered.headers,
            cookies,
            sent=visit.cookies,
            requested=visit.url,
            final=rendered.url,
        )
        rendered.script = script
        if options.screenshot is not None:
            self.stage, picture = "taking a screenshot", options.screenshot
            rendered.screenshot = await self._tab.screenshot(
                picture.path,
                format=picture.format,
                quality=picture.quality,
                full_page=picture.full_page,
            )
        return rendered

    async def _cookies_after(self, visit: Visit, last: Network.ResponseReceived) -> list[Network.Cookie]:
        if self._shared or not visit.keep_cookies:
            return []
        # Of the document's own address, not of the one in the bar: a script may have changed that.
        urls = list(dict.fromkeys([visit.url, last.response.url]))
        return (await self._session.send(Network.get_cookies(urls=urls))).cookies

    async def _forget(self) -> None:
        if not self._shared:
            try:
                await self._session.send(Runtime.evaluate(_FORGET))
            except CommandError as error:
                logger.debug("a page moved on while it was read: %s", error)

    async def _raw_body(self, request_id: str) -> bytes:
        reply = await self._session.send(Network.get_response_body(request_id))
        return base64.b64decode(reply.body) if reply.base64_encoded else reply.body.encode()

    def _answer(self, answer: Network.ResponseReceived, body: bytes, *, html: bool) -> Rendered:
        response = answer.response
        parts = urlsplit(response.url)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        # As the network sent them; of the last hop, if its event has come already.
        raw = self._raw.get(answer.request_id)
        if raw is not None and raw.status_code != response.status:
            raw = None
        return Rendered(
            url=response.url,
            status=response.status,
            headers=header_list(response.headers if raw is None else raw.headers),
            body=body,
            html=html,
            ip_address=response.remote_ip_address or None,
            protocol=response.protocol,
        )

    # --- what the page tells --------------------------------------------------------------------------------------

    def _on_lifecycle(self, event: Page.LifecycleEvent) -> None:
        if event.frame_id != self._frame:
            return
        if event.name in {"init", "commit"} and event.loader_id != self._loader:
            self._loader = event.loader_id
            self._reached.clear()
        if event.loader_id == self._loader:
            self._reached.add(event.name)

    def _on_request(self, event: Network.RequestWillBeSent) -> None:
        if event.redirect_response is not None and event.type == "Document" and event.frame_id == self._frame:
            hop = event.redirect_response
            self._redirects.setdefault(event.request_id, []).append((hop.url, hop.status))

    def _on_response(self, event: Network.ResponseReceived) -> None:
        if event.type == "Document" and event.frame_id == self._frame:
            self._responses[event.loader_id] = event
            if event.response.status in NO_CONTENT:
                self._session.connection.create_task(self._leave())

    def _on_raw_response(self, event: Network.ResponseReceivedExtraInfo) -> None:
        self._raw[event.request_id] = event

    async def _leave(self) -> None:
        """Go to an empty page: an answer without a document leaves the page as it was, and no state would ever be reached."""
        try:
            await self._session.send(Page.navigate("about:blank"))
        except CDPError as error:
            logger.debug("a page without content went away: %s", error)

    async def _on_dialog(self, _event: Page.JavascriptDialogOpening) -> None:
        """Close a dialog: an open one would block everything."""
        try:
            await self._session.send(Page.handle_java_script_dialog(accept=True))
        except CDPError as error:
            logger.debug("a dialog went away by itself: %s", error)

    async def _change(self, _session: CDPSession, event: Fetch.RequestPaused) -> Command[None] | None:
        """Give the main request its method, headers and body."""
        visit = self._visit
        if visit is None or event.frame_id != self._frame or self._changed:
            return None
        self._changed = True
        ours = {name.lower() for name, _value in visit.headers}
        headers = [(name, value) for name, value in event.request.headers.items() if name.lower() not in ours]
        return Fetch.continue_request(
            event.request_id,
            method=visit.method,
            post_data=visit.body or None,
            headers=[
                Fetch.HeaderEntry(name=name, value=str(value)) for name, value in headers + visit.headers
            ],
        )
