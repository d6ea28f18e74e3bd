"""`Browser`: the handle of a rented browser, from its connection to its confirmed stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Self
from uuid import UUID

from cdpbridge._concurrency import to_the_end
from cdpbridge.api import BrowserSession
from cdpbridge.billing import Receipt
from cdpbridge.errors import CDPError, CommandError

from ._tab import Tab

if TYPE_CHECKING:
    from cdpbridge.cdp import CDPSession, Connection

    from ._core import BrowserCore

__all__ = ["Browser"]

logger = logging.getLogger("cdpbridge")


class Browser:
    """A rented browser: its record on the server, and a CDP connection to it. Made by `open_browser`.

    With `renew`, it is one browser after another: shortly before the paid time of one ends, the next is rented, and `id`, `record`,
    `connection` and `cdp_url` are the new one's. Without a profile the two overlap: the new one is connected, `"renewed"` is emitted
    and `renew` is called, and then the old one, whose pages can be used until then, is stopped. With a profile the old one is stopped
    first, as only that saves the profile, and two browsers cannot both write it: `"expiring"` is emitted, its coroutine handlers are
    waited for, the old one is stopped, the new one starts from what it has saved. `new_tab` and `tabs` wait meanwhile.
    """

    def __init__(self, core: BrowserCore) -> None:
        self._core = core

    def __repr__(self) -> str:
        return f"<Browser {self.id} {self.record.status}>"

    @property
    def record(self) -> BrowserSession:
        """The server's last record of it."""
        return self._core.rental.record

    @property
    def profile_id(self) -> UUID | None:
        """Profile it started from, None without one."""
        return self._core.rental.profile_id

    @property
    def connection(self) -> Connection:
        """The CDP connection to it."""
        return self._core.connection

    @property
    def id(self) -> UUID:
        """Id of the rental."""
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
        """USD that a stop now would cost, by the written rule; after the stop, what it cost. All renewals included."""
        return sum((rental.cost_now for rental in self._core.rentals), Decimal(0))

    @property
    def refund_now(self) -> Decimal:
        """USD that a stop now would refund: what was charged upfront, less `cost_now`. Zero once it is stopped."""
        rental = self._core.rental
        return Decimal(0) if rental.receipt is not None else rental.refund_now

    @property
    def receipt(self) -> Receipt | None:
        """What it cost, all renewals included; None until it is stopped."""
        return self._core.receipt

    @property
    def receipts(self) -> list[Receipt]:
        """The receipts of all rentals that have been stopped, the oldest first: more than one with `renew`."""
        return [rental.receipt for rental in self._core.rentals if rental.receipt is not None]

    # --- events ---------------------------------------------------------------------------------------------------

    def on(self, name: str, handler: Callable[..., object]) -> Callable[[], None]:
        """Call `handler`, a plain or coroutine function, on an event; call the returned function to stop that.

        `"expiring"` comes `expiring_before` its timeout, with the time that is left as a `timedelta`; `"renewed"` when the next
        browser is in use. `"stopped"` comes after our own stop, with the receipt at hand; `"disconnected"` when the connection
        has ended for good, also because the paid time is over or another client stopped the browser. A connection that is
        lost otherwise is resumed, and `"reconnected"` brings a `cdp.Reconnected` that says what was restored.

        Raises:
            ValueError: There is no such event.
        """
        return self._core.on(name, handler)

    # --- pages ----------------------------------------------------------------------------------------------------

    async def new_tab(self, url: str | None = None) -> Tab:
        """Open a page, and load `url` in it if given.

        Raises:
            NavigationError: It could not be loaded; the page is closed again.
            BrowserStopped, BrowserExpired: The rental is over.
        """
        tab = Tab(await self._core.while_rented(lambda connection: connection.new_tab()))
        if url is not None:
            try:
                await self._core.while_rented(lambda _connection: tab.goto(url))
            except BaseException:
                await to_the_end(_close_quietly(tab))
                raise
        return tab

    async def tabs(self) -> list[Tab]:
        """List the pages there are, each with a new attachment. A fresh browser has one blank page.

        Raises:
            BrowserStopped, BrowserExpired: The rental is over.
        """
        found = []
        for target in await self._core.while_rented(lambda connection: connection.targets()):
            if target.type == "page":
                try:
                    found.append(Tab(await self._core.while_rented(_attaching(target.target_id))))
                except CommandError as error:  # closed meanwhile
                    logger.debug("page %s cannot be attached to: %s", target.target_id, error)
        return found

    # --- the end --------------------------------------------------------------------------------------------------

    async def stop(self) -> Receipt:
        """End the rental and get the unused minutes back.

        May be called again: also while it is being stopped, or to repeat a stop that failed.

        Returns:
            What it cost.

        Raises:
            StopFailed: The server did not confirm within `stop_timeout`. No other failure keeps the stop from being requested.
        """
        return await self._core.stop()

    async def __aenter__(self) -> Self:
        self._core.holder = asyncio.current_task()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._core.exit(error)


async def _close_quietly(tab: Tab) -> None:
    try:
        await tab.close()
    except CDPError as error:
        logger.debug("a tab that did not load could not be closed: %s", error)


def _attaching(target_id: str) -> Callable[[Connection], Awaitable[CDPSession]]:
    return lambda connection: connection.attach(target_id)
