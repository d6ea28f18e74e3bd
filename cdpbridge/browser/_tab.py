"""`Tab`: a page of the rented browser, its CDPSession, and the few verbs a script needs.

More than these is Playwright's job, on the same browser: see `cdpbridge.playwright`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from cdpbridge._folders import write_bytes
from cdpbridge.cdp import pdf_stream
from cdpbridge.cdp._session import announcer
from cdpbridge.errors import CommandError
from cdpbridge.protocol import Network, Page, Target

from ._actions import ACTION_TIMEOUT, Actions, Button, SelectorState
from ._download import Download
from ._downloads import DOWNLOAD_TIMEOUT, Downloads, DownloadWaiter
from ._evaluate import evaluate, read
from ._frames import Frames
from ._interception import Interception
from ._navigation import NAVIGATION_TIMEOUT, Navigation, WaitUntil
from ._page_state import set_cookies, set_viewport, storage_state
from ._request_rules import checked_patterns, checked_types
from ._response import Request, Response
from ._route import RouteHandler
from ._screenshot import ImageFormat, captured, image_format
from ._tab_events import ConsoleMessage, Dialog, TabEvents
from ._upload import UPLOAD_BYTES, set_input_files

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession
    from cdpbridge.cdp._http_credentials import HttpCredentials

__all__ = ["Tab"]

_CLOSE_TIMEOUT: Final = timedelta(seconds=10)
# By the prototypes: elements of a page may have names that hide the members of its document.
_MEMBER: Final = (
    "const of = (kind, name, node) => Object.getOwnPropertyDescriptor(kind.prototype, name).get.call(node);"
)
_TITLE: Final = f"(() => {{ {_MEMBER} return of(Document, 'title', document) }})()"
_CONTENT: Final = f"""(() => {{ {_MEMBER}
    const doctype = of(Document, 'doctype', document), root = of(Document, 'documentElement', document);
    if (!root && of(Document, 'readyState', document) === 'loading') return null;
    return (doctype ? new XMLSerializer().serializeToString(doctype) : '') + (root ? of(Element, 'outerHTML', root) : '');
}})()"""


class Tab:
    """A page target of a browser.

    Attributes:
        session: Its CDPSession, for everything that has no method here.
    """

    def __init__(self, session: CDPSession) -> None:
        self.session = session
        self._frames = Frames(session)
        self._downloads = Downloads(session, self._frames)
        self._interception = Interception(self._frames)
        self._events = TabEvents(session, self._frames, self._downloads, self._attached)
        settled = self._events.settled
        self._actions = Actions(session, self._frames, settled)
        self._navigation = Navigation(
            session, lambda: self._downloads.expected, self._interception.log_in, settled
        )

    def __repr__(self) -> str:
        return f"<Tab {self.session.target_id}{' closed' if self.session.closed else ''}>"

    @property
    def target_id(self) -> str:
        """Chrome's id of this page."""
        return self.session.target_id

    async def goto(
        self,
        url: str,
        *,
        wait_until: WaitUntil = "load",
        timeout: float | timedelta = NAVIGATION_TIMEOUT,
        referrer: str | None = None,
        http_credentials: HttpCredentials | Mapping[str, str] | None = None,
    ) -> Response | None:
        """Navigate to `url`, wait for the page, and return the response that it came with.

        When a script of the page moves on before the state is reached, the wait is for the document it moves to. A server that
        asks for a login and gets none, or refuses it, answers with its page of status 401: nothing waits for a person.

        Args:
            url: Where to, with its scheme.
            wait_until: `"commit"` (the document has begun), `"domcontentloaded"`, `"load"`, or `"networkidle"` (no request for
                half a second).
            timeout: For all of it.
            referrer: Address that the request comes from.
            http_credentials: User name and password for the servers of one origin, by default that of `url`; no other server gets
                them. They serve every request of this tab, its frames and its workers, from now on. A `url` with a user name and
                a password in it does the same. See `HttpCredentials`; a dict with its names will do.

        Returns:
            None where there is no response: a move within the document, `about:blank`. A status of 400 or more is no failure.

        Raises:
            NavigationError: The page could not be loaded, e.g. `net::ERR_NAME_NOT_RESOLVED`, or the address is a download.
            CommandTimeout: Not within `timeout`. The page goes on loading.
            TargetClosed: The tab was closed meanwhile.
            ConfigurationError: There is no such `wait_until`, or `http_credentials` lack something.
        """
        return await self._navigation.goto(url, wait_until, timeout, referrer, http_credentials)

    async def reload(
        self,
        *,
        wait_until: WaitUntil = "load",
        timeout: float | timedelta = NAVIGATION_TIMEOUT,
        ignore_cache: bool = False,
    ) -> Response | None:
        """Load the page again. Arguments, result and errors as of `goto`."""
        return await self._navigation.reload(wait_until, timeout, ignore_cache=ignore_cache)

    async def back(
        self, *, wait_until: WaitUntil = "load", timeout: float | timedelta = NAVIGATION_TIMEOUT
    ) -> Response | None:
        """Go back one step in the page's history; None where there is none, too. Arguments, result and errors as of `goto`."""
        return await self._navigation.move("back", -1, wait_until, timeout)

    async def forward(
        self, *, wait_until: WaitUntil = "load", timeout: float | timedelta = NAVIGATION_TIMEOUT
    ) -> Response | None:
        """Go forward one step in the page's history. Arguments, result and errors as of `back`."""
        return await self._navigation.move("forward", 1, wait_until, timeout)

    async def click(
        self,
        selector: str,
        *,
        button: Button = "left",
        count: int = 1,
        timeout: float | timedelta = ACTION_TIMEOUT,
    ) -> None:
        """Click an element, as soon as it is attached, visible, enabled, does not move, and nothing covers it.

        A selector is CSS, which also finds what is in open shadow roots, or `text=` and a part of what the element shows, in any
        case; `text="..."` is all of it, as it is written. It is searched in the page first, then in its frames, and the first
        element counts. When the click leads to another page, that has begun at the end; if that moves on at once, it or the next. Chains, roles, labels, drags and closed shadow roots are Playwright's: see `cdpbridge.playwright`.

        Args:
            selector: Which one.
            button: Of the mouse.
            count: 2 for a double click.
            timeout: For the wait, and for the page that the click leads to. The page is scrolled as needed.

        Raises:
            ActionTimeout: It was not ready within `timeout`; the message says which check failed, and nothing was clicked.
            ElementError: This is no selector.
        """
        await self._actions.click(selector, button, count, timeout)

    async def fill(self, selector: str, value: str, *, timeout: float | timedelta = ACTION_TIMEOUT) -> None:
        """Replace the text of an input, a text area, or an editable element, as soon as it is visible and enabled.

        The text is typed at once. Dates, colours and ranges are set, in the form of `HTMLInputElement.value`; of a select, the
        option with this value or text is chosen.

        Raises:
            ActionTimeout: As of `click`.
            ElementError: As of `click`, or the element takes no text, or not this one.
        """
        await self._actions.fill(selector, value, timeout)

    @overload
    async def press(self, key: str, /, *, timeout: float | timedelta = ACTION_TIMEOUT) -> None: ...

    @overload
    async def press(
        self, selector: str, key: str, /, *, timeout: float | timedelta = ACTION_TIMEOUT
    ) -> None: ...

    async def press(
        self, selector: str, key: str | None = None, /, *, timeout: float | timedelta = ACTION_TIMEOUT
    ) -> None:
        """Press a key where the focus is, `press("Enter")`, or in an element, `press("input.search", "Enter")`.

        Args:
            selector: As of `click`; it gets the focus.
            key: A sign, or a name of `KeyboardEvent.key`, with `Shift`, `Control`, `Alt` or `Meta` before it: `"Control+A"`.
            timeout: As of `click`.

        Raises:
            ActionTimeout, ElementError: As of `click`.
            ConfigurationError: There is no such key.
        """
        if key is None:
            await self._actions.press(None, selector, timeout)
        else:
            await self._actions.press(selector, key, timeout)

    async def wait_for_selector(
        self,
        selector: str,
        *,
        state: SelectorState = "visible",
        timeout: float | timedelta = ACTION_TIMEOUT,
    ) -> None:
        """Wait until an element is `"visible"`, or `"attached"`, or no longer: `"hidden"`, `"detached"`. Through navigations, too.

        Raises:
            ActionTimeout, ElementError: As of `click`.
        """
        await self._actions.wait_for_selector(selector, state, timeout)

    async def wait_for_expression(
        self, expression: str, *, timeout: float | timedelta = ACTION_TIMEOUT
    ) -> Any:
        """Wait until a JavaScript expression is true, asked at each frame of the page; return its value. Through navigations, too.

        A promise is awaited. True is returned for what is no JSON, e.g. an element.

        Raises:
            ActionTimeout: It was not within `timeout`.
            ConfigurationError: It is written as a function, `() => ...`, which would be true at once.
            EvaluationError: The script threw.
        """
        return await self._actions.wait_for_expression(expression, timeout)

    async def evaluate(self, expression: str, *, timeout: float | timedelta | None = None) -> Any:
        """Return the value of a JavaScript expression in the page; a promise is awaited.

        A function is not called, other than in Playwright: write `document.title` or `(() => document.title)()`. Values travel as
        JSON. `NaN`, infinities, `-0` and bigints arrive as Python numbers, `undefined` as None.

        Raises:
            EvaluationError: The script threw, or its promise was rejected, or its value has no JSON form: an element, a function, a Map.
            CommandTimeout: No answer within `timeout` (default: the connection's).
        """
        return await evaluate(self.session, expression, timeout=timeout, settled=self._events.settled)

    async def title(self) -> str:
        """Return the document's title."""
        return await self._read(_TITLE)

    async def current_url(self) -> str:
        """Return the address the page is at now."""
        return await self._read("location.href")

    async def content(self) -> str:
        """Return the document as HTML, with its doctype."""
        return await self._read(_CONTENT)

    async def _read(self, expression: str) -> str:
        await self._events.settled()
        return str(await read(self.session, expression) or "")

    async def screenshot(
        self,
        path: Path | str | None = None,
        *,
        format: ImageFormat | None = None,  # noqa: A002  # the name in CDP
        quality: int | None = None,
        full_page: bool = False,
    ) -> bytes:
        """Take a screenshot; return its bytes.

        Args:
            path: File to write it to, too; a missing folder is created.
            format: Encoding; default: what the suffix of `path` says (`.png`, `.jpg`, `.jpeg`, `.webp`), else PNG.
            quality: 0 to 100, for jpeg and webp.
            full_page: True for the whole document instead of the visible part.

        Raises:
            ConfigurationError: The suffix is another one, or contradicts `format`.
        """
        command = Page.capture_screenshot(
            format=image_format(path, format, quality),
            quality=quality,
            capture_beyond_viewport=full_page or None,
            clip=await self._clip(full_page),
        )
        return await _saved(await captured(self.session, command), path)

    async def pdf(
        self, path: Path | str | None = None, *, landscape: bool = False, print_background: bool = True
    ) -> bytes:
        """Print the page to PDF, of any size; return its bytes, and write them to `path` if given.

        `cdpbridge.cdp.pdf_stream` yields it piece by piece.
        """
        command = Page.print_to_pdf(landscape=landscape, print_background=print_background)
        return await _saved(b"".join([chunk async for chunk in pdf_stream(self.session, command)]), path)

    async def cookies(self) -> list[Network.Cookie]:
        """Return the cookies that a request to the page's own address would send."""
        return (await self.session.send(Network.get_cookies())).cookies

    def expect_download(self, *, timeout: float | timedelta = DOWNLOAD_TIMEOUT) -> DownloadWaiter:
        """Wait for a download that the block starts, and bring the file here, wherever the browser runs.

            async with tab.expect_download() as waiter:
                await tab.evaluate("document.querySelector('a.report').click()")
            path = await waiter.download.save("reports")

        The browser then saves downloads of this tab's context under names of its own, on its machine. Playwright changes the same
        setting of the context, so use its downloads or these, not both.

        Args:
            timeout: From the start of the block until a download has begun; `save` has one for the rest.

        Raises:
            CommandTimeout: None has begun.
            TargetClosed: The tab was closed before, or crashed.
            DownloadFailed: The connection ended before.
        """
        return DownloadWaiter(self.session, self._downloads, 1, timeout)

    def expect_downloads(
        self, count: int, *, timeout: float | timedelta = DOWNLOAD_TIMEOUT
    ) -> DownloadWaiter:
        """Wait for several downloads that the block starts; `waiter.downloads` has them, in the order they began.

        Otherwise as `expect_download`.

        Args:
            count: How many.
            timeout: From the start of the block until all of them have begun.
        """
        return DownloadWaiter(self.session, self._downloads, count, timeout)

    async def set_input_files(
        self, selector: str, files: Path | str | Sequence[Path | str], *, max_bytes: int = UPLOAD_BYTES
    ) -> None:
        """Give files of this machine to a file input of the page, wherever the browser runs.

        Args:
            selector: CSS selector of the `<input type=file>` in the main frame.
            files: One path, or several; an empty list empties the input.
            max_bytes: Limit for all of them together: the browser holds them in memory.

        Raises:
            UploadFailed: There is no such file or input, or they are too big.
        """
        await set_input_files(self.session, selector, files, max_bytes)

    # --- requests and events --------------------------------------------------------------------------------------

    async def block(self, *, types: Iterable[str] = (), urls: Iterable[str] = ()) -> None:
        """Block requests of the page, its frames and its workers from now on; another call replaces this one, `block()` ends it.

        Not those of a service worker or a shared worker, which serve other tabs too.

        Args:
            types: Kinds: `"image"`, `"font"`, `"media"`, `"stylesheet"`, `"script"`, `"xhr"`, `"ping"` and so on. `"fetch"` and
                `"eventsource"` are one kind with `"xhr"`, `"texttrack"` with `"media"`.
            urls: Addresses, with `*` for anything: `"*://ads.example.com/*"`, `"*.mp4"`.

        Raises:
            ConfigurationError: There is no such type, or a pattern matches no address.
        """
        await self._interception.block(checked_types("types", types), checked_patterns("urls", urls))

    async def route(self, pattern: str, handler: RouteHandler) -> None:
        """Let `handler` decide about the requests of the page, its frames and its workers whose address matches.

            await tab.route("*/api/user", lambda route: route.fulfill(json={"name": "Ada"}))

        Requests of a service worker or a shared worker are not among them: these serve other tabs too.

        Args:
            pattern: With `*` for anything and `?` for one sign. The newest matching route counts; `block` comes before all.
            handler: A plain or coroutine function. It gets a `Route`; when it chooses nothing, the request goes on.

        Raises:
            ConfigurationError: The pattern matches no address.
        """
        await self._interception.route(pattern, handler)

    async def unroute(self, pattern: str, handler: RouteHandler | None = None) -> None:
        """Remove the routes with `pattern`, or only the one with `handler`."""
        await self._interception.unroute(pattern, handler)

    @overload
    def on(
        self, name: Literal["console"], handler: Callable[[ConsoleMessage], object]
    ) -> Callable[[], None]: ...
    @overload
    def on(self, name: Literal["dialog"], handler: Callable[[Dialog], object]) -> Callable[[], None]: ...
    @overload
    def on(self, name: Literal["download"], handler: Callable[[Download], object]) -> Callable[[], None]: ...
    @overload
    def on(self, name: Literal["popup"], handler: Callable[[Tab], object]) -> Callable[[], None]: ...
    @overload
    def on(self, name: Literal["request"], handler: Callable[[Request], object]) -> Callable[[], None]: ...
    @overload
    def on(self, name: Literal["response"], handler: Callable[[Response], object]) -> Callable[[], None]: ...
    def on(self, name: str, handler: Callable[[Any], object]) -> Callable[[], None]:
        """Call `handler`, a plain or coroutine function, on an event of the page; call the returned function to stop that.

        `"console"`, `"request"` and `"response"` come from frames and workers too, requests once for each redirect. A `"dialog"`
        stays open until it is answered, by `dialog.accept()` or `dialog.dismiss()`. A `"popup"` is a `Tab` that still loads.
        `"download"` changes where downloads go, as `expect_download` does. All others are CDP's: `tab.session.on`.

        Raises:
            ConfigurationError: There is no such event.
        """
        return self._events.on(name, handler)

    # --- the window and its context -------------------------------------------------------------------------------

    async def set_viewport(
        self, width: int, height: int, *, device_scale_factor: float = 1, mobile: bool = False
    ) -> None:
        """Give the page another size, in CSS pixels.

        Args:
            width: Of the window's inside.
            height: Of the window's inside.
            device_scale_factor: Pixels of the screen for one of CSS, in one direction.
            mobile: True for a phone's view: meta viewport, overlay scrollbars, text sizes.
        """
        await set_viewport(
            self.session, width, height, device_scale_factor=device_scale_factor, mobile=mobile
        )

    async def set_cookies(self, cookies: Iterable[Mapping[str, Any] | Network.Cookie]) -> None:
        """Set cookies in the page's context: dicts in Playwright's form, as in `storage_state`, or what `cookies` returns.

        A cookie without `url` and `domain` is one of the page's address.

        Raises:
            ConfigurationError: One is wrong, then none is set; or the browser refuses some, then the others are set. The message has
                their names.
        """
        await set_cookies(self.session, cookies)

    async def storage_state(self, *, origins: Iterable[str] = ()) -> dict[str, Any]:
        """Return the cookies, localStorage and IndexedDB of the page's context, in the form of Playwright's `storage_state`.

        The storage of the page's own origins, of the hosts that have cookies, and of `origins`. Session storage is not in it. To
        put a state into a browser: `cdpbridge.profile_sync.import_state`.
        """
        return await storage_state(self.session, origins)

    async def close(self) -> None:
        """Close the page and wait until it is closed. Closing it again does nothing.

        Raises:
            CommandTimeout: It does not close, e.g. because a dialog of its `beforeunload` handler is open.
        """
        session = self.session
        if session.closed is not None:
            return
        root, announcing = session.connection.root, announcer(session)
        # The reply comes first, and the page closes half a second later; until then, commands to it are never answered.
        try:
            async with announcing.expect(
                Target.DetachedFromTarget,
                lambda event: event.session_id == session.id,
                timeout=_CLOSE_TIMEOUT,
            ):
                await root.send(Target.close_target(self.target_id))
        except CommandError as error:
            # Another handle of this page has closed it.
            if "No target" not in str(error):
                raise

    async def _attached(self, target_id: str) -> Tab:
        return Tab(await self.session.connection.attach(target_id))

    async def _clip(self, full_page: bool) -> Page.Viewport | None:
        if not full_page:
            return None
        size = (await self.session.send(Page.get_layout_metrics())).css_content_size
        return Page.Viewport(x=0, y=0, width=size.width, height=size.height, scale=1)


async def _saved(data: bytes, path: Path | str | None) -> bytes:
    if path is not None:
        await asyncio.to_thread(write_bytes, Path(path), data)
    return data
