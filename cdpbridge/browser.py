"""`open_browser`: a rented browser and a CDP connection to it under one block, stopped in every way out."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from cdpbridge._guard import guard
from cdpbridge._reap import ReapedHow
from cdpbridge._reap import reap as reap_now
from cdpbridge._rental import Order, Rental
from cdpbridge._shield import to_the_end
from cdpbridge.api import AsyncClient, BrowserSession, Profile, ServerChoice, server_default
from cdpbridge.billing import Receipt, Tariff
from cdpbridge.budget import Budget
from cdpbridge.cdp import Connection
from cdpbridge.errors import (
    APIError,
    BrowserExpired,
    CDPBridgeError,
    CDPError,
    CommandError,
    ConfigurationError,
    NoFreeSlot,
    RateLimitError,
    StopFailed,
)
from cdpbridge.journal import Journal, journal_at
from cdpbridge.providers import provider
from cdpbridge.tab import Tab

if TYPE_CHECKING:
    from pyee.asyncio import AsyncIOEventEmitter

    from cdpbridge.cdp import CDPSession

__all__ = ["Browser", "Opening", "open_browser"]

logger = logging.getLogger("cdpbridge")

T = TypeVar("T")

_CONNECT_TIMEOUT: Final = timedelta(seconds=30)
_STOP_TIMEOUT: Final = timedelta(seconds=30)
_EXPIRING_BEFORE: Final = timedelta(seconds=60)
_WIRE_EVENTS: Final = ("disconnected", "reconnected")
_OWN_EVENTS: Final = ("expiring", "renewed", "stopped")
_REAP: Final = "CDPBRIDGE_REAP"

Renew = bool | Callable[["Browser"], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class _Options:
    """How a `Browser` behaves, besides what is rented."""

    expiring_before: timedelta
    renew: Renew
    reap: bool


def open_browser(
    client: AsyncClient | str | None = None,
    *,
    profile: str | uuid.UUID | Profile | None = None,
    proxy_country: str | ServerChoice | None = server_default,
    timeout: timedelta | None = None,
    tariff: Tariff | None = None,
    connect_timeout: timedelta = _CONNECT_TIMEOUT,
    stop_timeout: timedelta = _STOP_TIMEOUT,
    on_progress: Callable[[str], object] | None = None,
    recording: bool = False,
    label: str | None = None,
    budget: Budget | Sequence[Budget] = (),
    slot_timeout: timedelta = timedelta(0),
    expiring_before: timedelta = _EXPIRING_BEFORE,
    renew: Renew = False,
    reap: bool | None = None,
    journal: Journal | Path | str | None = None,
) -> Opening:
    """Rent a browser and connect to it: `async with open_browser() as browser`.

    Leaving the block stops the rental, also by an exception, a cancellation, Ctrl-C or SIGTERM. `await open_browser()` gives
    the `Browser` without a block; then `await browser.stop()` is the caller's.

    Args:
        client: Where: `cloud()`, `local()`, `at(...)`, one of these words, or a base URL. Default: `CDPBRIDGE_PROVIDER`, else the
            cloud when `BROWSER_USE_API_KEY` is set, else this machine. A client that is not open is opened for this rental
            and closed after it.
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
    if timeout is not None and timeout <= timedelta(0):
        raise ConfigurationError(f"timeout must be at least a minute, not {timeout}")
    if expiring_before < timedelta(0):
        raise ConfigurationError(f"expiring_before must not be negative, not {expiring_before}")
    own = [budget] if isinstance(budget, Budget) else list(budget)
    machine = Budget.of_environment(os.environ)
    order = Order(
        client=provider(client),
        profile=profile,
        proxy_country=proxy_country,
        timeout=timeout,
        tariff=tariff or Tariff(),
        connect_timeout=connect_timeout,
        stop_timeout=stop_timeout,
        on_progress=on_progress or (lambda _text: None),
        recording=recording,
        label=label,
        journal=journal_at(journal),
        budgets=(*own, *([machine] if machine is not None else [])),
        slot_timeout=slot_timeout,
    )
    if reap is None:
        reap = os.environ.get(_REAP, "").lower() not in {"", "0", "no", "false", "off"}
    return Opening(order, _Options(expiring_before, renew, reap))


class Opening:
    """What `open_browser` returns: await it for a `Browser`, or enter it as a block that stops the browser."""

    def __init__(self, order: Order, options: _Options) -> None:
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


class Browser:
    """A rented browser: its record on the server, and a CDP connection to it. Made by `open_browser`.

    With `renew`, it is one browser after another: shortly before the time of one is over, the next is rented, and `id`, `record`,
    `connection` and `cdp_url` are the new one's. Without a profile the two overlap: the new one is there, `renew` is called and
    `"renewed"` told, and then the old one, whose pages can be used until then, is stopped. With a profile the old one is stopped
    first, as only that saves the profile, and two browsers cannot both write it: `"expiring"` is told, its coroutine handlers are
    waited for, the old one is stopped, the new one starts from what it has saved. `new_tab` and `tabs` wait meanwhile.

    Attributes:
        receipt: What it cost, all renewals included; None until it is stopped.
        holder: The task whose block stops it; None when it is stopped by hand.
    """

    def __init__(self, rental: Rental, options: _Options, *, holder: asyncio.Task[Any] | None) -> None:
        self.receipt: Receipt | None = None
        self.holder = holder
        self._rentals = [rental]  # the last one is used, those before are stopped or just being stopped
        self._options = options
        self._connection: Connection | None = None
        self._stopping: asyncio.Task[Receipt] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._between = False  # the old one is stopped, the new one not yet there
        self._warning: asyncio.TimerHandle | None = None
        self._emitter: AsyncIOEventEmitter | None = None
        self._wire_handlers: list[_WireHandler] = []
        self._unguard = guard.add(self)

    def __repr__(self) -> str:
        return f"<Browser {self.id} {self.record.status}>"

    @property
    def _rental(self) -> Rental:
        return self._rentals[-1]

    @property
    def _client(self) -> AsyncClient:
        return self._rental.client

    @property
    def record(self) -> BrowserSession:
        """What the server last said of it."""
        return self._rental.record

    @property
    def profile_id(self) -> uuid.UUID | None:
        """Profile it started from, None without one."""
        return self._rental.profile_id

    @property
    def connection(self) -> Connection:
        """The CDP connection to it."""
        assert self._connection is not None  # `open_browser` returns no other
        return self._connection

    @property
    def id(self) -> uuid.UUID:
        """Of the rental."""
        return self.record.id

    @property
    def cdp_url(self) -> str:
        """Address for other CDP clients; it gives full control of the browser, so treat it as a password."""
        return self.record.cdp_url or ""

    @property
    def live_url(self) -> str | None:
        """Page to watch it; a password too. None where the server has none."""
        return self.record.live_url

    @property
    def started_at(self) -> datetime:
        """Start of the paid time, by the server's clock."""
        return self.record.started_at

    @property
    def timeout_at(self) -> datetime:
        """The server stops it then."""
        return self.record.timeout_at

    @property
    def profile_writable(self) -> bool | None:
        """False when another browser holds the profile, so that this one is not saved; None if the server does not say."""
        return self.record.profile_writable

    # --- money ----------------------------------------------------------------------------------------------------

    @property
    def cost_now(self) -> Decimal:
        """USD it costs if it is stopped now, by the written rule; what it cost once it is stopped. All renewals included."""
        return sum((rental.cost_now for rental in self._rentals), Decimal(0))

    @property
    def refund_if_stopped_now(self) -> Decimal:
        """USD that a stop gives back now: what was charged upfront, less `cost_now`; zero once it is stopped."""
        return Decimal(0) if self._rental.receipt is not None else self._rental.refund_now

    @property
    def receipts(self) -> list[Receipt]:
        """Of each rental that has been stopped, the oldest first: more than one with `renew`."""
        return [rental.receipt for rental in self._rentals if rental.receipt is not None]

    # --- events ---------------------------------------------------------------------------------------------------

    def on(self, name: str, handler: Callable[..., object]) -> Callable[[], None]:
        """Call `handler`, a plain or coroutine function, on an event; call the returned function to stop that.

        `"expiring"` comes `expiring_before` its timeout, with the time that is left as a `timedelta`; `"renewed"` when the next
        browser has taken over. `"stopped"` comes after our own stop, with the receipt at hand; `"disconnected"` when the
        connection has ended for good, also because the time is over or somebody else stopped the browser. A connection that is
        lost otherwise is resumed, and `"reconnected"` brings a `cdp.Reconnected` that says what was restored.
        """
        if name in _WIRE_EVENTS:
            listener = _WireHandler(name, handler)
            listener.move_to(self.connection)
            self._wire_handlers.append(listener)
            return lambda: self._remove(listener)
        if name not in _OWN_EVENTS:
            names = ", ".join(map(repr, sorted((*_WIRE_EVENTS, *_OWN_EVENTS))))
            raise ValueError(f"a browser has no event {name!r}; it has {names}")
        if self._emitter is None:
            from pyee.asyncio import AsyncIOEventEmitter  # noqa: PLC0415  # most programs need none

            self._emitter = AsyncIOEventEmitter()
            self._emitter.on(
                "error", lambda error: logger.error("a handler of %r failed", self, exc_info=error)
            )
        emitter = self._emitter
        emitter.on(name, handler)
        return lambda: emitter.remove_listener(name, handler)

    def _remove(self, listener: _WireHandler) -> None:
        listener.remove()
        if listener in self._wire_handlers:
            self._wire_handlers.remove(listener)

    def _emit(self, name: str, *arguments: object) -> None:
        if self._emitter is not None:
            self._emitter.emit(name, *arguments)

    # --- the beginning, and the next one --------------------------------------------------------------------------

    async def connect(self) -> None:
        """Connect to it, as soon as it can be reached. `open_browser` has done so.

        Raises:
            ConnectFailed: Not within the order's `connect_timeout`.
            BrowserStopped, BrowserExpired: It ended before.
        """
        self._connection = await self._rental.connect()
        self._watch()

    def _watch(self) -> None:
        """Be warned of the end."""
        deadline = self._rental.deadline
        before = min(self._options.expiring_before, deadline.timeout / 2)
        delay = deadline.warn_at(before) - time.monotonic()
        self._warning = asyncio.get_running_loop().call_later(max(delay, 0), self._expiring)

    def _expiring(self) -> None:
        self._warning = None
        if self._stopping is not None:
            return
        self._emit("expiring", self._rental.deadline.remaining(time.monotonic()))
        if self._options.renew:
            self._renewing = asyncio.get_running_loop().create_task(self._renew())

    async def _renew(self) -> None:
        old = self._rental
        try:
            if old.profile_id is None or old.record.profile_writable is False:
                await self._renew_before(old)
            else:
                await self._renew_after(old)
        except (CDPBridgeError, OSError) as error:
            logger.error("%r could not be renewed: %s", self, error)  # noqa: TRY400  # the message is meant for the user
        else:
            logger.debug("browser %s follows %s", self.id, old.id)

    async def _renew_before(self, old: Rental) -> None:
        """Rent the next one, hand over, then stop the old one."""
        left = self._connection
        try:
            new = await Rental.begin(replace(old.order, slot_timeout=timedelta(0)))
        except (NoFreeSlot, RateLimitError) as error:
            logger.info(
                "the next browser cannot be rented beside the old one (%s); the old one is stopped first",
                error,
            )
            await self._renew_after(old)
            return
        try:
            await self._take_over(new)
            await self._told_renewed()
        finally:
            if self._rental is new:
                await to_the_end(self._end_old(old, left))

    async def _renew_after(self, old: Rental) -> None:
        """Stop the old one, which saves its profile, then rent the next one."""
        if self._emitter is not None:
            remaining = old.deadline.remaining(time.monotonic()) / 2
            try:
                async with asyncio.timeout(remaining.total_seconds()):
                    await self._emitter.wait_for_complete()
            except TimeoutError:
                logger.warning("handlers of 'expiring' take too long; %r is renewed without them", self)
        self._between = True
        try:
            left = self._connection
            for listener in self._wire_handlers:
                listener.remove()
            await to_the_end(self._end_old(old, left))
            await self._take_over(await Rental.begin(_same_profile(old)))
        finally:
            self._between = False
        await self._told_renewed()

    async def _take_over(self, new: Rental) -> None:
        try:
            connection = await new.connect()
        except BaseException as error:
            await to_the_end(_stop_noting(new, error))
            raise
        self._rentals.append(new)
        self._connection = connection
        for listener in self._wire_handlers:
            listener.move_to(connection)
        self._watch()

    async def _told_renewed(self) -> None:
        self._emit("renewed")
        if callable(self._options.renew):
            try:
                await self._options.renew(self)
            except Exception:
                logger.exception("the `renew` function of %r failed", self)

    async def _end_old(self, old: Rental, connection: Connection | None) -> None:
        await _close_connection(connection, old)
        try:
            await old.stop()
        except StopFailed as error:
            logger.error("%s", error)  # noqa: TRY400  # says how to stop it by hand

    # --- pages ----------------------------------------------------------------------------------------------------

    async def new_tab(self, url: str | None = None) -> Tab:
        """Open a page, and load `url` in it if given.

        Raises:
            NavigationError: It could not be loaded; the page is closed again.
            BrowserStopped, BrowserExpired: The rental is over.
        """
        tab = Tab(await self._while_rented(lambda connection: connection.new_tab()))
        if url is not None:
            try:
                await self._while_rented(lambda _connection: tab.goto(url))
            except BaseException:
                await to_the_end(_close_quietly(tab))
                raise
        return tab

    async def tabs(self) -> list[Tab]:
        """Every page there is, each with a new attachment. A fresh browser has one blank page.

        Raises:
            BrowserStopped, BrowserExpired: The rental is over.
        """
        found = []
        for target in await self._while_rented(lambda connection: connection.targets()):
            if target.type == "page":
                try:
                    found.append(Tab(await self._while_rented(_attaching(target.target_id))))
                except CommandError as error:  # closed meanwhile
                    logger.debug("page %s cannot be attached to: %s", target.target_id, error)
        return found

    async def _while_rented(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """The result of `work`; when the connection is gone because the rental is over, an error that says so."""
        if self._between and self._renewing is not None:
            await asyncio.wait({self._renewing})
        connection = self.connection
        try:
            return await work(connection)
        except CDPError:
            if connection.closed and (self._stopping is not None or await self._rental.is_over()):
                raise self._rental.end_error() from None
            raise

    @property
    def _lost(self) -> bool:
        return self._connection is not None and self._connection.closed

    # --- the end --------------------------------------------------------------------------------------------------

    async def stop(self) -> Receipt:
        """End the rental and get the unused minutes back. May be called again: also while it is being stopped, or to try
        once more what has failed.

        Returns:
            What it cost.

        Raises:
            StopFailed: The server did not confirm within `stop_timeout`.
        """
        if self._stopping is None or _failed(self._stopping):
            renewing = None if self._renewing is asyncio.current_task() else self._renewing
            self._stopping = asyncio.get_running_loop().create_task(self._stop(renewing))
        return await to_the_end(self._stopping)

    async def _stop(self, renewing: asyncio.Task[None] | None) -> Receipt:
        if self._warning is not None:
            self._warning.cancel()
        if renewing is not None and not renewing.done():
            renewing.cancel()
            await asyncio.wait({renewing}, timeout=self._rental.order.stop_timeout.total_seconds())
        await _close_connection(self._connection, self._rental)
        failed: StopFailed | None = None
        for rental in self._rentals:
            try:
                await rental.stop()
            except StopFailed as error:
                if failed is not None:
                    logger.error("%s", failed)  # noqa: TRY400  # the later one is raised
                failed = error
        if failed is not None:
            raise failed
        self._unguard()
        self.receipt = Receipt.total(self.receipts)
        self._emit("stopped")
        return self.receipt

    @property
    def over(self) -> bool:
        """Whether it has ended with its server, so that nothing is left to stop."""
        return self._client.server_ended

    def stop_blocking(self) -> None:
        """Stop it without an event loop, at the end of the interpreter.

        Raises:
            StopFailed: The server did not confirm.
        """
        for rental in self._rentals:
            rental.stop_blocking()

    async def __aenter__(self) -> Self:
        self.holder = asyncio.current_task()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lost = isinstance(error, CDPError) and not isinstance(error, BrowserExpired) and self._lost
        await self.leave(error)
        await guard.ended()
        if lost and self.receipt is not None and isinstance(why := self._rental.end_error(), BrowserExpired):
            raise why from error

    async def leave(self, error: BaseException | None) -> None:
        """Stop it on the way out of a block; a stop that fails never hides the block's own `error`."""
        try:
            await self.stop()
        except StopFailed as failed:
            if error is None:
                raise
            logger.error("%s", failed)  # noqa: TRY400  # the block's own error is on its way
            error.add_note(str(failed))


async def _open(order: Order, options: _Options, *, holder: asyncio.Task[Any] | None) -> Browser:
    async with guard.opening():
        if options.reap:
            await _reap_first(order)
        browser = Browser(await Rental.begin(order), options, holder=holder)
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


def _same_profile(old: Rental) -> Order:
    return replace(old.order, profile=old.profile_id)


class _WireHandler:
    """A handler of a connection's event, which goes over to the next connection."""

    def __init__(self, name: str, handler: Callable[..., object]) -> None:
        self._name = name
        self._handler = handler
        self._off: Callable[[], None] | None = None

    def move_to(self, connection: Connection) -> None:
        self.remove()
        self._off = connection.on(self._name, self._handler)

    def remove(self) -> None:
        if self._off is not None:
            self._off()
            self._off = None


async def _close_connection(connection: Connection | None, rental: Rental) -> None:
    if connection is not None:
        try:
            await connection.close()
        except Exception:
            logger.exception("the connection of browser %s could not be closed", rental.id)


async def _stop_noting(rental: Rental, error: BaseException) -> None:
    try:
        await rental.stop()
    except StopFailed as failed:
        error.add_note(str(failed))


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


async def _close_quietly(tab: Tab) -> None:
    try:
        await tab.close()
    except CDPError as error:
        logger.debug("a tab that did not load could not be closed: %s", error)


def _attaching(target_id: str) -> Callable[[Connection], Awaitable[CDPSession]]:
    return lambda connection: connection.attach(target_id)
