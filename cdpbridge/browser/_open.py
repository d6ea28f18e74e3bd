"""`open_browser`: every way to rent a browser goes through it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from cdpbridge._concurrency import in_thread, to_the_end
from cdpbridge._embedded._hello import ORDER_FOLLOWS
from cdpbridge.errors import APIError
from cdpbridge.rental._options import CheckedOptions, RentalOptions, check, tell_where
from cdpbridge.rental._shutdown import guard

if TYPE_CHECKING:
    from cdpbridge.api import AsyncClient

    from ._browser import Browser
    from ._core import BrowserCore

__all__ = ["Opening", "open_browser", "open_checked"]

logger = logging.getLogger("cdpbridge")


def open_browser(
    provider: AsyncClient | str | None = None,
    **options: Unpack[RentalOptions],
) -> Opening:
    """Rent a browser and connect to it.

    Use it as a block: `async with open_browser() as browser`. Leaving the block stops the rental, also by an exception, a
    cancellation, Ctrl-C or SIGTERM. `await open_browser()` returns the `Browser` without a block; then the caller must
    `await browser.stop()`.

    Waiting times (`connect_timeout`, `stop_timeout`, `slot_timeout`, `expiring_before`) are seconds or a `timedelta`. Paid time
    (`timeout`) is a `timedelta` only. All are checked at the call, before any request.

    Args:
        provider: Where: `cloud()`, `local()`, `at(...)`, one of these words, or a base URL, with its key in
            `BROWSER_USE_API_KEY`. Default: `CDPBRIDGE_PROVIDER` or `CDPBRIDGE_BASE_URL`, else the cloud when
            `BROWSER_USE_API_KEY` is set, else this machine. A client that is not open is opened for this rental and closed
            after it.
        profile: State to start from and to save: an id, a `Profile`, or a name; a profile of that name is created when there
            is none. Default: no profile.
        proxy_country: Two letters, e.g. `"de"`; None for no proxy. Default: the server's choice.
        timeout: Whole minutes, 1 to 240; the server stops the browser then. Default: the server's (60 minutes).
        tariff: Price rule for budgets and the receipt. Default: the server's own where it says so, else the REST reference's.
        connect_timeout: From the server's answer to a usable connection. Default: 30 s.
        stop_timeout: For the confirmed stop at the end, retries included. Default: 30 s.
        on_progress: Called with a short text as the browser comes up.
        on_handler_error: Called with `(error, session, method)` when a handler of CDP events fails, also after a renewal; see
            `cdp.connect`. Default: logged.
        recording: True for a video, made by the server. `client.browsers.download_recording(browser.id, path)` brings it
            after the stop, from a `client` that is still open.
        allowed_hosts: The only hosts that the browser may reach, whatever its pages, scripts or clients do: `example.com`,
            `*.example.com` for it and every name below, an address, a network such as `192.0.2.0/24`, perhaps with `:port`. A page
            elsewhere raises `NavigationError`. A cdpbridge server keeps to it; with another one the browser is stopped again.
        denied_hosts: Hosts that it may not reach, even so.
        label: Your own word for this rental; `cdpbridge cost` sums by it.
        budget: What may be spent: one `Budget`, or several that all must agree. `CDPBRIDGE_BUDGET_USD`, `_MINUTES` and `_BROWSERS`
            set one for the whole machine.
        slot_timeout: How long to wait, first come, first served, when a budget or the server allows no more browsers at
            once. Default: no wait.
        expiring_before: How long before its timeout `"expiring"` is emitted; at half of a shorter timeout. Default: 60 s.
        renew: Rent the next browser when this one expires; the `Browser` goes on with it. A coroutine function is then
            called with the `Browser`, to open its pages again. See `Browser`.
        reap: First stop what killed programs have left on this server. Default: `CDPBRIDGE_REAP`.
        journal: Where rentals are written down. Default: `CDPBRIDGE_JOURNAL`, else a file in the platform's state folder;
            `"off"` keeps none.
        http_credentials: User name and password for the servers of one origin, or several of these for one origin each: every page,
            popup, frame and worker of the browser has them, and no other server gets them. See `HttpCredentials`; dicts with its
            names will do.

    Raises:
        BudgetExceeded: A budget does not allow it; nothing is rented.
        NoFreeSlot: No slot in time; nothing is rented.
        ConfigurationError: An argument, or the environment, does not say where or what to rent, or the server does not keep
            browsers to `allowed_hosts` or `denied_hosts`.
        TypeError: There is no such argument.
        APIStatusError: The server refused, one class per status; nothing is rented then.
        APIError: No answer, or an unreadable one; a note says whether a browser may be running.
        ConnectFailed: No connection in time; the browser was stopped again.
        StopFailed: At the end, when the stop could not be confirmed and the block itself did not fail.
    """
    return Opening(check(provider, options))


class Opening:
    """What `open_browser` returns: await it for a `Browser`, or enter it as a block that stops the browser. Only once."""

    def __init__(self, options: CheckedOptions) -> None:
        self._options = options
        self._used = False
        self._core: BrowserCore | None = None

    def __repr__(self) -> str:
        return f"<Opening {'used' if self._used else 'not used yet'}>"

    def __await__(self) -> Generator[Any, None, Browser]:
        return self._awaited().__await__()

    async def _awaited(self) -> Browser:
        self._use()
        return await open_checked(self._options, holder=None)

    def _use(self) -> None:
        """Mark it as used: a second browser would cost money that its caller did not mean to spend."""
        if self._used:
            raise RuntimeError("this browser was opened already; call open_browser() again for another one")
        self._used = True

    async def __aenter__(self) -> Browser:
        self._use()
        self._core = await _open(self._options, holder=asyncio.current_task())
        return self._core.browser

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._core is not None  # the block was entered
        await self._core.exit(error)


async def open_checked(options: CheckedOptions, *, holder: asyncio.Task[Any] | None) -> Browser:
    """Rent a browser and connect to it, as `open_browser` does.

    Args:
        options: What to rent.
        holder: The task whose block stops it; a signal that ends the program cancels that task.
    """
    return (await _open(options, holder=holder)).browser


async def _open(options: CheckedOptions, *, holder: asyncio.Task[Any] | None) -> BrowserCore:
    core: BrowserCore | None = None
    async with guard.opening(holder):
        if options.reap:
            await _reap_first(options)
        tell_where(options)
        try:
            async with _importing("cdpbridge.rental._rental") as renting, _shared(options):
                # Not before: the first request needs the processor.
                async with _importing("cdpbridge.browser._core") as driving:
                    rentals = await renting
                    rental = await rentals.Rental.begin(options)
                    try:
                        core = (await driving).BrowserCore(rental, options, holder=holder)
                    except BaseException as error:
                        await to_the_end(rentals.stop_noting(rental, error))
                        raise
                options.on_progress("connecting")
                await core.connect()
        except BaseException as error:
            if core is not None:
                await core.leave(error)
            raise
        return core


@asynccontextmanager
async def _shared(options: CheckedOptions) -> AsyncIterator[None]:
    """Open the client. An embedded server learns with it whether it can start the browser now."""
    async with AsyncExitStack() as sharing:
        token = ORDER_FOLLOWS.set(options.profile is None)
        try:
            await sharing.enter_async_context(options.client.share())
        finally:
            ORDER_FOLLOWS.reset(token)
        yield


@asynccontextmanager
async def _importing(name: str) -> AsyncIterator[Awaitable[Any]]:
    """Import a module in a thread while a server starts or answers; the block ends after it."""
    module = asyncio.ensure_future(in_thread(import_module, name))
    try:
        yield module
    finally:
        await to_the_end(asyncio.wait({module}))


async def _reap_first(options: CheckedOptions) -> None:
    """Stop what killed programs have left; a failure does not keep this browser from being rented."""
    from cdpbridge.rental._reap import ReapOutcome, reap  # noqa: PLC0415  # seldom asked for

    try:
        done = await reap(options.client, journal=options.journal, stop_timeout=options.stop_timeout)
    except APIError as error:
        logger.warning("browsers that other programs may have left cannot be listed: %s", error)
        return
    for each in done:
        if each.outcome in {ReapOutcome.STOPPED, ReapOutcome.FAILED}:
            logger.warning("left behind: %s", each)
