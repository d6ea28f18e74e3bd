"""What the blocking `Tab` of `cdpbridge.sync` does with its page, and the values it hands out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from cdpbridge.browser._actions import ACTION_TIMEOUT
from cdpbridge.browser._navigation import NAVIGATION_TIMEOUT
from cdpbridge.sync._threads import Threads, plain

if TYPE_CHECKING:
    from cdpbridge.browser import Dialog as AsyncDialog
    from cdpbridge.browser import Request
    from cdpbridge.browser import Response as AsyncResponse
    from cdpbridge.browser import Route as AsyncRoute
    from cdpbridge.browser import Tab as AsyncTab
    from cdpbridge.browser._actions import Button, SelectorState
    from cdpbridge.browser._navigation import WaitUntil
    from cdpbridge.cdp._http_credentials import HttpCredentials
    from cdpbridge.protocol import Network

__all__ = ["Dialog", "PageVerbs", "Response", "Route", "Runner", "called"]

T = TypeVar("T")


class Runner(Protocol):
    """Runs a coroutine in the event loop, and returns its result."""

    def __call__(self, work: Coroutine[Any, Any, T], /) -> T: ...


class Response:
    """An answer that a page got. `cdpbridge.browser.Response` without an event loop, which describes its attributes."""

    def __init__(self, response: AsyncResponse, run: Runner) -> None:
        self._response = response
        self._run = run

    def __repr__(self) -> str:
        return repr(self._response)

    @property
    def url(self) -> str:
        """Where it comes from, after redirects."""
        return self._response.url

    @property
    def status(self) -> int:
        """HTTP status."""
        return self._response.status

    @property
    def status_text(self) -> str:
        """HTTP reason phrase."""
        return self._response.status_text

    @property
    def headers(self) -> dict[str, str]:
        """By lower-case names."""
        return self._response.headers

    @property
    def resource_type(self) -> str:
        """What it is for."""
        return self._response.resource_type

    @property
    def mime_type(self) -> str:
        """Type of the content as the browser sees it."""
        return self._response.mime_type

    @property
    def from_service_worker(self) -> bool:
        """True if a service worker of the site answered."""
        return self._response.from_service_worker

    @property
    def frame_id(self) -> str:
        """Chrome's id of the frame that asked."""
        return self._response.frame_id

    @property
    def ok(self) -> bool:
        """True for a status of 200 to 299."""
        return self._response.ok

    def body(self) -> bytes:
        """Return the content, which the browser keeps until the page navigates."""
        return self._run(self._response.body())

    def text(self) -> str:
        """Return the content as text."""
        return self._run(self._response.text())

    def json(self) -> Any:
        """Return the content, decoded from JSON."""
        return self._run(self._response.json())


class Dialog:
    """An open dialog of the page. `cdpbridge.browser.Dialog` without an event loop, which describes its attributes."""

    def __init__(self, dialog: AsyncDialog, run: Runner) -> None:
        self._dialog = dialog
        self._run = run

    def __repr__(self) -> str:
        return repr(self._dialog)

    @property
    def type(self) -> str:
        """`"alert"`, `"confirm"`, `"prompt"` or `"beforeunload"`."""
        return self._dialog.type

    @property
    def message(self) -> str:
        """Its text."""
        return self._dialog.message

    @property
    def default_prompt(self) -> str:
        """What a prompt suggests."""
        return self._dialog.default_prompt

    @property
    def url(self) -> str:
        """Address of the frame that opened it."""
        return self._dialog.url

    def accept(self, prompt_text: str | None = None) -> None:
        """Close it with OK."""
        self._run(self._dialog.accept(prompt_text))

    def dismiss(self) -> None:
        """Close it with Cancel."""
        self._run(self._dialog.dismiss())


class Route:
    """A request that waits for an answer. `cdpbridge.browser.Route` without an event loop, which describes its methods."""

    def __init__(self, route: AsyncRoute, run: Runner) -> None:
        self._route = route
        self._run = run

    def __repr__(self) -> str:
        return repr(self._route)

    @property
    def request(self) -> Request:
        """The request."""
        return self._route.request

    @property
    def answered(self) -> bool:
        """True once it is answered."""
        return self._route.answered

    def abort(self, reason: str = "failed") -> None:
        """Let it fail."""
        self._run(_awaited(lambda: self._route.abort(reason)))

    def continue_(
        self,
        *,
        url: str | None = None,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
        post_data: str | bytes | None = None,
    ) -> None:
        """Let it go on, with what is given in place of its own."""
        self._run(
            _awaited(
                lambda: self._route.continue_(url=url, method=method, headers=headers, post_data=post_data)
            )
        )

    def fulfill(
        self,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        body: str | bytes = b"",
        content_type: str | None = None,
        json: Any = None,
    ) -> None:
        """Answer it here, without the network."""
        self._run(
            _awaited(
                lambda: self._route.fulfill(
                    status=status, headers=headers, body=body, content_type=content_type, json=json
                )
            )
        )


RouteHandler = Callable[[Route], object]


@dataclass(frozen=True, slots=True)
class _RouteHandler:
    """A handler for the asynchronous tab, which calls the user's in a thread. Two of one handler are equal, so that one removes the other."""

    handler: RouteHandler
    run: Runner = field(repr=False, compare=False)

    async def __call__(self, route: AsyncRoute) -> None:
        """Call it, and wait for it."""
        await Threads("a handler").run(lambda: self.handler(Route(route, self.run)))


class PageVerbs:
    """The verbs of the blocking `Tab` that move its page and act on it. Arguments and errors as of `cdpbridge.Tab`."""

    def __init__(self, tab: AsyncTab, run: Runner) -> None:
        self._tab = tab
        self._run = run

    def goto(
        self,
        url: str,
        *,
        wait_until: WaitUntil = "load",
        timeout: float | timedelta = NAVIGATION_TIMEOUT,
        referrer: str | None = None,
        http_credentials: HttpCredentials | Mapping[str, str] | None = None,
    ) -> Response | None:
        """Navigate to `url`, wait for the page, and return the response that it came with."""
        return self._answer(
            self._run(
                self._tab.goto(
                    url,
                    wait_until=wait_until,
                    timeout=timeout,
                    referrer=referrer,
                    http_credentials=http_credentials,
                )
            )
        )

    def reload(
        self,
        *,
        wait_until: WaitUntil = "load",
        timeout: float | timedelta = NAVIGATION_TIMEOUT,
        ignore_cache: bool = False,
    ) -> Response | None:
        """Load the page again."""
        return self._answer(
            self._run(self._tab.reload(wait_until=wait_until, timeout=timeout, ignore_cache=ignore_cache))
        )

    def back(
        self, *, wait_until: WaitUntil = "load", timeout: float | timedelta = NAVIGATION_TIMEOUT
    ) -> Response | None:
        """Go back one step in the page's history; None where there is none, too."""
        return self._answer(self._run(self._tab.back(wait_until=wait_until, timeout=timeout)))

    def forward(
        self, *, wait_until: WaitUntil = "load", timeout: float | timedelta = NAVIGATION_TIMEOUT
    ) -> Response | None:
        """Go forward one step in the page's history; None where there is none, too."""
        return self._answer(self._run(self._tab.forward(wait_until=wait_until, timeout=timeout)))

    def click(
        self,
        selector: str,
        *,
        button: Button = "left",
        count: int = 1,
        timeout: float | timedelta = ACTION_TIMEOUT,
    ) -> None:
        """Click an element, as soon as it is ready for it."""
        self._run(self._tab.click(selector, button=button, count=count, timeout=timeout))

    def fill(self, selector: str, value: str, *, timeout: float | timedelta = ACTION_TIMEOUT) -> None:
        """Replace the text of an element, or choose an option, as soon as it is ready for it."""
        self._run(self._tab.fill(selector, value, timeout=timeout))

    @overload
    def press(self, key: str, /, *, timeout: float | timedelta = ACTION_TIMEOUT) -> None: ...

    @overload
    def press(self, selector: str, key: str, /, *, timeout: float | timedelta = ACTION_TIMEOUT) -> None: ...

    def press(
        self, selector: str, key: str | None = None, /, *, timeout: float | timedelta = ACTION_TIMEOUT
    ) -> None:
        """Press a key where the focus is, or in an element."""
        if key is None:
            self._run(self._tab.press(selector, timeout=timeout))
        else:
            self._run(self._tab.press(selector, key, timeout=timeout))

    def wait_for_selector(
        self,
        selector: str,
        *,
        state: SelectorState = "visible",
        timeout: float | timedelta = ACTION_TIMEOUT,
    ) -> None:
        """Wait until an element is there, or no longer."""
        self._run(self._tab.wait_for_selector(selector, state=state, timeout=timeout))

    def wait_for_expression(self, expression: str, *, timeout: float | timedelta = ACTION_TIMEOUT) -> Any:
        """Wait until a JavaScript expression is true; return its value."""
        return self._run(self._tab.wait_for_expression(expression, timeout=timeout))

    # --- requests, the window and its context ---------------------------------------------------------------------

    def block(self, *, types: Iterable[str] = (), urls: Iterable[str] = ()) -> None:
        """Block requests from now on; another call replaces this one, `block()` ends it."""
        self._run(self._tab.block(types=types, urls=urls))

    def route(self, pattern: str, handler: RouteHandler) -> None:
        """Let `handler` decide about requests. It is called in a thread of its own, and may call this API."""
        plain(handler, "a handler")
        self._run(self._tab.route(pattern, _RouteHandler(handler, self._run)))

    def unroute(self, pattern: str, handler: RouteHandler | None = None) -> None:
        """Remove the routes with `pattern`, or only the one with `handler`."""
        self._run(self._tab.unroute(pattern, None if handler is None else _RouteHandler(handler, self._run)))

    def set_viewport(
        self, width: int, height: int, *, device_scale_factor: float = 1, mobile: bool = False
    ) -> None:
        """Give the page another size, in CSS pixels."""
        self._run(
            self._tab.set_viewport(width, height, device_scale_factor=device_scale_factor, mobile=mobile)
        )

    def set_cookies(self, cookies: Iterable[Mapping[str, Any] | Network.Cookie]) -> None:
        """Set cookies in the page's context."""
        self._run(self._tab.set_cookies(cookies))

    def storage_state(self, *, origins: Iterable[str] = ()) -> dict[str, Any]:
        """Return cookies, localStorage and IndexedDB of the page's context, in the form of Playwright's `storage_state`."""
        return self._run(self._tab.storage_state(origins=origins))

    def _on(
        self, name: Any, handler: Callable[[Any], object], convert: Callable[[Any], Any]
    ) -> Callable[[], None]:
        """Call `handler` in a thread of its own, with one event after another, so that it may call this API."""
        plain(handler, "a handler")
        threads = Threads("a handler")

        async def handle(event: Any) -> None:
            await threads.run(lambda: handler(convert(event)))

        async def add() -> Callable[[], None]:
            return self._tab.on(name, handle)

        remove = self._run(add())
        return lambda: self._run(called(remove))

    def _answer(self, response: AsyncResponse | None) -> Response | None:
        return None if response is None else Response(response, self._run)


async def _awaited(begin: Callable[[], Awaitable[T]]) -> T:
    return await begin()


async def called(function: Callable[..., T], *arguments: Any) -> T:
    """Call a plain function in the event loop."""
    return function(*arguments)
