"""`open_browser` for programs without an event loop: the rental, its pages and downloads; and the blocking clients."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, TypeVar, Unpack, overload
from uuid import UUID

from cdpbridge._concurrency import LoopThread
from cdpbridge.api import AsyncClient, BrowserSession, Client
from cdpbridge.api._place import find_place
from cdpbridge.billing import Receipt
from cdpbridge.browser._downloads import DOWNLOAD_TIMEOUT
from cdpbridge.browser._open import open_checked
from cdpbridge.browser._upload import UPLOAD_BYTES
from cdpbridge.providers import LocalSettings, of_blocking
from cdpbridge.rental._options import CheckedOptions, RentalOptions, check
from cdpbridge.rental._shutdown import exit_on_signals
from cdpbridge.sync._caller import check_caller
from cdpbridge.sync._local import LocalSyncClient
from cdpbridge.sync._page import Dialog, PageVerbs, Response, Route, Runner, called

if TYPE_CHECKING:
    import httpx

    from cdpbridge.browser import Browser as AsyncBrowser
    from cdpbridge.browser import ConsoleMessage, Request
    from cdpbridge.browser._download import Download as AsyncDownload
    from cdpbridge.browser._downloads import DownloadWaiter as AsyncDownloadWaiter
    from cdpbridge.browser._screenshot import ImageFormat
    from cdpbridge.protocol import Command, Network

__all__ = [
    "Browser",
    "Client",
    "ClientOptions",
    "Dialog",
    "Download",
    "DownloadWaiter",
    "Opening",
    "Response",
    "Route",
    "Tab",
    "at",
    "cloud",
    "local",
    "open_browser",
]

T = TypeVar("T")

# --- where ------------------------------------------------------------------------------------------------------------


class ClientOptions(TypedDict, total=False):
    """Options of `Client`, which describes them."""

    timeout: float | timedelta
    max_retries: int
    http_client: httpx.Client
    idempotent_creates: bool


def cloud(api_key: str | None = None, **options: Unpack[ClientOptions]) -> Client:
    """Return a blocking client of the Browser Use Cloud; arguments and errors as of `cdpbridge.cloud`."""
    place = find_place(os.environ, "cloud", api_key)
    return Client(place.api_key, place.base_url, **options)


def at(base_url: str, api_key: str | None = None, **options: Unpack[ClientOptions]) -> Client:
    """Return a blocking client of a server that has the same API; arguments and errors as of `cdpbridge.at`."""
    return Client(api_key, base_url, **options)


def local(
    *,
    data_dir: Path | str | None = None,
    config: Path | str | None = None,
    private: bool = False,
    **settings: Unpack[LocalSettings],
) -> LocalSyncClient:
    """Return a blocking client of an embedded server; its block joins or starts the server. Arguments as of `cdpbridge.local`."""
    return LocalSyncClient({"data_dir": data_dir, "config": config, "private": private or None, **settings})


# --- what -------------------------------------------------------------------------------------------------------------


def open_browser(
    provider: Client | AsyncClient | str | None = None, **options: Unpack[RentalOptions]
) -> Opening:
    """Rent a browser and connect to it: `with sync.open_browser() as browser`.

    Args:
        provider: Where, as of `cdpbridge.open_browser`; or a blocking client, whose address and key are used.
        options: As of `cdpbridge.open_browser`. `on_progress`, `on_handler_error` and event handlers are called in another thread;
            `renew` is called with the asynchronous `cdpbridge.Browser`, in its event loop.

    Raises:
        CDPBridgeError: As of `cdpbridge.open_browser`. Options are checked at the call.
    """
    where = of_blocking(provider) if isinstance(provider, Client) else provider
    return Opening(check(where, options))


class Opening:
    """What `open_browser` returns: a block that rents a browser and stops it. Only once."""

    def __init__(self, options: CheckedOptions) -> None:
        self._options: CheckedOptions | None = options
        self._pid: int | None = None
        self._stack = ExitStack()

    def __repr__(self) -> str:
        return f"<Opening {'used' if self._options is None else 'not used yet'}>"

    def __enter__(self) -> Browser:
        check_caller("sync.open_browser()", "async with cdpbridge.open_browser() as browser")
        options, self._options = self._options, None
        self._pid = os.getpid()
        if options is None:
            raise RuntimeError("this browser was opened already; call open_browser() again for another one")
        with ExitStack() as stack:
            stack.enter_context(exit_on_signals())
            loop = stack.enter_context(LoopThread())
            # Left even if an interrupt ends the wait for a browser that is there already.
            rented = stack.enter_context(_Rented(loop, options))
            browser = rented.open()
            self._stack = stack.pop_all()
        return browser

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if os.getpid() == self._pid:  # what the parent of a fork has rented is the parent's to stop
            self._stack.__exit__(kind, error, trace)


class _Rented:
    """A block that stops the browser which was opened in it, if one was."""

    def __init__(self, loop: LoopThread, options: CheckedOptions) -> None:
        self._loop = loop
        self._options = options
        self._browser: AsyncBrowser | None = None

    def open(self) -> Browser:
        self._loop.run(self._open())
        assert self._browser is not None  # `_open` has set it, or raised
        return Browser(self._browser, self._loop.run)

    async def _open(self) -> None:
        self._browser = await open_checked(self._options, holder=None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._browser is not None:
            self._loop.run(self._browser.__aexit__(kind, error, trace))


class Browser:
    """A rented browser; `cdpbridge.Browser` without an event loop. Made by `open_browser`."""

    def __init__(self, browser: AsyncBrowser, run: Runner) -> None:
        self._browser = browser
        self._run = run

    def __repr__(self) -> str:
        return repr(self._browser)

    @property
    def record(self) -> BrowserSession:
        """The server's last record of it."""
        return self._browser.record

    @property
    def profile_id(self) -> UUID | None:
        """Profile it started from, None without one."""
        return self._browser.profile_id

    @property
    def id(self) -> UUID:
        """Id of the rental."""
        return self._browser.id

    @property
    def cdp_url(self) -> str:
        """Address for other CDP clients; it gives full control of the browser, so treat it as a password."""
        return self._browser.cdp_url

    @property
    def live_url(self) -> str | None:
        """Page to watch it; a password too. None where the server has none."""
        return self._browser.live_url

    @property
    def started_at(self) -> datetime:
        """Start of the paid time, by the server's clock."""
        return self._browser.started_at

    @property
    def timeout_at(self) -> datetime:
        """The server stops it then."""
        return self._browser.timeout_at

    @property
    def profile_writable(self) -> bool | None:
        """False when another browser holds the profile, so that this one is not saved; None if the server does not say."""
        return self._browser.profile_writable

    @property
    def cost_now(self) -> Decimal:
        """USD that a stop now would cost, by the written rule; after the stop, what it cost. All renewals included."""
        return self._browser.cost_now

    @property
    def refund_now(self) -> Decimal:
        """USD that a stop now would refund; zero once it is stopped."""
        return self._browser.refund_now

    @property
    def receipt(self) -> Receipt | None:
        """What it cost, all renewals included; None until it is stopped."""
        return self._browser.receipt

    @property
    def receipts(self) -> list[Receipt]:
        """The receipts of all rentals that have been stopped, the oldest first: more than one with `renew`."""
        return self._browser.receipts

    def on(self, name: str, handler: Callable[..., object]) -> Callable[[], None]:
        """Call `handler` on an event, in the thread of the event loop; call the returned function to stop that.

        Events and errors as of `cdpbridge.Browser.on`. A handler must not call this API, which would wait for itself.
        """
        remove = self._run(called(self._browser.on, name, handler))
        return lambda: self._run(called(remove))

    def new_tab(self, url: str | None = None) -> Tab:
        """Open a page, and load `url` in it if given. Errors as of `cdpbridge.Browser.new_tab`."""
        return Tab(self._run(self._browser.new_tab(url)), self._run)

    def tabs(self) -> list[Tab]:
        """List the pages there are, each with a new attachment. Errors as of `cdpbridge.Browser.tabs`."""
        return [Tab(tab, self._run) for tab in self._run(self._browser.tabs())]

    def stop(self) -> Receipt:
        """End the rental before the end of the block, and get the unused minutes back.

        Raises:
            StopFailed: The server did not confirm within `stop_timeout`.
        """
        return self._run(self._browser.stop())


class Tab(PageVerbs):
    """A page of a rented browser; `cdpbridge.Tab` without an event loop."""

    def __repr__(self) -> str:
        return repr(self._tab)

    @property
    def target_id(self) -> str:
        """Chrome's id of this page."""
        return self._tab.target_id

    def evaluate(self, expression: str, *, timeout: float | timedelta | None = None) -> Any:
        """Return the value of a JavaScript expression in the page. Errors as of `cdpbridge.Tab.evaluate`."""
        return self._run(self._tab.evaluate(expression, timeout=timeout))

    @overload
    def send(self, command: Command[T], /, *, timeout: float | timedelta | None = None) -> T: ...

    @overload
    def send(
        self,
        command: str,
        params: dict[str, Any] | None = None,
        /,
        *,
        timeout: float | timedelta | None = None,
    ) -> dict[str, Any]: ...

    def send(
        self,
        command: Command[T] | str,
        params: dict[str, Any] | None = None,
        /,
        *,
        timeout: float | timedelta | None = None,
    ) -> Any:
        """Send a CDP command to the page and return its result. Errors as of `cdpbridge.cdp.CDPSession.send`."""
        session = self._tab.session
        if isinstance(command, str):
            return self._run(session.send(command, params, timeout=timeout))
        return self._run(session.send(command, timeout=timeout))

    def title(self) -> str:
        """Return the document's title."""
        return self._run(self._tab.title())

    def current_url(self) -> str:
        """Return the address the page is at now."""
        return self._run(self._tab.current_url())

    def content(self) -> str:
        """Return the document as HTML, with its doctype."""
        return self._run(self._tab.content())

    def screenshot(
        self,
        path: Path | str | None = None,
        *,
        format: ImageFormat | None = None,  # noqa: A002  # the name in CDP
        quality: int | None = None,
        full_page: bool = False,
    ) -> bytes:
        """Take a screenshot; return its bytes. Arguments as of `cdpbridge.Tab.screenshot`."""
        return self._run(self._tab.screenshot(path, format=format, quality=quality, full_page=full_page))

    def pdf(
        self, path: Path | str | None = None, *, landscape: bool = False, print_background: bool = True
    ) -> bytes:
        """Print the page to PDF; return its bytes. Arguments as of `cdpbridge.Tab.pdf`."""
        return self._run(self._tab.pdf(path, landscape=landscape, print_background=print_background))

    def cookies(self) -> list[Network.Cookie]:
        """Return the cookies that a request to the page's own address would send."""
        return self._run(self._tab.cookies())

    def expect_download(self, *, timeout: float | timedelta = DOWNLOAD_TIMEOUT) -> DownloadWaiter:
        """Wait for a download that the block starts: `with tab.expect_download() as waiter`; see `cdpbridge.Tab.expect_download`."""
        return DownloadWaiter(self._tab.expect_download(timeout=timeout), self._run)

    def expect_downloads(
        self, count: int, *, timeout: float | timedelta = DOWNLOAD_TIMEOUT
    ) -> DownloadWaiter:
        """Wait for several downloads that the block starts; `waiter.downloads` has them."""
        return DownloadWaiter(self._tab.expect_downloads(count, timeout=timeout), self._run)

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
        """Call `handler` on an event of the page, in another thread; call the returned function to stop that.

        Events and errors as of `cdpbridge.Tab.on`. The handler may call this API.
        """
        kinds: dict[str, Callable[[Any, Runner], Any]] = {
            "dialog": Dialog,
            "download": Download,
            "popup": Tab,
            "response": Response,
        }
        kind = kinds.get(name)
        return self._on(
            name, handler, (lambda event: event) if kind is None else (lambda event: kind(event, self._run))
        )

    def set_input_files(
        self, selector: str, files: Path | str | Sequence[Path | str], *, max_bytes: int = UPLOAD_BYTES
    ) -> None:
        """Give files of this machine to a file input of the page. Errors as of `cdpbridge.Tab.set_input_files`."""
        self._run(self._tab.set_input_files(selector, files, max_bytes=max_bytes))

    def close(self) -> None:
        """Close the page and wait until it is closed. Closing it again does nothing."""
        self._run(self._tab.close())


class DownloadWaiter(AbstractContextManager["DownloadWaiter"]):
    """Waits for a download of the tab. Made by `Tab.expect_download`."""

    def __init__(self, waiter: AsyncDownloadWaiter, run: Runner) -> None:
        self._waiter = waiter
        self._run = run

    def __repr__(self) -> str:
        return repr(self._waiter)

    @property
    def download(self) -> Download:
        """The download that has begun, once the block is left.

        Raises:
            RuntimeError: The block is not left yet, or it failed.
        """
        return Download(self._waiter.download, self._run)

    @property
    def downloads(self) -> list[Download]:
        """The downloads that have begun, in their order, once the block is left. Errors as of `download`."""
        return [Download(each, self._run) for each in self._waiter.downloads]

    def __enter__(self) -> Self:
        self._run(self._waiter.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._waiter.__aexit__(kind, error, trace))


class Download:
    """A file that the browser has downloaded or is downloading."""

    def __init__(self, download: AsyncDownload, run: Runner) -> None:
        self._download = download
        self._run = run

    def __repr__(self) -> str:
        return repr(self._download)

    @property
    def url(self) -> str:
        """Where it comes from."""
        return self._download.url

    @property
    def suggested_filename(self) -> str:
        """The name that the server or the page gave it; not checked, see `save`."""
        return self._download.suggested_filename

    def save(self, folder: Path | str = ".", *, timeout: float | timedelta | None = None) -> Path:
        """Bring it into `folder` under its own name, made harmless. Errors as of the asynchronous `save`."""
        return self._run(self._download.save(folder, timeout=timeout))

    def save_as(self, path: Path | str, *, timeout: float | timedelta | None = None) -> Path:
        """Bring it to `path`, whole or not at all. Errors as of `save`."""
        return self._run(self._download.save_as(path, timeout=timeout))

    def read(self, *, timeout: float | timedelta | None = None) -> bytes:
        """Return its content. Errors as of `save`."""
        return self._run(self._download.read(timeout=timeout))
