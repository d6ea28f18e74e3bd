"""`open_browser`: every way to rent a browser goes through it."""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import Callable, Generator, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from cdpbridge._concurrency import to_the_end
from cdpbridge._durations import paid_minutes, waiting_time
from cdpbridge.api import AsyncClient, Profile, ServerChoice, server_default
from cdpbridge.billing import Tariff
from cdpbridge.errors import APIError
from cdpbridge.providers import provider
from cdpbridge.rental._budget import Budget
from cdpbridge.rental._reap import ReapedHow
from cdpbridge.rental._reap import reap as reap_now
from cdpbridge.rental._rental import Order, Rental, stop_noting
from cdpbridge.rental._shutdown import guard
from cdpbridge.rental.journal import Journal, journal_at

from ._browser import Browser, Options
from ._renewal import Renew

__all__ = ["Opening", "open_browser"]

logger = logging.getLogger("cdpbridge")

_CONNECT_TIMEOUT: Final = timedelta(seconds=30)
_STOP_TIMEOUT: Final = timedelta(seconds=30)
_EXPIRING_BEFORE: Final = timedelta(seconds=60)
_REAP: Final = "CDPBRIDGE_REAP"


def open_browser(
    client: AsyncClient | str | None = None,
    *,
    profile: str | uuid.UUID | Profile | None = None,
    proxy_country: str | ServerChoice | None = server_default,
    timeout: timedelta | None = None,
    tariff: Tariff | None = None,
    connect_timeout: float | timedelta = _CONNECT_TIMEOUT,
    stop_timeout: float | timedelta = _STOP_TIMEOUT,
    on_progress: Callable[[str], object] | None = None,
    recording: bool = False,
    label: str | None = None,
    budget: Budget | Sequence[Budget] = (),
    slot_timeout: float | timedelta = timedelta(0),
    expiring_before: float | timedelta = _EXPIRING_BEFORE,
    renew: Renew = False,
    reap: bool | None = None,
    journal: Journal | Path | str | None = None,
) -> Opening:
    """Rent a browser and connect to it: `async with open_browser() as browser`.

    Leaving the block stops the rental, also by an exception, a cancellation, Ctrl-C or SIGTERM. `await open_browser()` gives
    the `Browser` without a block; then `await browser.stop()` is the caller's.

    Waiting times (`connect_timeout`, `stop_timeout`, `slot_timeout`, `expiring_before`) are seconds or a `timedelta`. Paid time
    (`timeout`) is a `timedelta` only. All are checked at the call.

    Args:
        client: Where: `cloud()`, `local()`, `at(...)`, one of these words, or a base URL, with its key in
            `BROWSER_USE_API_KEY`. Default: `CDPBRIDGE_PROVIDER` or `CDPBRIDGE_BASE_URL`, else the cloud when
            `BROWSER_USE_API_KEY` is set, else this machine. A client that is not open is opened for this rental and closed
            after it.
        profile: State to start from and to save: an id, a `Profile`, or a name, which is made when it does not exist.
        proxy_country: Two letters, e.g. `"de"`; None for no proxy; default: the server's choice.
        timeout: Whole minutes, 1 to 240; the server stops the browser then. Default: the server's (60 minutes).
        tariff: Price rule for the receipt. Default: the REST reference's.
        connect_timeout: From the server's answer to a usable connection.
        stop_timeout: For the confirmed stop at the end, retries included.
        on_progress: Called with a short text as the browser comes up.
        recording: Whether the server makes a video of it. `client.browsers.download_recording(browser.id, path)` brings it
            after the stop, from a `client` that is still open.
        label: Your own word for this rental; `cdpbridge cost` sums by it.
        budget: What may be spent: one `Budget`, or several that all must agree. `CDPBRIDGE_BUDGET_USD`, `_MINUTES` and `_BROWSERS`
            set one for the whole machine.
        slot_timeout: How long to wait, first come, first served, when a budget or the server allows no more browsers at once.
        expiring_before: How long before its timeout `"expiring"` is told; at half of a shorter timeout.
        renew: Rent the next browser when this one expires; the `Browser` goes on with it. A coroutine function is then
            called with the `Browser`, to open its pages again. See `Browser`.
        reap: First stop what killed programs have left on this server. Default: `CDPBRIDGE_REAP`.
        journal: Where rentals are written down. Default: `CDPBRIDGE_JOURNAL`, else a file in the platform's state folder;
            `"off"` keeps none.

    Raises:
        BudgetExceeded: A budget does not allow it; nothing is rented.
        NoFreeSlot: No slot in time; nothing is rented.
        ConfigurationError: An argument, or the environment, does not say where or what to rent.
        APIStatusError: The server refused, one class per status; nothing is rented then.
        APIError: No answer, or an unreadable one; a note says whether a browser may be running.
        ConnectFailed: No connection in time; the browser was stopped again.
        StopFailed: At the end, when the stop could not be confirmed and the block itself did not fail.
    """
    if timeout is not None:
        paid_minutes("timeout", timeout)
    own = [budget] if isinstance(budget, Budget) else list(budget)
    machine = Budget.of_environment(os.environ)
    order = Order(
        client=provider(client),
        profile=profile,
        proxy_country=proxy_country,
        timeout=timeout,
        tariff=tariff or Tariff(),
        connect_timeout=waiting_time("connect_timeout", connect_timeout),
        stop_timeout=waiting_time("stop_timeout", stop_timeout),
        on_progress=on_progress or (lambda _text: None),
        recording=recording,
        label=label,
        journal=journal_at(journal),
        budgets=(*own, *([machine] if machine is not None else [])),
        slot_timeout=waiting_time("slot_timeout", slot_timeout, zero=True),
    )
    if reap is None:
        reap = os.environ.get(_REAP, "").lower() not in {"", "0", "no", "false", "off"}
    warn_before = waiting_time("expiring_before", expiring_before, zero=True)
    return Opening(order, Options(warn_before, renew, reap))


class Opening:
    """What `open_browser` returns: await it for a `Browser`, or enter it as a block that stops the browser."""

    def __init__(self, order: Order, options: Options) -> None:
        self._order = order
        self._options = options
        self._browser: Browser | None = None

    def __await__(self) -> Generator[Any, None, Browser]:
        return _open(self._order, self._options, holder=None).__await__()

    async def __aenter__(self) -> Browser:
        if self._browser is not None:
            raise RuntimeError("this browser was opened already; call open_browser() again for another one")
        self._browser = await _open(self._order, self._options, holder=asyncio.current_task())
        return self._browser

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._browser is not None
        await self._browser.__aexit__(kind, error, trace)


async def _open(order: Order, options: Options, *, holder: asyncio.Task[Any] | None) -> Browser:
    async with guard.opening():
        if options.reap:
            await _reap_first(order)
        rental = await Rental.begin(order)
        try:
            browser = Browser(rental, options, holder=holder)
        except BaseException as error:
            await to_the_end(stop_noting(rental, error))
            raise
        try:
            order.on_progress("connecting")
            await browser.connect()
        except BaseException as error:
            await browser.leave(error)
            raise
        return browser


async def _reap_first(order: Order) -> None:
    """Stop what killed programs have left; what cannot be stopped now is no obstacle."""
    try:
        done = await reap_now(order.client, journal=order.journal, stop_timeout=order.stop_timeout)
    except APIError as error:
        logger.warning("what other programs may have left cannot be looked for: %s", error)
        return
    for each in done:
        if each.how in {ReapedHow.STOPPED, ReapedHow.FAILED}:
            logger.warning("left behind: %s", each)
