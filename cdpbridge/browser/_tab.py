"""`Tab`: a page of the rented browser, its CDPSession, and the few verbs a script needs.

More than these is Playwright's job, on the same browser: see `cdpbridge.playwright`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from cdpbridge._durations import waiting_time
from cdpbridge._folders import write_bytes
from cdpbridge.cdp import pdf_stream
from cdpbridge.errors import CommandTimeout, EvaluationError, NavigationError
from cdpbridge.protocol import Network, Page, Runtime, Target

from ._download import DownloadWaiter
from ._upload import set_input_files

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession

__all__ = ["Tab"]

WaitUntil = Literal["commit", "domcontentloaded", "load"]

# Names of `Page.lifecycleEvent`; "commit" is the navigation's own reply.
_LIFECYCLE_NAMES: Final = {"domcontentloaded": "DOMContentLoaded", "load": "load"}
_CLOSE_TIMEOUT: Final = timedelta(seconds=10)
_DOWNLOAD_TIMEOUT: Final = timedelta(seconds=30)
_UPLOAD_BYTES: Final = 256 * 1024 * 1024  # it is held in the browser's memory
_NAVIGATION_TIMEOUT: Final = timedelta(seconds=30)  # Playwright's default, which its users expect


class Tab:
    """A page target of a browser.

    Attributes:
        session: Its CDPSession, for everything that has no method here.
    """

    def __init__(self, session: CDPSession) -> None:
        self.session = session
        self._page_enabled = False

    def __repr__(self) -> str:
        return f"<Tab {self.session.target_id}{' closed' if self.session.closed else ''}>"

    @property
    def target_id(self) -> str:
        """Chrome's id of this page."""
        return self.session.target_id

    async def goto(
        self, url: str, *, wait_until: WaitUntil = "load", timeout: float | timedelta = _NAVIGATION_TIMEOUT
    ) -> None:
        """Navigate to `url` and wait for it.

        Args:
            url: Where to.
            wait_until: `"commit"` (the server answered), `"domcontentloaded"`, or `"load"`.
            timeout: For all of it.

        Raises:
            NavigationError: The page could not be loaded, e.g. `net::ERR_NAME_NOT_RESOLVED`.
            CommandTimeout: Not within `timeout`. The page goes on loading.
            TargetClosed: The tab was closed meanwhile.
        """
        await self._navigate(Page.navigate(url), url, wait_until, timeout)

    async def evaluate(self, expression: str, *, timeout: float | timedelta | None = None) -> Any:
        """Return the value of a JavaScript expression in the page; a promise is awaited.

        Values travel as JSON. `NaN`, infinities, `-0` and bigints arrive as Python numbers, `undefined` as None.

        Raises:
            EvaluationError: The script threw, or its promise was rejected.
            CommandTimeout: No answer within `timeout` (default: the connection's).
        """
        answer = await self.session.send(
            Runtime.evaluate(expression, await_promise=True, return_by_value=True, user_gesture=True),
            timeout=timeout,
        )
        if answer.exception_details is not None:
            raise _thrown(answer.exception_details)
        if answer.result.unserializable_value is not None:
            return _number(answer.result.unserializable_value)
        return answer.result.value

    async def title(self) -> str:
        """Return the document's title."""
        return str(await self.evaluate("document.title"))

    async def current_url(self) -> str:
        """Return the address the page is at now."""
        return str(await self.evaluate("location.href"))

    async def content(self) -> str:
        """Return the document as HTML, with its doctype."""
        script = (
            "(document.doctype ? new XMLSerializer().serializeToString(document.doctype) : '')"
            " + document.documentElement.outerHTML"
        )
        return str(await self.evaluate(script))

    async def screenshot(
        self,
        path: Path | str | None = None,
        *,
        format: Literal["png", "jpeg", "webp"] = "png",  # noqa: A002  # the name in CDP
        quality: int | None = None,
        full_page: bool = False,
    ) -> bytes:
        """Take a screenshot; return its bytes.

        Args:
            path: File to write it to, too; a missing folder is created.
            format: Encoding.
            quality: 0 to 100, for jpeg and webp.
            full_page: True for the whole document instead of the visible part.
        """
        reply = await self.session.send(
            Page.capture_screenshot(
                format=format,
                quality=quality,
                capture_beyond_viewport=full_page or None,
                clip=await self._clip(full_page),
            )
        )
        return await _saved(reply.data, path)

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

    def expect_download(self, *, timeout: float | timedelta = _DOWNLOAD_TIMEOUT) -> DownloadWaiter:
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
            DownloadFailed: The connection ended before.
        """
        return DownloadWaiter(self.session, timeout)

    async def set_input_files(
        self, selector: str, files: Path | str | Sequence[Path | str], *, max_bytes: int = _UPLOAD_BYTES
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

    async def close(self) -> None:
        """Close the page and wait until it is closed. Closing it again does nothing.

        Raises:
            CommandTimeout: It does not close, e.g. because a dialog of its `beforeunload` handler is open.
        """
        session = self.session
        if session.closed is not None:
            return
        root = session.connection.root
        # The reply comes first, and the page closes half a second later; until then, commands to it are never answered.
        async with root.expect(
            Target.DetachedFromTarget, lambda event: event.session_id == session.id, timeout=_CLOSE_TIMEOUT
        ):
            await root.send(Target.close_target(self.target_id))

    async def _navigate(
        self, command: Any, url: str, wait_until: WaitUntil, timeout: float | timedelta
    ) -> None:
        limit = waiting_time("timeout", timeout)
        if not self._page_enabled:
            await self.session.send(Page.enable())
            await self.session.send(Page.set_lifecycle_events_enabled(enabled=True))
            self._page_enabled = True
        try:
            async with asyncio.timeout(limit.total_seconds()) as deadline:
                # Listen first: the events may come before the reply.
                async with self.session.events(Page.LifecycleEvent) as stream:
                    reply = await self.session.send(command, timeout=limit)
                    if reply.error_text:
                        raise NavigationError(url, reply.error_text)
                    # Without a loader it was a move within the document: nothing loads.
                    if wait_until == "commit" or not reply.loader_id:
                        return
                    wanted = _LIFECYCLE_NAMES[wait_until]
                    async for event in stream:
                        if event.loader_id == reply.loader_id and event.name == wanted:
                            return
        except TimeoutError:
            if not deadline.expired():  # a command's own timeout
                raise
            raise CommandTimeout(
                f"goto ({wait_until})",
                target=self.session.describe(),
                waited=limit,
                hint=self.session.hint(),
            ) from None

    async def _clip(self, full_page: bool) -> Page.Viewport | None:
        if not full_page:
            return None
        size = (await self.session.send(Page.get_layout_metrics())).css_content_size
        return Page.Viewport(x=0, y=0, width=size.width, height=size.height, scale=1)


def _thrown(details: Runtime.ExceptionDetails) -> EvaluationError:
    thrown = details.exception
    text = details.text
    if thrown is not None:  # an Error describes itself; anything else can be thrown too
        text = thrown.description or f"{details.text} {thrown.unserializable_value or thrown.value!r}"
    return EvaluationError(text, line=details.line_number + 1, column=details.column_number + 1)


def _number(text: str) -> int | float:
    """Return a value that JSON has no form for: `NaN`, `Infinity`, `-Infinity`, `-0`, or a bigint like `12n`."""
    return int(text.removesuffix("n")) if text.endswith("n") else float(text)


async def _saved(data: bytes, path: Path | str | None) -> bytes:
    if path is not None:
        await asyncio.to_thread(write_bytes, Path(path), data)
    return data
