"""`open_browser`: a rented browser and a CDP connection to it under one block, stopped in every way out."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Generator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from cdpbridge._guard import guard
from cdpbridge._rental import balance, confirmed_stop, create, profile_id
from cdpbridge._shield import to_the_end
from cdpbridge.api import (
    AsyncClient,
    BrowserSession,
    BrowserSessionStatus,
    Profile,
    ServerChoice,
    server_default,
)
from cdpbridge.billing import Receipt, Tariff
from cdpbridge.cdp import Connection, connect
from cdpbridge.errors import (
    APIError,
    BrowserExpired,
    BrowserStopped,
    CDPError,
    CommandError,
    ConfigurationError,
    ConnectFailed,
    NotFoundError,
    StopFailed,
)
from cdpbridge.providers import provider
from cdpbridge.tab import Tab

if TYPE_CHECKING:
    from pyee.asyncio import AsyncIOEventEmitter

__all__ = ["Browser", "Opening", "open_browser"]

logger = logging.getLogger("cdpbridge")

T = TypeVar("T")

_CONNECT_TIMEOUT: Final = timedelta(seconds=30)
_STOP_TIMEOUT: Final = timedelta(seconds=30)
_POLL_SECONDS: Final = 0.25  # a hosted browser needs some seconds until it can be reached
_EVENTS: Final = ("disconnected", "reconnected", "stopped")


@dataclass(frozen=True, slots=True)
class _Order:
    client: AsyncClient
    profile: str | uuid.UUID | Profile | None
    proxy_country: str | ServerChoice | None
    timeout: timedelta | None
    tariff: Tariff
    connect_timeout: timedelta
    stop_timeout: timedelta
    on_progress: Callable[[str], object]


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

    Raises:
        ConfigurationError: An argument, or the environment, does not say where or what to rent.
        APIStatusError: The server refused, one class per status; nothing is rented then.
        APIError: No answer, or an unreadable one; a note says whether a browser may be running.
        ConnectFailed: No connection in time; the browser was stopped again.
        StopFailed: At the end, when the stop could not be confirmed and the block itself did not fail.
    """
    if timeout is not None and timeout <= timedelta(0):
        raise ConfigurationError(f"timeout must be at least a minute, not {timeout}")
    order = _Order(
        provider(client),
        profile,
        proxy_country,
        timeout,
        tariff or Tariff(),
        connect_timeout,
        stop_timeout,
        on_progress or (lambda _text: None),
    )
    return Opening(order)


class Opening:
    """What `open_browser` returns: await it for a `Browser`, or enter it as a block that stops the browser."""

    def __init__(self, order: _Order) -> None:
        self._order = order
        self._browser: Browser | None = None

    def __await__(self) -> Generator[Any, None, Browser]:
        return _open(self._order, holder=None).__await__()

    async def __aenter__(self) -> Browser:
        if self._browser is not None:
            raise RuntimeError("this browser was opened already; call open_browser() again for another one")
        self._browser = await _open(self._order, holder=asyncio.current_task())
        return self._browser

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._browser is not None
        await self._browser.__aexit__(kind, error, trace)


class Browser:
    """A rented browser: its record on the server, and a CDP connection to it. Made by `open_browser`.

    Attributes:
        record: What the server last said of it.
        profile_id: Profile it started from, None without one.
        receipt: What it cost; None until it is stopped.
        holder: The task whose block stops it; None when it is stopped by hand.
    """

    def __init__(
        self,
        client: AsyncClient,
        record: BrowserSession,
        *,
        order: _Order,
        uses: AsyncExitStack,
        profile_id: uuid.UUID | None,
        balance: Decimal | None,
        holder: asyncio.Task[Any] | None,
    ) -> None:
        self.record = record
        self.profile_id = profile_id
        self.receipt: Receipt | None = None
        self.holder = holder
        self._client = client
        self._uses = uses
        self._order = order
        self._balance = balance
        self._seen = time.monotonic()
        self._connection: Connection | None = None
        self._stopping: asyncio.Task[Receipt] | None = None
        self._emitter: AsyncIOEventEmitter | None = None
        self._unguard = guard.add(self)

    def __repr__(self) -> str:
        return f"<Browser {self.id} {self.record.status}>"

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

    def on(self, name: str, handler: Callable[..., object]) -> Callable[[], None]:
        """Call `handler` on an event; call the returned function to stop that.

        `"stopped"` comes after our own stop, with the receipt at hand; `"disconnected"` when the connection has ended for good,
        also because the time is over or somebody else stopped the browser. A connection that is lost otherwise is resumed,
        and `"reconnected"` brings a `cdp.Reconnected` that says what was restored.
        """
        if name not in _EVENTS:
            raise ValueError(f"a browser has no event {name!r}; it has {', '.join(map(repr, _EVENTS))}")
        if name != "stopped":
            return self.connection.on(name, handler)
        if self._emitter is None:
            from pyee.asyncio import AsyncIOEventEmitter  # noqa: PLC0415  # most programs need none

            self._emitter = AsyncIOEventEmitter()
            self._emitter.on(
                "error", lambda error: logger.error("a handler of %r failed", self, exc_info=error)
            )
        emitter = self._emitter
        emitter.on(name, handler)
        return lambda: emitter.remove_listener(name, handler)

    # --- the beginning --------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Connect to it, as soon as it can be reached. `open_browser` has done so.

        Raises:
            ConnectFailed: Not within the order's `connect_timeout`.
            BrowserStopped, BrowserExpired: It ended before.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._order.connect_timeout.total_seconds()
        last: ConnectFailed | None = None
        while (left := deadline - loop.time()) > 0:
            if self.record.status == BrowserSessionStatus.STOPPED:
                await self._raise_if_over()
            if self.record.cdp_url is not None:
                try:
                    self._connection = await connect(
                        self.record.cdp_url, timeout=timedelta(seconds=left), reconnect=True
                    )
                except ConnectFailed as error:
                    if not _may_be_early(error):
                        raise
                    last = error
                else:
                    return
            await asyncio.sleep(min(_POLL_SECONDS, max(deadline - loop.time(), 0)))
            self.record = await self._client.browsers.get(self.id)
        waited = f"within {self._order.connect_timeout.total_seconds():g} s"
        if last is not None:
            raise ConnectFailed(
                f"no connection {waited}: {last}", stage=last.stage, status=last.status
            ) from last
        raise ConnectFailed(f"the server gave browser {self.id} no cdpUrl {waited}", stage="address")

    # --- pages ----------------------------------------------------------------------------------------------------

    async def new_tab(self, url: str | None = None) -> Tab:
        """Open a page, and load `url` in it if given.

        Raises:
            NavigationError: It could not be loaded; the page is closed again.
            BrowserStopped, BrowserExpired: The rental is over.
        """
        tab = Tab(await self._while_rented(self.connection.new_tab()))
        if url is not None:
            try:
                await self._while_rented(tab.goto(url))
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
        for target in await self._while_rented(self.connection.targets()):
            if target.type == "page":
                try:
                    found.append(Tab(await self._while_rented(self.connection.attach(target.target_id))))
                except CommandError as error:  # closed meanwhile
                    logger.debug("page %s cannot be attached to: %s", target.target_id, error)
        return found

    async def _while_rented(self, work: Awaitable[T]) -> T:
        """The result of `work`; when the connection is gone because the rental is over, an error that says so."""
        try:
            return await work
        except CDPError:
            if self.connection.closed:
                await self._raise_if_over()
            raise

    async def _raise_if_over(self) -> None:
        if self._stopping is None:
            try:
                self.record = await self._client.browsers.get(self.id)
            except APIError as error:
                logger.debug("browser %s: the server cannot say what became of it: %s", self.id, error)
                return
            if self.record.status != BrowserSessionStatus.STOPPED:
                return
        finished_at = self.record.finished_at
        if finished_at is not None and finished_at >= self.timeout_at:
            raise BrowserExpired(self.id, started_at=self.started_at, timeout_at=self.timeout_at)
        raise BrowserStopped(self.id, finished_at=finished_at)

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
            self._stopping = asyncio.get_running_loop().create_task(self._stop())
        return await to_the_end(self._stopping)

    async def _stop(self) -> Receipt:
        async with self._client.share(), self._uses:
            if self._connection is not None:
                try:
                    await self._connection.close()
                except Exception:
                    logger.exception("the connection of browser %s could not be closed", self.id)
            stopped = await confirmed_stop(self._client, self.id, self._order.stop_timeout)
            self.record = stopped or self.record.model_copy(update={"status": BrowserSessionStatus.STOPPED})
            self._unguard()
            self.receipt = await self._settle()
        if self._emitter is not None:
            self._emitter.emit("stopped")
        return self.receipt

    async def _settle(self) -> Receipt:
        started, finished = self.record.started_at, self.record.finished_at
        used = (
            finished - started if finished is not None else timedelta(seconds=time.monotonic() - self._seen)
        )
        booked = self.record.browser_cost
        change = None
        if booked is None and self._balance is not None:
            now = await balance(self._client)
            change = None if now is None else now - self._balance
        return Receipt.of(self._order.tariff, max(used, timedelta(0)), booked=booked, account_change=change)

    @property
    def over(self) -> bool:
        """Whether it has ended with its server, so that nothing is left to stop."""
        return self._client.server_ended

    def stop_blocking(self) -> None:
        """Stop it without an event loop, at the end of the interpreter.

        Raises:
            StopFailed: The server did not confirm.
        """
        try:
            self._client.browsers.stop_blocking(self.id)
        except NotFoundError:
            return
        except APIError as error:
            raise StopFailed(self.id, error, advice=self._client.stop_advice(self.id)) from error

    async def __aenter__(self) -> Self:
        self.holder = asyncio.current_task()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave(error)
        await guard.ended()

    async def leave(self, error: BaseException | None) -> None:
        """Stop it on the way out of a block; a stop that fails never hides the block's own `error`."""
        try:
            await self.stop()
        except StopFailed as failed:
            if error is None:
                raise
            logger.error("%s", failed)  # noqa: TRY400  # the block's own error is on its way
            error.add_note(str(failed))


async def _open(order: _Order, *, holder: asyncio.Task[Any] | None) -> Browser:
    async with guard.opening():
        async with AsyncExitStack() as uses:
            order.on_progress("reaching the server")
            client = await uses.enter_async_context(order.client.share())
            profile = await profile_id(client, order.profile)
            before = await balance(client)
            order.on_progress("renting a browser")
            record = await create(
                client,
                profile_id=profile,
                proxy_country=order.proxy_country,
                timeout=order.timeout,
                stop_timeout=order.stop_timeout,
            )
            browser = Browser(
                client,
                record,
                order=order,
                uses=uses.pop_all(),
                profile_id=profile,
                balance=before,
                holder=holder,
            )
        try:
            order.on_progress("connecting")
            await browser.connect()
        except BaseException as error:
            await browser.leave(error)
            raise
        return browser


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _may_be_early(error: ConnectFailed) -> bool:
    """Whether a browser that is still starting looks like this."""
    if error.status is not None:
        return error.status == 404 or error.status >= 500
    return error.stage in {"dns", "tcp"}


async def _close_quietly(tab: Tab) -> None:
    try:
        await tab.close()
    except CDPError as error:
        logger.debug("a tab that did not load could not be closed: %s", error)
