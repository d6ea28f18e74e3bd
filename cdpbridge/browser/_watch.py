"""Which document a page has: what its main frame does from the beginning of a navigation on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Self

from cdpbridge.errors import CDPError, NavigationError, TargetCrashed
from cdpbridge.protocol import Inspector, Network, Page

from ._response import Response, response_of

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession
    from cdpbridge.cdp._stream import EventStream

__all__ = ["EMPTY_FAILURE", "NO_CONTENT", "Watch"]

# A status of 400 or more without a body; the full build shows a page of its own then.
EMPTY_FAILURE: Final = "net::ERR_HTTP_RESPONSE_CODE_FAILURE"
NO_CONTENT: Final = frozenset({204, 205})
_RESTORED: Final = "BackForwardCacheRestore"


class Watch:
    """What the main frame does from the beginning of a navigation on.

    A document is known by its loader, and its request has the loader's id.

    Attributes:
        loader: Of the document that counts now; None before there is one.
        stepped: It was a step within the document.
        downloaded: Address that brought a file and no document.
    """

    def __init__(self, session: CDPSession, state: str) -> None:
        self._session = session
        self._frame = session.target_id  # Chrome's main frame has the id of its page
        self._state = state
        self.loader: str | None = None
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
        # What was heard of documents whose beginning was not.
        self._unheard: dict[str, set[str]] = {}
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
            self._first = self.loader = loader
            self._unreachable = None
            if loader in self._unheard:
                self._reached[loader] = self._unheard.pop(loader)

    def missed(self, document: Page.Frame) -> None:
        """Take in which document the main frame has now, after one whose beginning may have been missed."""
        if self._first is not None:
            self._reached.setdefault(self._first, set())
        self._note(document)

    def ends_with_step(self, is_step: Callable[[Page.NavigatedWithinDocument], bool]) -> None:
        """Count a step within the document, from now on, as the end."""
        self._is_step = is_step

    def ends_without_document(self) -> None:
        """Count an answer that leaves the page as it was, a download or one without content, as the end."""
        self._without_document = True

    def settle(self, response: Response) -> None:
        """Return `response`, although it leaves the page as it was."""
        self._answer = response

    def end(self) -> None:
        """End the wait: what the navigation brought is known otherwise."""
        self._over = True
        self._news.set()

    @property
    def is_error_page(self) -> bool:
        """True if the document that counts is Chromium's own page in place of a response without a body."""
        return self._unreachable is not None

    async def reached(self) -> None:
        """Return when the document that counts has the state; again, when another one has taken its place since.

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
        if self._answer is not None or self.loader is None:
            return self._answer
        event = self._responses.get(self.loader)
        return None if event is None else self._of(event)

    def events(self) -> tuple[Network.ResponseReceived, Network.ResponseReceivedExtraInfo | None] | None:
        """Return what Chrome has said of the response of the document that counts; None where there was none."""
        event = self._responses.get(self.loader or "")
        return None if event is None else (event, self.raw(event.request_id, event.response.status))

    def raw(self, request_id: str, status: int) -> Network.ResponseReceivedExtraInfo | None:
        """Return the head of a response as the network sent it; None if Chrome has sent none, e.g. of one from the cache."""
        raw = self._raw.get(request_id)
        return raw if raw is not None and raw.status_code == status else None

    def last_response(self) -> Response | None:
        """Return the last response to a request for a document of the main frame."""
        event = next(reversed(self._responses.values()), None)
        return None if event is None else self._of(event)

    def _of(self, event: Network.ResponseReceived) -> Response:
        return response_of(event, self._session, self._raw.get(event.request_id))

    def _done(self) -> bool:
        loader = self.loader
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
        elif event.loader_id == self.loader:  # its beginning may have come before we listened
            self._reached.setdefault(event.loader_id, set()).add(event.name)
        elif event.loader_id in self._reached:
            self._reached[event.loader_id].add(event.name)
        else:
            self._unheard.setdefault(event.loader_id, set()).add(event.name)
        self._news.set()

    def _note(self, document: Page.Frame) -> None:
        self._committed(document.loader_id)
        if document.loader_id == self.loader:
            self._unreachable = document.unreachable_url
        self._news.set()

    def _on_navigated(self, event: Page.FrameNavigated) -> None:
        if event.frame.id != self._frame:
            return
        self._note(event.frame)
        self._over = self._over or event.type == _RESTORED
        self._news.set()

    def _on_step(self, event: Page.NavigatedWithinDocument) -> None:
        if event.frame_id != self._frame or self.loader is not None:
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
        if event.frame_id != self._frame:
            return
        if self.loader is not None:
            # A document whose script begins a navigation that is cancelled is complete, but has no load event any more.
            if self._started != self.loader and self._started in self._aborted:
                self._reached.setdefault(self.loader, set()).update({"DOMContentLoaded", "load"})
                self._news.set()
            return
        if not self._without_document:
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
        self._reached[loader] = self._unheard.pop(loader, set())
        if self._first is None or loader == self._first or self._first in self._reached:
            self.loader = loader
            self._unreachable = None


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
