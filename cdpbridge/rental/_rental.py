"""One rental, as the server and the journal record it: its beginning, its money, its end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, Protocol
from uuid import UUID, uuid4
from weakref import WeakKeyDictionary

from cdpbridge._concurrency import in_thread, to_the_end, unhindered
from cdpbridge._lifecycle import Deadline
from cdpbridge.api import AsyncClient, BrowserSession, BrowserSessionStatus, Profile
from cdpbridge.api._blocking import stop_now
from cdpbridge.billing import Receipt, cost, refund
from cdpbridge.cdp import Connection
from cdpbridge.cdp._connection import prepare_new_tabs
from cdpbridge.cdp._http_auth import log_in
from cdpbridge.errors import (
    APIError,
    BrowserExpired,
    BrowserStopped,
    ConfigurationError,
    ConnectFailed,
    ConnectionClosed,
    ConnectTimeout,
    NotFoundError,
    RateLimitError,
    StopFailed,
)
from cdpbridge.errors._base import seconds_text
from cdpbridge.rental.journal._owner import Owner

from ._create import active_browsers, create, discard
from ._options import CheckedOptions
from ._price import Price, price_of
from ._queue import Queue
from ._reach import Reach
from ._stop import confirmed_stop, receipt_of, server_ended, stop_failed
from .journal import Entry, Outcome

__all__ = ["Rental", "stop_noting"]


class _Stoppable(Protocol):
    def stop(self) -> Awaitable[object]: ...


logger = logging.getLogger("cdpbridge")

_POLL_SECONDS: Final = 0.25  # a hosted browser needs some seconds until it can be reached
_SHORTEST: Final = timedelta(seconds=1)
_CANCELLATIONS: Final = 3
"""Of a stop, until it is left to `reap`: `asyncio.run` cancels each task once at its end, and waits for it."""
_EXPIRED_REASON: Final = "session expired"  # in the close frame of our server
_naming: WeakKeyDictionary[AsyncClient, asyncio.Lock] = WeakKeyDictionary()


class Rental:
    """A rented browser, from the server's answer to the confirmed stop.

    Attributes:
        record: What the server last said of it.
        profile_id: State it started from.
        receipt: What it cost; None until it is stopped.
        ended: True once the server has confirmed the stop.
        options: What was asked for.
        client: The server's.
    """

    def __init__(
        self,
        client: AsyncClient,
        record: BrowserSession,
        options: CheckedOptions,
        *,
        entry: Entry,
        uses: AsyncExitStack,
        profile_id: UUID | None,
        price: Price,
        reach: Reach,
    ) -> None:
        self.record = record
        self.profile_id = profile_id
        self.receipt: Receipt | None = None
        self.ended = False
        self.options = options
        self.client = client
        self._entry = entry
        self._uses = uses
        self._price = price
        self._reach = reach
        # The answer comes when it runs, so its time began just now; the server's clock may be set differently.
        timeout = max(record.timeout_at - record.started_at, _SHORTEST)
        self.deadline = Deadline(time.monotonic(), timeout)

    @classmethod
    async def begin(cls, options: CheckedOptions) -> Rental:
        """Rent a browser.

        Raises:
            BudgetExceeded, NoFreeSlot: Nothing was rented.
            APIError: See `open_browser`.
        """
        async with AsyncExitStack() as uses:
            client = await uses.enter_async_context(options.client.share())
            profile, price, active = await _asked_first(client, options)
            reach = Reach(client, price)
            entry = Entry(
                rental=uuid4(),
                place=client.place,
                account=await in_thread(options.journal.fingerprint, client.address()["api_key"]),
                owner=Owner.this_process(),
                tariff=price.tariff,
                simulated=price.simulated,
                intended_at=datetime.now(UTC),
                timeout=options.timeout,
                profile=_profile_label(options.profile),
                country=options.proxy_country if isinstance(options.proxy_country, str) else None,
                label=options.label,
                scopes=tuple(budget.scope for budget in options.budgets),
                active_before=active,
            )
            try:
                entry, record = await _admitted(client, options, profile, entry, price, reach)
            except BaseException:
                reach.drop()
                raise
            try:
                return cls(
                    client,
                    record,
                    options,
                    entry=entry,
                    uses=uses.pop_all(),
                    profile_id=profile,
                    price=price,
                    reach=reach,
                )
            except BaseException as error:
                reach.drop()
                await to_the_end(discard(client, options, entry, record.id, error))
                raise

    @property
    def id(self) -> UUID:
        """Id of the browser."""
        return self.record.id

    # --- the connection -------------------------------------------------------------------------------------------

    async def connect(self) -> Connection:
        """Connect to the browser as soon as it can be reached.

        Raises:
            ConnectTimeout: Not within `connect_timeout`.
            BrowserStopped, BrowserExpired: The browser ended before.
        """
        loop = asyncio.get_running_loop()
        limit = self.options.connect_timeout.total_seconds()
        deadline = loop.time() + limit
        last: ConnectFailed | None = None
        while (left := deadline - loop.time()) > 0:
            if self.record.status == BrowserSessionStatus.STOPPED:
                raise self.end_error()
            if self.record.cdp_url is not None:
                try:
                    connection = await self._reach.connect(
                        self.record.cdp_url,
                        timeout=left,
                        browser_ended=lambda: server_ended(self.client),
                        explain_end=self._explained,
                        on_handler_error=self.options.on_handler_error,
                    )
                except ConnectFailed as error:
                    if not _may_be_early(error):
                        raise
                    last = error
                else:
                    await self._log_in(connection)
                    prepare_new_tabs(connection)
                    return connection
            await asyncio.sleep(min(_POLL_SECONDS, max(deadline - loop.time(), 0)))
            self.record = await self.client.browsers.get(self.id)
        if last is not None:
            raise ConnectTimeout(
                f"no connection within {seconds_text(limit)}: {last}", stage=last.stage, status=last.status
            ) from last
        raise ConnectTimeout(
            f"the server gave browser {self.id} no cdpUrl within {seconds_text(limit)}", stage="address"
        )

    async def _log_in(self, connection: Connection) -> None:
        """Serve every page of the browser with the credentials of the options. When that fails, close the connection."""
        try:
            await log_in(connection, self.options.http_credentials)
        except BaseException:
            await to_the_end(connection.close())
            raise

    async def is_over(self) -> bool:
        """Ask the server whether the browser was stopped; without an answer, go by the deadline."""
        if self.receipt is None:
            try:
                self.record = await self.client.browsers.get(self.id)
            except APIError as error:
                logger.debug("browser %s: the server cannot say what became of it: %s", self.id, error)
                return self.deadline.expired(time.monotonic())
        return self.record.status == BrowserSessionStatus.STOPPED

    def end_error(self) -> BrowserExpired | BrowserStopped:
        """Return the error to raise when an ended rental is used."""
        finished_at, timeout_at = self.record.finished_at, self.record.timeout_at
        expired = (
            self.deadline.expired(time.monotonic()) if finished_at is None else finished_at >= timeout_at
        )
        if expired:
            return BrowserExpired(self.id, started_at=self.record.started_at, timeout_at=timeout_at)
        return BrowserStopped(self.id, finished_at=finished_at)

    def _explained(self, closed: ConnectionClosed) -> ConnectionClosed:
        """Map ConnectionClosed to BrowserExpired if the rental timed out: by the server's close frame, or by our clock.

        The server's time began a little before ours, when its answer was on the way.
        """
        by_clock = self.deadline.expired(time.monotonic() + _SHORTEST.total_seconds())
        if by_clock or closed.reason.lower().startswith(_EXPIRED_REASON):
            record = self.record
            return BrowserExpired(
                self.id, started_at=record.started_at, timeout_at=record.timeout_at, closed=closed
            )
        return closed

    # --- money ----------------------------------------------------------------------------------------------------

    @property
    def cost_now(self) -> Decimal:
        """USD that a stop now would cost; after the stop, what the rental cost."""
        if self.receipt is not None:
            return self.receipt.paid
        return cost(self._price.tariff, self.deadline.used(time.monotonic()))

    @property
    def refund_now(self) -> Decimal:
        """USD that a stop now would refund; after the stop, what was refunded."""
        if self.receipt is not None:
            return self.receipt.refunded
        return refund(self._price.tariff, self.deadline.used(time.monotonic()))

    # --- the end --------------------------------------------------------------------------------------------------

    async def stop(self) -> Receipt:
        """Stop the browser, wait for the confirmation, and write the end into the journal.

        No failure before or after keeps the stop from being tried. It runs in a task of its own, see `unhindered`.

        Raises:
            StopFailed: The server did not confirm; `cdpbridge reap` tries again.
            Exception: The browser is stopped, but the tariff could not compute its cost.
        """
        if self.receipt is not None:
            return self.receipt
        self._reach.drop()
        shared = AsyncExitStack()
        with unhindered(f"opening the client of browser {self.id}"):  # a request opens it, too
            await shared.enter_async_context(self.client.share())
        try:
            if not self.ended:
                await self._confirm()
            try:
                self.receipt = await self._settle()
            finally:
                with unhindered(f"writing the end of browser {self.id} into the journal"):
                    await in_thread(
                        self.options.journal.end,
                        self._entry.rental,
                        Outcome.STOPPED,
                        self.receipt,
                        now=datetime.now(UTC),
                    )
        finally:
            for uses in (self._uses, shared):
                with unhindered(f"closing the client of browser {self.id}"):
                    await uses.aclose()
        return self.receipt

    async def _confirm(self) -> None:
        """Stop the browser, also when that is cancelled: then the event loop ends, and this is the last moment."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.options.stop_timeout.total_seconds()
        cancelled = 0
        while not self.ended:
            left = timedelta(seconds=max(deadline - loop.time(), 0))
            try:
                stopped = await confirmed_stop(self.client, self.id, left, simulated=self._price.simulated)
            except asyncio.CancelledError as error:
                cancelled += 1
                if cancelled == _CANCELLATIONS:
                    await self._leave_to_reap()
                    raise stop_failed(self.client, self.id, error) from error
            except StopFailed:
                await self._leave_to_reap()
                raise
            else:
                self.ended = True
                self.record = stopped or self._as_stopped()

    def _as_stopped(self) -> BrowserSession:
        return self.record.model_copy(update={"status": BrowserSessionStatus.STOPPED, "cdp_url": None})

    async def _leave_to_reap(self) -> None:
        with unhindered(f"leaving browser {self.id} to `cdpbridge reap`"):
            await in_thread(self.options.journal.give_up, self._entry.rental)

    async def _settle(self) -> Receipt:
        change = None
        before = self._price.balance
        if self.record.browser_cost is None and before is not None:
            with unhindered("reading the account's balance"):
                now = (await price_of(self.client)).balance
                change = None if now is None else now - before
        return self._receipt_of(self.record, change)

    def _receipt_of(self, record: BrowserSession, change: Decimal | None = None) -> Receipt:
        used = self.deadline.used(time.monotonic())
        return receipt_of(record, self._entry, used=used, account_change=change)

    def stop_blocking(self) -> None:
        """Stop the browser without an event loop, at the end of the interpreter.

        Raises:
            StopFailed: The server did not confirm.
        """
        if self.ended:
            return
        journal, rental = self.options.journal, self._entry.rental
        record: BrowserSession | None = None
        try:
            record = stop_now(self.id, **self.client.address())
        except NotFoundError:
            logger.debug("the server has forgotten browser %s", self.id)
        except Exception as error:
            with unhindered(f"leaving browser {self.id} to `cdpbridge reap`"):
                journal.give_up(rental)
            raise stop_failed(self.client, self.id, error) from error
        self.ended = True
        receipt = None
        if record is not None:
            with unhindered(f"computing what browser {self.id} cost"):
                receipt = self._receipt_of(record)
        with unhindered(f"writing the end of browser {self.id} into the journal"):
            journal.end(rental, Outcome.STOPPED, receipt, now=datetime.now(UTC))


async def stop_noting(rental: _Stoppable, error: BaseException) -> None:
    """Stop a rental, or a `Browser`, whose use ends with `error`; a failed stop becomes a note of that error.

    It is logged too when `error` is an interrupt or a cancellation, whose notes no program shows.
    """
    try:
        await rental.stop()
    except Exception as failed:  # noqa: BLE001  # `error` is the one to be raised
        error.add_note(str(failed))
        if not isinstance(error, Exception):
            logger.error("%s", failed)  # noqa: TRY400  # the message is meant for the user


async def _asked_first(
    client: AsyncClient, options: CheckedOptions
) -> tuple[UUID | None, Price, frozenset[UUID] | None]:
    """Ask at once for all that must be known before the create: the profile's id, the price, what is active.

    The balance and the list must be those from before it: a lost answer is settled by the list, a receipt by the balance.
    """
    asked = (
        asyncio.ensure_future(_profile_id(client, options.profile)),
        asyncio.ensure_future(price_of(client, options.tariff)),
        asyncio.ensure_future(_active(client)),
    )
    try:
        return await asyncio.gather(*asked)
    finally:  # a failure of one, or a cancellation: the others still use the client
        for each in asked:
            each.cancel()
        await to_the_end(asyncio.wait(asked))


async def _admitted(  # noqa: PLR0917  # one call
    client: AsyncClient,
    options: CheckedOptions,
    profile_id: UUID | None,
    entry: Entry,
    price: Price,
    reach: Reach,
) -> tuple[Entry, BrowserSession]:
    """Create the browser once budgets and the server admit it."""
    rented: tuple[Entry, BrowserSession] | None = None
    metadata = {"label": options.label} if options.label and price.own_fields else None
    journal = options.journal
    try:
        async with Queue(journal, options.budgets, options.slot_timeout) as queue:
            while rented is None:
                asked_at = entry.intended_at
                try:
                    entry = await queue.enter(entry)
                    if (
                        entry.intended_at - asked_at > _SHORTEST
                    ):  # others may have started and ended meanwhile
                        entry = replace(entry, active_before=await _active(client))
                        await in_thread(journal.looked, entry.rental, entry.active_before)
                    options.on_progress("renting a browser")
                except BaseException:
                    await in_thread(journal.withdraw, entry.rental)
                    raise
                reach.prepare()
                try:
                    rented = entry, await create(client, options, profile_id, entry, metadata=metadata)
                except RateLimitError as error:
                    reach.drop()
                    options.on_progress("waiting for a slot")
                    await queue.full(entry, error)
                    entry = replace(entry, rental=uuid4())
    except BaseException as error:
        if rented is not None:  # cancelled while it left the queue
            entry, record = rented
            await to_the_end(discard(client, options, entry, record.id, error))
        raise
    return rented


def _may_be_early(error: ConnectFailed) -> bool:
    """Return True if a browser that is still starting fails like this."""
    if error.status is not None:
        return error.status == 404 or error.status >= 500
    return error.stage in {"dns", "tcp"}


async def _active(client: AsyncClient) -> frozenset[UUID] | None:
    try:
        return frozenset(each.id for each in await active_browsers(client))
    except APIError as error:
        logger.debug("active browsers cannot be listed: %s", error)
        return None


async def _profile_id(client: AsyncClient, profile: str | UUID | Profile | None) -> UUID | None:
    if profile is None or isinstance(profile, UUID):
        return profile
    if isinstance(profile, Profile):
        return profile.id
    try:
        return UUID(profile)
    except ValueError:
        return await _profile_named(client, profile)


async def _profile_named(client: AsyncClient, name: str) -> UUID:
    """Find the profile of that name, the oldest of several; create it if there is none."""
    if not name.strip():
        raise ConfigurationError("profile is an empty text; give a name, an id, or None")
    lock = _naming.setdefault(client, asyncio.Lock())  # else two rentals at once would create two
    async with lock:
        found = [each async for each in client.profiles.list() if each.name == name]
        if not found:
            return (await client.profiles.create(name=name)).id
    if len(found) > 1:
        logger.warning("%d profiles are called %r; the oldest one is used", len(found), name)
    return min(found, key=lambda each: each.created_at).id


def _profile_label(profile: str | UUID | Profile | None) -> str | None:
    """Return the name, else the id, for people to read."""
    if isinstance(profile, Profile):
        return profile.name or str(profile.id)
    return None if profile is None else str(profile)
