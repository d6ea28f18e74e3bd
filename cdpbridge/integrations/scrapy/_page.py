"""A page that is visited again and again: CDP for one visit, and what is kept for the next."""

from __future__ import annotations

import asyncio
import base64
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from cdpbridge.browser._evaluate import thrown
from cdpbridge.browser._frames import Frames
from cdpbridge.browser._interception import Interception
from cdpbridge.browser._navigation import Navigation, moved_on
from cdpbridge.browser._request_rules import Rule
from cdpbridge.browser._tab import Tab
from cdpbridge.errors import CDPError, CommandError, NavigationError
from cdpbridge.integrations.scrapy._documents import HTML, without_transfer
from cdpbridge.integrations.scrapy._intake import Intake, Taken
from cdpbridge.integrations.scrapy._visit import Rendered, Visit, header_list, set_cookie_lines, utf8
from cdpbridge.protocol import Browser, Emulation, Fetch, Network, Page, Runtime, Security, Storage

if TYPE_CHECKING:
    from cdpbridge.browser._watch import Watch
    from cdpbridge.cdp import CDPSession
    from cdpbridge.protocol import Command

__all__ = ["RenderedPage"]

logger = logging.getLogger("cdpbridge")

_POLL_SECONDS: Final = 0.05
_LONG: Final = timedelta(hours=1)  # the visit's own deadline comes before
_HEAD_SECONDS: Final = 0.1
"""How long the head as the network sent it may come after the interception's; it never comes for what was in the cache."""
_WORLD: Final = "cdpbridge-page"  # `browser/_frames.py` has one of this name, too
# By the prototypes' own getters: elements with such names would be found in their place.
_CONTENT: Final = """(() => {
  const own = (name) => Object.getOwnPropertyDescriptor(Document.prototype, name).get.call(document);
  const type = own("doctype"), root = own("documentElement");
  return (type ? new XMLSerializer().serializeToString(type) : "") + (root ? root.outerHTML : "");
})()"""
# They have no command that clears them; both outlive the document, in the tab.
_FORGET: Final = "try { window.name = ''; sessionStorage.clear() } catch {}"
_KEPT_BY_SITES: Final = "local_storage,indexeddb,websql,service_workers,cache_storage,file_systems"


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
        self._origins: set[str] = set()  # of the main frame's documents in the last visit
        self._user_agent: str | None = None
        self._interception = Interception(Frames(tab.session), spare_page=True)
        self._navigation = Navigation(tab.session, lambda: False, self._interception.log_in)
        self._intake = Intake(self._frame)
        self._main_request = Rule(self._change, resource_type="Document", page_only=True)
        self._visit: Visit | None = None
        self._changed = False  # whether the main request has been given its method, headers and body
        self._redirects: dict[str, list[tuple[str, int]]] = {}
        self._received: dict[str, int] = {}  # bytes, by the request of each document of the main frame

    async def prepare(self, context_id: str | None, *, ignore_certificate_errors: bool = False) -> None:
        """Listen, and switch on what visits need.

        Args:
            context_id: Of the tab's browser context, None for the browser's own.
            ignore_certificate_errors: Load what comes with a certificate that the browser does not trust.
        """
        on, send = self._session.on, self._session.send
        if ignore_certificate_errors:
            await send(Security.set_ignore_certificate_errors(ignore=True))
        on(Page.JavascriptDialogOpening, self._on_dialog)
        on(Network.RequestWillBeSent, self._on_request)
        on(Network.DataReceived, self._on_data)
        # A file would fill the disk of the machine the browser is on, where the spider does not look for it.
        await self._session.connection.root.send(
            Browser.set_download_behavior("deny", browser_context_id=context_id)
        )

    async def render(self, visit: Visit) -> Rendered:
        """Visit a page, wait as it says, and bring what it asks for. Cancel it to stop waiting.

        Raises:
            NavigationError: The page could not be loaded.
            BodyTooLarge, BodyCutOff: What came is no page and more than the visit takes, or not all of it.
            EvaluationError: The visit's script failed.
            CDPError: The page or the browser went away.
        """
        self.stage = "preparing the tab"
        await self._set_up(visit)
        self.visits += 1
        self.stage = f"loading, until {visit.options.wait_until}"
        rendered = await self._go(visit)
        if rendered is None:  # another fragment of the document that is there: nothing was requested
            await self._navigation.goto("about:blank", "load", _LONG)
            rendered = await self._go(visit)
        if rendered is None:
            raise NavigationError(visit.url, "no response was seen")
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
            rules=[self._intake.rule, self._main_request] if changes else [self._intake.rule],
            credentials=visit.http_credentials,
        )
        if self.visits and not self._shared:
            commands.append(Network.clear_browser_cookies())
            commands += [
                Storage.clear_data_for_origin(each, _KEPT_BY_SITES) for each in sorted(self._origins)
            ]
        self._origins.clear()
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

    async def _go(self, visit: Visit) -> Rendered | None:
        """Go there, and return what came; None when nothing was requested."""
        options, intake = visit.options, self._intake
        self._visit, self._changed = visit, False
        self._redirects.clear()
        self._received.clear()
        async with self._navigation.follow(options.wait_until) as watch:
            intake.begin(
                visit.limits,
                watch.end,
                build=options.screenshot is not None or options.script is not None,
            )
            try:
                await self._navigation.load(watch, visit.url, visit.referrer, limit=_LONG)
            except NavigationError:
                if not intake.over:
                    self.spent = True  # Chromium's own page about the failure may still be on its way
                    raise
            finally:
                intake.end()
            if intake.failure is not None:
                raise intake.failure
            if intake.over and intake.taken is not None:
                return await self._bare(visit, watch, intake.taken)
            if watch.events() is None and watch.loader is None:
                return None
            return await self._document(visit, watch)

    async def _document(self, visit: Visit, watch: Watch) -> Rendered:
        """Return the document that is there when everything that the visit waits for is; when the page moves on, the next one."""
        options, script, evaluated = visit.options, None, False
        while True:
            if watch.is_error_page:
                self.spent = True
            elif not evaluated:  # a script may itself go on to another document, which is the one then
                if self._intake.taken is None:
                    await self._wait_for(options.wait_for_selector, options.wait_for_expression)
                if options.script is not None:
                    self.stage, evaluated = "evaluating the script", True
                    script = await self._evaluate(options.script)
            self.stage = "reading the document"
            rendered = await self._read(visit, watch)
            if rendered is not None:
                rendered.script = script
                return rendered
            await watch.reached()
            await asyncio.sleep(_POLL_SECONDS)

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

    async def _read(self, visit: Visit, watch: Watch) -> Rendered | None:
        """Return the document that is there, all of it of one; None when another one has taken its place meanwhile."""
        loader, events = watch.loader, watch.events()
        if events is None:
            raise NavigationError(visit.url, "the page has moved on to a document that was not requested")
        received, raw = events
        response = received.response
        html = response.mime_type in HTML and not watch.is_error_page
        try:
            body, cookies = await asyncio.gather(
                self._body(received, watch), self._cookies_after(visit, response.url)
            )
            picture = await self._picture(visit)
        except CommandError as error:
            if not moved_on(error):
                raise
            return None
        if watch.loader != loader:
            return None
        rendered = Rendered(
            url=response.url,
            status=response.status,
            headers=header_list(response.headers if raw is None else raw.headers),
            body=body,
            html=html,
            ip_address=response.remote_ip_address or None,
            protocol=response.protocol,
            screenshot=picture,
        )
        return self._completed(rendered, visit, received.request_id, cookies)

    async def _bare(self, visit: Visit, watch: Watch, taken: Taken) -> Rendered:
        """Return what was taken and is no document of the page."""
        cookies, raw, _ = await asyncio.gather(
            self._cookies_after(visit, taken.url), self._head(watch, taken), self._forget()
        )
        rendered = Rendered(
            url=taken.url,
            status=taken.status,
            headers=without_transfer(taken.headers) if raw is None else header_list(raw.headers),
            body=taken.body,
            html=False,
            cut_off=taken.cut_off,
        )
        return self._completed(rendered, visit, taken.request_id, cookies)

    async def _head(self, watch: Watch, taken: Taken) -> Network.ResponseReceivedExtraInfo | None:
        """Return the head as the network sent it: what the interception tells lacks bytes that are no UTF-8."""
        limit = asyncio.get_running_loop().time() + _HEAD_SECONDS
        while (raw := watch.raw(taken.request_id, taken.status)) is None:
            if asyncio.get_running_loop().time() > limit:
                break
            await asyncio.sleep(_HEAD_SECONDS / 10)
        return raw

    def _completed(
        self, rendered: Rendered, visit: Visit, request_id: str, cookies: list[Network.Cookie]
    ) -> Rendered:
        """Add what other events say of the response."""
        rendered.redirects = self._redirects.get(request_id, [])
        rendered.headers = set_cookie_lines(
            rendered.headers, cookies, sent=visit.cookies, requested=visit.url, final=rendered.url
        )
        return rendered

    async def _picture(self, visit: Visit) -> bytes | None:
        picture = visit.options.screenshot
        if picture is None:
            return None
        self.stage = "taking a screenshot"
        return await self._tab.screenshot(
            picture.path, format=picture.format, quality=picture.quality, full_page=picture.full_page
        )

    async def _cookies_after(self, visit: Visit, final: str) -> list[Network.Cookie]:
        if self._shared or not visit.keep_cookies:
            return []
        # Of the document's own address, not of the one in the bar: a script may have changed that.
        urls = list(dict.fromkeys([visit.url, final]))
        return (await self._session.send(Network.get_cookies(urls=urls))).cookies

    async def _forget(self) -> None:
        if not self._shared:
            try:
                await self._session.send(Runtime.evaluate(_FORGET))
            except CommandError as error:
                logger.debug("a page moved on while it was read: %s", error)

    async def _body(self, received: Network.ResponseReceived, watch: Watch) -> bytes:
        """Return the document: of a page as it is now, in UTF-8; of anything else as the server sent it."""
        taken, send = self._intake.taken, self._session.send
        if taken is not None and taken.request_id == received.request_id:
            await self._forget()
            return taken.body
        if watch.is_error_page:
            return b""
        if received.response.mime_type not in HTML:  # e.g. of a service worker, where nothing is intercepted
            reply = await send(Network.get_response_body(received.request_id))
            return base64.b64decode(reply.body) if reply.base64_encoded else reply.body.encode()
        script = _CONTENT if self._shared else f"{_FORGET}; {_CONTENT}"
        answer = await send(Runtime.evaluate(script, return_by_value=True))
        if answer.exception_details is not None or not isinstance(answer.result.value, str):
            # The page has put something of its own in the place of what the script needs.
            world = await send(Page.create_isolated_world(self._frame, world_name=_WORLD))
            context = world.execution_context_id
            answer = await send(Runtime.evaluate(script, context_id=context, return_by_value=True))
        if answer.exception_details is not None:
            raise thrown(answer.exception_details)
        return utf8(str(answer.result.value))

    # --- what the page tells --------------------------------------------------------------------------------------

    def _on_request(self, event: Network.RequestWillBeSent) -> None:
        if event.type != "Document" or event.frame_id != self._frame:
            return
        parts = urlsplit(event.request.url)
        if parts.scheme in {"http", "https"}:
            self._origins.add(f"{parts.scheme}://{parts.netloc}")
        self._received[event.request_id] = 0
        if event.redirect_response is not None:
            hop = event.redirect_response
            self._redirects.setdefault(event.request_id, []).append((hop.url, hop.status))

    def _on_data(self, event: Network.DataReceived) -> None:
        if event.request_id in self._received:
            self._received[event.request_id] += event.data_length
            assert self._visit is not None  # which the request is of
            self._intake.watch_page(self._visit.url, self._received[event.request_id])

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
        theirs = [
            (name, str(value)) for name, value in event.request.headers.items() if name.lower() not in ours
        ]
        return Fetch.continue_request(
            event.request_id,
            method=visit.method,
            post_data=visit.body or None,
            headers=[Fetch.HeaderEntry(name=name, value=value) for name, value in theirs + visit.headers],
        )
