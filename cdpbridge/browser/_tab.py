"""Tab: a page of the rented browser, its CDPSession, and the few verbs a script needs.

More than these is Playwright's job, on the same browser: see `cdpbridge.playwright`.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from cdpbridge._durations import waiting_time
from cdpbridge._folders import write_bytes
from cdpbridge.cdp import pdf_stream
from cdpbridge.errors import CommandTimeout, EvaluationError, NavigationError
from cdpbridge.protocol import Network, Page, Runtime, Target

from ._download import DownloadExpectation, upload

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
        session: Its CDPSession, for everything that has no verb here.
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
            CommandTimeout: It was not there in time. The page goes on loading.
            TargetClosed: The tab went away meanwhile.
        """
        await self._navigate(Page.navigate(url), url, wait_until, timeout)

    async def evaluate(self, expression: str, *, timeout: float | timedelta | None = None) -> Any:
        """The value of a JavaScript expression in the page; a promise is awaited.

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
        """The document's title."""
        return str(await self.evaluate("document.title"))

    async def url(self) -> str:
        """The address the page is at now."""
        return str(await self.evaluate("location.href"))

    async def content(self) -> str:
        """The document as HTML, with its doctype."""
        script = (
            "(document.doctype ? new XMLSerializer().serializeToString(document.doctype) : '')"
            " + document.documentElement.outerHTML"
        )
        return str(await self.evaluate(script))

    async def screenshot(
        self,
        path: Path | str | None = None,
        *,
        image_format: Literal["png", "jpeg", "webp"] = "png",
        quality: int | None = None,
        full_page: bool = False,
    ) -> bytes:
        """A picture of the page.

        Args:
            path: Also written there, if given; its folder is made when it is missing.
            image_format: Encoding.
            quality: 0 to 100, for jpeg and webp.
            full_page: The whole document instead of the visible part.
        """
        reply = await self.session.send(
            Page.capture_screenshot(
                format=image_format,
                quality=quality,
                capture_beyond_viewport=full_page or None,
                clip=await self._clip(full_page),
            )
        )
        return await _saved(reply.data, path)

    async def pdf(
        self, path: Path | str | None = None, *, landscape: bool = False, background: bool = True
    ) -> bytes:
        """The page as PDF, of any size, also written to `path` if given.

        `cdpbridge.cdp.pdf_stream` gives it piece by piece.
        """
        command = Page.print_to_pdf(landscape=landscape, print_background=background)
        return await _saved(b"".join([chunk async for chunk in pdf_stream(self.session, command)]), path)

    async def cookies(self) -> list[Network.Cookie]:
        """The cookies that the page's own address would send."""
        return (await self.session.send(Network.get_cookies())).cookies

    def expect_download(self, *, timeout: float | timedelta = _DOWNLOAD_TIMEOUT) -> DownloadExpectation:
        """Bring a file here that the page downloads, wherever the browser runs.

            async with tab.expect_download() as download:
                await tab.evaluate("document.querySelector('a.report').click()")
            path = await download.save("reports")

        From here on the browser saves downloads of this tab's context under names of its own, on its machine. Playwright on
        the same context needs its own setting then, so use its downloads or these.

        Args:
            timeout: From the start of the block until a download has begun; `save` has one for the rest.

        Raises:
            CommandTimeout: None has begun.
            DownloadFailed: The connection ended before.
        """
        return DownloadExpectation(self.session, timeout)

    async def upload(self, selector: str, *paths: Path | str, max_bytes: int = _UPLOAD_BYTES) -> None:
        """Give files of this machine to a file input of the page, wherever the browser runs.

        Args:
            selector: CSS selector of the `<input type=file>` in the main frame.
            paths: The files; none empties it.
            max_bytes: Limit for all of them together: the browser holds them in memory.

        Raises:
            UploadFailed: There is no such file or input, or they are too big.
        """
        await upload(self.session, selector, paths, max_bytes)

    async def close(self) -> None:
        """Close the page and wait until it is gone. Closing a closed one is fine.

        Raises:
            CommandTimeout: It does not go, e.g. because a dialog of its `beforeunload` handler is open.
        """
        session = self.session
        if session.closed is not None:
            return
        root = session.connection.root
        # It is answered first, and the page goes half a second later; until then, commands to it are never answered.
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
    """A value JSON has no form for: `NaN`, `Infinity`, `-Infinity`, `-0`, or a bigint like `12n`."""
    return int(text.removesuffix("n")) if text.endswith("n") else float(text)


async def _saved(data: bytes, path: Path | str | None) -> bytes:
    if path is not None:
        await asyncio.to_thread(write_bytes, Path(path), data)
    return data
