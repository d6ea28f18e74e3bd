"""The downloads of a tab as they begin, and the blocks that wait for them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from cdpbridge._durations import waiting_time
from cdpbridge.cdp._session import when_ended
from cdpbridge.errors import CDPError, CommandTimeout, ConfigurationError, DownloadFailed
from cdpbridge.protocol import Browser, Page, Target

from ._download import Download, temporary_folder

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession

    from ._frames import Frames

__all__ = ["DOWNLOAD_TIMEOUT", "DownloadWaiter", "Downloads"]

DOWNLOAD_TIMEOUT: Final = timedelta(seconds=30)
_FRAMES_SECONDS: Final = 5.0  # a frame that does not answer must not hold up the downloads of the others


class Downloads:
    """The downloads of one tab, heard while a block or a listener wants them. Each is given to one block only.

    Args:
        session: Of the page.
        frames: Of the page.
    """

    def __init__(self, session: CDPSession, frames: Frames) -> None:
        self._session = session
        self._frames = frames
        # Ids of frames and popups of this page that were seen, also of those that are removed: a page may use one for a download.
        self._mine: set[str] = set()
        self._reading: asyncio.Task[None] | None = None
        self._users = 0
        self._context_id: str | None = None
        self._folder = ""
        self._remove: list[Callable[[], None]] = []
        self._listeners: list[Callable[[Download], object]] = []
        self._blocks: list[_Block] = []  # in the order of their beginnings
        self._unfinished: dict[str, asyncio.Future[Browser.DownloadProgress]] = {}
        self._begun: list[tuple[Browser.DownloadWillBegin, asyncio.Future[Browser.DownloadProgress]]] = []
        self._sorting: asyncio.Task[None] | None = None

    @property
    def expected(self) -> bool:
        """True while a block or a listener waits for one."""
        return self._users > 0

    def listen(self, listener: Callable[[Download], object]) -> Callable[[], None]:
        """Call `listener` with each download that begins, while one `open` is in force; call the returned function to stop."""
        self._listeners.append(listener)
        return _once(lambda: self._listeners.remove(listener))

    async def open(self) -> Callable[[], None]:
        """Let the browser save downloads and report them, until the returned function is called.

        What has begun by then is followed to its end.
        """
        self._users += 1
        release = _once(self._release)
        root = self._session.connection.root
        try:
            if not self._folder:
                target = (
                    await root.send(Target.get_target_info(target_id=self._session.target_id))
                ).target_info
                self._context_id = target.browser_context_id
                self._folder = f"{await temporary_folder(root)}/cdpbridge-{secrets.token_hex(8)}"
            if not self._remove:
                self._listen()
            await root.send(Target.set_discover_targets(discover=True))
            await root.send(
                Browser.set_download_behavior(
                    Browser.SetDownloadBehaviorBehavior.ALLOW_AND_NAME,
                    browser_context_id=self._context_id,
                    download_path=self._folder,
                    events_enabled=True,
                )
            )
        except BaseException:
            release()
            raise
        return release

    def _listen(self) -> None:
        session, root = self._session, self._session.connection.root
        self._remove = [
            when_ended(session, self._on_ended, crashes=True),
            session.on(Page.FrameAttached, lambda event: self._mine.add(event.frame_id)),
            root.on(Target.TargetCreated, self._on_target),
            root.on(Browser.DownloadWillBegin, self._on_begun),
            root.on(Browser.DownloadProgress, self._on_progress),
            session.connection.on("disconnected", self._on_disconnected),
        ]
        self._reading = session.connection.create_task(self._read_frames())

    def _release(self) -> None:
        self._users -= 1
        self._stop_when_idle()

    def add(self, block: _Block) -> Callable[[], None]:
        """Give downloads that begin from now on to `block`; call the returned function to end that."""
        self._blocks.append(block)
        return _once(lambda: self._blocks.remove(block))

    def _stop_when_idle(self) -> None:
        if self._users <= 0 and not self._unfinished:
            while self._remove:
                self._remove.pop()()
            self._mine.clear()

    def _on_begun(self, event: Browser.DownloadWillBegin) -> None:
        done: asyncio.Future[Browser.DownloadProgress] = asyncio.get_running_loop().create_future()
        self._unfinished[event.guid] = done
        self._begun.append((event, done))
        if self._sorting is None or self._sorting.done():
            self._sorting = self._session.connection.create_task(self._sort())

    async def _sort(self) -> None:
        """Hand on those of this page, in their order."""
        while self._begun:
            event, done = self._begun[0]
            ours = False
            try:
                ours = await self._is_ours(event.frame_id)
            except CDPError as error:
                for each in self._blocks:
                    each.fail(error)
            finally:
                del self._begun[0]
            if not ours:
                continue
            path = f"{self._folder}/{event.guid}"
            download = Download(self._session.connection, self._context_id, event, path, done)
            # The innermost block that wants one more: it is left first.
            block = next((each for each in reversed(self._blocks) if each.wants_more), None)
            if block is not None:
                block.give(download)
            for listener in list(self._listeners):
                listener(download)

    async def _is_ours(self, frame_id: str) -> bool:
        """Return True if this page, a frame in it, or a page that it opened has begun it. When that is not known, False."""
        if frame_id == self._session.target_id or frame_id in self._mine:
            return True
        for target in await self._session.connection.targets():
            if target.target_id == frame_id:
                if target.type == "page" or target.browser_context_id != self._context_id:
                    return target.opener_id == self._session.target_id
                break
        if self._reading is not None:
            await asyncio.wait({self._reading}, timeout=_FRAMES_SECONDS)
        if frame_id not in self._mine and self._session.closed is None:
            reading = self._session.connection.create_task(self._read_frames())
            await asyncio.wait({reading}, timeout=_FRAMES_SECONDS)
        return frame_id in self._mine

    async def _read_frames(self) -> None:
        with suppress(CDPError):  # it has closed meanwhile
            self._mine |= {frame.id for frame in await self._frames.all()}

    def _on_target(self, event: Target.TargetCreated) -> None:
        info = event.target_info
        if info.type == "page" and info.opener_id == self._session.target_id:
            self._mine.add(info.target_id)

    def _on_ended(self, error: CDPError) -> None:
        """Tell the blocks, once what has begun before is handed on."""
        if not self._session.connection.closed:  # `_on_disconnected` says that
            self._session.connection.create_task(self._fail_blocks(error))

    async def _fail_blocks(self, error: CDPError) -> None:
        if self._sorting is not None:
            await asyncio.wait({self._sorting})
        for block in self._blocks:
            block.fail(error)

    def _on_progress(self, event: Browser.DownloadProgress) -> None:
        if event.state != Browser.DownloadProgressState.IN_PROGRESS:
            done = self._unfinished.pop(event.guid, None)
            if done is not None and not done.done():
                done.set_result(event)
            self._stop_when_idle()

    def _on_disconnected(self, *_: object) -> None:
        for done in self._unfinished.values():
            if not done.done():
                done.set_exception(DownloadFailed("", "the connection has ended"))
                done.exception()  # marked as read: perhaps no task waits for it
        self._unfinished.clear()
        for block in self._blocks:
            block.fail(DownloadFailed("", "the connection ended before a download began"))
        self._stop_when_idle()


def _once(work: Callable[[], object]) -> Callable[[], None]:
    """Return a function that does `work` at its first call, and nothing at others."""
    left = [work]

    def once() -> None:
        if left:
            left.pop()()

    return once


class _Block:
    """The downloads of one block."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken: list[Download] = []
        self._news = asyncio.Event()
        self._error: CDPError | None = None

    @property
    def wants_more(self) -> bool:
        return len(self.taken) < self.count

    def give(self, download: Download) -> None:
        self.taken.append(download)
        self._news.set()

    def fail(self, error: CDPError) -> None:
        self._error = self._error or error
        self._news.set()

    async def wait(self) -> None:
        """Return when all have begun."""
        while self.wants_more:
            if self._error is not None:
                raise self._error
            self._news.clear()
            await self._news.wait()


class DownloadWaiter:
    """Waits for downloads of the tab. See `Tab.expect_download` and `Tab.expect_downloads`."""

    def __init__(
        self, session: CDPSession, downloads: Downloads, count: int, timeout: float | timedelta
    ) -> None:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:  # type: ignore[redundant-expr]
            raise ConfigurationError(f"count must be a number of downloads, 1 or more, not {count!r}")
        self._session = session
        self._all = downloads
        self._timeout = waiting_time("timeout", timeout)
        self._block = _Block(count)
        self._deadline = 0.0
        self._complete = False
        self._leave: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<DownloadWaiter {self._block.taken!r}>"

    @property
    def download(self) -> Download:
        """The first download that has begun, once the block is left.

        Raises:
            RuntimeError: The block is not left yet, or it failed.
        """
        return self.downloads[0]

    @property
    def downloads(self) -> list[Download]:
        """The downloads that have begun, in their order, once the block is left. Errors as of `download`."""
        if not self._complete:
            raise RuntimeError("no download has begun yet; use it after the block of expect_download")
        return list(self._block.taken)

    async def __aenter__(self) -> Self:
        self._deadline = asyncio.get_running_loop().time() + self._timeout.total_seconds()
        self._leave = [await self._all.open(), self._all.add(self._block)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self._wait()
                self._complete = True
        finally:
            while self._leave:
                self._leave.pop()()

    async def _wait(self) -> None:
        block, session = self._block, self._session
        try:
            async with asyncio.timeout_at(self._deadline) as deadline:
                await block.wait()
        except TimeoutError:
            if not deadline.expired():  # a command's own timeout
                raise
            doing, begun = "expect_download", []
            if block.count > 1:
                doing = f"expect_downloads({block.count})"
                begun = [f"{len(block.taken)} have begun"]
            hint = session.hint()
            raise CommandTimeout(
                doing,
                target=session.describe(),
                waited=self._timeout,
                hint="; ".join([*begun, *([hint] if hint else [])]) or None,
            ) from None
