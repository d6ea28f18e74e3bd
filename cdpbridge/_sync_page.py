"""What the blocking `Tab` of `cdpbridge.sync` does with its page, and the values it hands out."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from cdpbridge.browser._actions import ACTION_TIMEOUT
from cdpbridge.browser._navigation import NAVIGATION_TIMEOUT

if TYPE_CHECKING:
    from cdpbridge.browser import Response as AsyncResponse
    from cdpbridge.browser import Tab as AsyncTab
    from cdpbridge.browser._actions import Button, SelectorState
    from cdpbridge.browser._navigation import WaitUntil

__all__ = ["PageVerbs", "Response", "Runner"]

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


class PageVerbs:
    """The verbs of the blocking `Tab` that move its page and act on it. Arguments and errors as of `cdpbridge.Tab`."""

    _tab: AsyncTab
    _run: Runner

    def goto(
        self,
        url: str,
        *,
        wait_until: WaitUntil = "load",
        timeout: float | timedelta = NAVIGATION_TIMEOUT,
        referrer: str | None = None,
    ) -> Response | None:
        """Navigate to `url`, wait for the page, and return the response that it came with."""
        return self._answer(
            self._run(self._tab.goto(url, wait_until=wait_until, timeout=timeout, referrer=referrer))
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

    def _answer(self, response: AsyncResponse | None) -> Response | None:
        return None if response is None else Response(response, self._run)
