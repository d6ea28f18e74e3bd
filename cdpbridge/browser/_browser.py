"""`Browser`: the handle of a rented browser, from its connection to its confirmed stop."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from cdpbridge._concurrency import to_the_end, unhindered
from cdpbridge.api import AsyncClient, BrowserSession
from cdpbridge.billing import Receipt
from cdpbridge.cdp import Connection
from cdpbridge.errors import BrowserExpired, CDPError, CommandError, StopFailed
from cdpbridge.rental._rental import Rental
from cdpbridge.rental._shutdown import guard
from cdpbridge.rental._stop import stop_failed

from ._events import Events
from ._renewal import Renew, Renewal, close_connection
from ._tab import Tab

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession

__all__ = ["Browser", "Options"]

logger = logging.getLogger("cdpbridge")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """How a `Browser` behaves, besides what is rented."""

    expiring_before: timedelta
    renew: Renew
    reap: bool


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

    def __init__(self, rental: Rental, options: Options, *, holder: asyncio.Task[Any] | None) -> None:
        self.receipt: Receipt | None = None
        self.holder = holder
        self._rentals = [rental]  # the last one is used, those before are stopped or just being stopped
        self._options = options
        self._connection: Connection | None = None
        self._stopping: asyncio.Task[Receipt] | None = None
        self._renewal = Renewal(self, options.renew)
        self._renewing: asyncio.Task[None] | None = None
        self._warning: asyncio.TimerHandle | None = None
        self._events = Events(self)
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
        return self._events.on(name, handler, self._connection)

    # --- the beginning, and the next one --------------------------------------------------------------------------

    async def connect(self) -> None:
        """Connect to it, as soon as it can be reached. `open_browser` has done so.

        Raises:
            ConnectFailed: Not within the order's `connect_timeout`.
            BrowserStopped, BrowserExpired: It ended before.
        """
        self._connection = await self._rental.connect()
        self._watch()

    def continue_with(self, rental: Rental, connection: Connection) -> None:
        """Go on with the next rental, as the renewal says."""
        self._rentals.append(rental)
        self._connection = connection
        self._events.move_to(connection)
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
        self._events.emit("expiring", self._rental.deadline.remaining(time.monotonic()))
        if self._options.renew:
            self._renewing = asyncio.get_running_loop().create_task(self._renewal.run())

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
        if self._renewal.between and self._renewing is not None:
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
            StopFailed: The server did not confirm within `stop_timeout`. Nothing else that fails keeps it from being asked.
        """
        if self._stopping is None or _failed(self._stopping):
            renewing = None if self._renewing is asyncio.current_task() else self._renewing
            self._stopping = asyncio.get_running_loop().create_task(self._stop(renewing))
        return await to_the_end(self._stopping)

    async def _stop(self, renewing: asyncio.Task[None] | None) -> Receipt:
        with unhindered(f"ending the renewal of {self!r}"):
            if self._warning is not None:
                self._warning.cancel()
            if renewing is not None and not renewing.done():
                renewing.cancel()
                await asyncio.wait({renewing}, timeout=self._rental.order.stop_timeout.total_seconds())
        with unhindered("closing the connection of a browser"):
            await close_connection(self._connection, self._rental)
        unstopped: list[StopFailed] = []
        uncounted: list[BaseException] = []
        for rental in self._rentals:
            failure = await _end(rental)
            if isinstance(failure, StopFailed):
                unstopped.append(failure)
            elif failure is not None:
                uncounted.append(failure)
        for failed in unstopped[:-1]:
            logger.error("%s", failed)
        if unstopped:
            raise unstopped[-1]
        with unhindered(f"forgetting {self!r}, which is stopped"):
            self._unguard()
        if not uncounted:
            self.receipt = Receipt.total(self.receipts)
        with unhindered(f"telling that {self!r} is stopped"):
            self._events.emit("stopped")
        if self.receipt is None:
            raise uncounted[0]
        return self.receipt

    @property
    def over(self) -> bool:
        """Whether nothing is left to stop: each rental was stopped, or has ended with its server."""
        return self._client.server_ended or all(rental.ended for rental in self._rentals)

    def stop_blocking(self) -> None:
        """Stop it without an event loop, at the end of the interpreter.

        Raises:
            StopFailed: The server did not confirm.
        """
        failed: StopFailed | None = None
        for rental in self._rentals:
            try:
                rental.stop_blocking()
            except StopFailed as error:
                if failed is not None:
                    logger.error("%s", failed)  # noqa: TRY400  # the later one is raised
                failed = error
        if failed is not None:
            raise failed

    async def __aenter__(self) -> Self:
        self.holder = asyncio.current_task()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lost = False
        with unhindered(f"looking why the block of {self!r} failed"):
            lost = isinstance(error, CDPError) and not isinstance(error, BrowserExpired) and self._lost
        await self.leave(error)
        await guard.ended()
        if lost and self.receipt is not None and isinstance(why := self._rental.end_error(), BrowserExpired):
            raise why from error

    async def leave(self, error: BaseException | None) -> None:
        """Stop it on the way out of a block; a stop that fails never hides the block's own `error`."""
        try:
            await self.stop()
        except Exception as failed:
            if error is None:
                raise
            logger.error("%s", failed)  # noqa: TRY400  # the block's own error is on its way
            error.add_note(str(failed))


async def _end(rental: Rental) -> BaseException | None:
    """Stop a rental; `StopFailed` if that was not confirmed, another error if it was and only its receipt is missing."""
    for last in (False, True):
        try:
            await rental.stop()
        except StopFailed as error:
            return error
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # the others are stopped all the same
            if rental.ended:
                return error
            if last:
                failed = stop_failed(rental.client, rental.id, error)
                failed.__cause__ = error
                return failed
            logger.warning("the stop of browser %s failed (%r); trying again", rental.id, error)
        else:
            return None
    raise AssertionError("the last try returns")


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


async def _close_quietly(tab: Tab) -> None:
    try:
        await tab.close()
    except CDPError as error:
        logger.debug("a tab that did not load could not be closed: %s", error)


def _attaching(target_id: str) -> Callable[[Connection], Awaitable[CDPSession]]:
    return lambda connection: connection.attach(target_id)
