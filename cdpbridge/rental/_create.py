"""A create that never leaves a browser nobody knows, and never makes two of one.

A create costs money, so it is not repeated blindly. When its answer is lost, there are two ways to learn what became of it:
a server that keeps `Idempotency-Key` is asked again with the same key; of any other, the browsers that are active now are
compared with those that were active before. A newcomer that nobody's journal knows, and that was ordered as ours was, is ours.
It is adopted, by writing it into the journal, where a browser can belong to one rental only. While another rental of the
same account waits for its own answer, newcomers may be that one's, so it is waited for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from cdpbridge._concurrency import in_thread, to_the_end, unhindered
from cdpbridge.api import DEFAULT_BASE_URL, AsyncClient, BrowserSession, BrowserSessionStatus, ServerChoice
from cdpbridge.billing import DEFAULT_TIMEOUT, Receipt
from cdpbridge.errors import (
    APIConnectionError,
    APIError,
    APIResponseError,
    APIStatusError,
    ConfigurationError,
    RateLimitError,
    StopFailed,
)

from ._stop import confirmed_stop, receipt_of
from .journal import LOCAL, Entry, Journal, Outcome

__all__ = [
    "NewBrowser",
    "active_browsers",
    "competes",
    "create",
    "newcomers",
    "place_of",
    "reap_command",
    "undo",
]

logger = logging.getLogger("cdpbridge")

_LOOK_SECONDS: Final = 0.5
_QUICK_LOOK: Final = timedelta(seconds=2)
"""After a server error: it has answered, so nothing is on its way any more."""
_MAYBE_RENTED: Final = frozenset({500, 502, 504})
"""Answers of a server, or of a proxy before it, that do not say whether the create was done."""
_CLOCKS_DIFFER: Final = timedelta(minutes=10)
_SAME_DURATION: Final = timedelta(seconds=5)
_OUR_SERVERS_FIELD: Final = "end_reason"  # of a `BrowserSession`; the cloud sends none


@dataclass(frozen=True, slots=True)
class NewBrowser:
    """What to ask for.

    Attributes:
        profile_id: State to start from.
        proxy_country: As of `open_browser`.
        timeout: As of `open_browser`.
        recording: As of `open_browser`.
        settle_timeout: For learning what a lost create has brought.
        stop_timeout: For stopping what is not wanted any more.
    """

    profile_id: UUID | None
    proxy_country: str | ServerChoice | None
    timeout: timedelta | None
    recording: bool
    settle_timeout: timedelta
    stop_timeout: timedelta


def place_of(client: AsyncClient) -> str:
    """The server of `client`, as the journal calls it."""
    return LOCAL if client.is_local else client._base_url


def reap_command(client: AsyncClient) -> str:
    """What a person runs to stop what was left behind on that server."""
    where = "" if place_of(client) in {DEFAULT_BASE_URL, LOCAL} else f" --provider {client._base_url}"
    return f"cdpbridge reap{where}"


async def active_browsers(client: AsyncClient) -> list[BrowserSession]:
    """What is active for this key."""
    found = client.browsers.list(status=BrowserSessionStatus.ACTIVE)
    # A browser of an agent session is that session's to stop.
    return [each async for each in found if each.agent_session_id is None]


@dataclass(frozen=True, slots=True)
class _Create:
    client: AsyncClient
    order: NewBrowser
    entry: Entry
    journal: Journal

    async def run(self) -> BrowserSession:
        """From the order to a browser in the journal."""
        try:
            record = await self._post()
        except APIResponseError as error:
            if error.answer_id is None:
                return await self._settle(error)
            await self._give_back_unread(error, UUID(error.answer_id))
            raise
        except APIConnectionError as error:
            if error.maybe_processed:
                return await self._settle(error)
            await self._end(Outcome.REFUSED)
            raise
        except RateLimitError:  # the caller may wait for a slot
            await in_thread(self.journal.withdraw, self.entry.rental)
            raise
        except APIStatusError as error:
            if error.status in _MAYBE_RENTED:
                return await self._settle(error, answered=True)
            await self._end(Outcome.REFUSED)
            raise
        except ConfigurationError:  # it was never sent
            await self._end(Outcome.REFUSED)
            raise
        except Exception as error:  # noqa: BLE001  # nothing says that it was not sent
            return await self._settle(error, answered=True)
        await self._write(record)
        return record

    async def _post(self) -> BrowserSession:
        return await self.client.browsers.create(
            profile_id=self.order.profile_id,
            proxy_country=self.order.proxy_country,
            timeout=self.order.timeout,
            enable_recording=self.order.recording or None,
            idempotency_key=str(self.entry.rental),
        )

    async def _write(self, record: BrowserSession) -> bool:
        """Write which browser it became; one that cannot be written down is stopped."""
        try:
            return await in_thread(
                self.journal.rented,
                self.entry.rental,
                record.id,
                started_at=record.started_at,
                timeout_at=record.timeout_at,
            )
        except BaseException as error:
            await to_the_end(self.undo(record.id, error))
            raise

    async def _end(self, outcome: Outcome, receipt: Receipt | None = None) -> None:
        await in_thread(self.journal.end, self.entry.rental, outcome, receipt, now=datetime.now(UTC))

    # --- lost answers ---------------------------------------------------------------------------------------------

    async def _settle(self, lost: Exception, *, answered: bool = False) -> BrowserSession:
        """What the create has brought.

        Args:
            lost: Raised when that cannot be learned, or when it brought nothing.
            answered: The server, or a proxy before it, has answered, but not whether it was done; then it is not repeated.
        """
        logger.warning("%s; looking whether a browser was rented all the same", lost)
        loop = asyncio.get_running_loop()
        patience = min(_QUICK_LOOK, self.order.settle_timeout) if answered else self.order.settle_timeout
        deadline = loop.time() + patience.total_seconds()
        candidates: list[BrowserSession] = []
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    if not answered and await _keeps_keys(self.client):
                        record = await self._post()
                        await self._write(record)
                        logger.warning("its Idempotency-Key brought browser %s", record.id)
                        return record
                    candidates = await self._candidates()
                    if (
                        len(candidates) == 1
                        and not await self._has_rivals(candidates[0])
                        and await self._write(candidates[0])
                    ):
                        logger.warning("browser %s came of it and is used", candidates[0].id)
                        return candidates[0]
            except APIStatusError as error:
                if error.status < 500 and not isinstance(error, RateLimitError):
                    lost.add_note(f"asking what became of it failed, too: {error}")
                    break
            except (APIError, TimeoutError) as error:
                logger.debug("the lost create cannot be settled yet: %s", error)
            if loop.time() + _LOOK_SECONDS >= deadline:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        await in_thread(self.journal.give_up, self.entry.rental)
        lost.add_note(_advice(reap_command(self.client), candidates))
        raise lost

    async def _candidates(self) -> list[BrowserSession]:
        active = await active_browsers(self.client)
        return newcomers(active, self.entry, await in_thread(self.journal.known_browsers, self.entry.place))

    async def _has_rivals(self, candidate: BrowserSession) -> bool:
        """Whether it may be another rental's, which does not know yet."""
        return any(
            competes(each, self.entry) and newcomers([candidate], each, frozenset())
            for each in await in_thread(self.journal.open_entries)
        )

    # --- what is not wanted any more ------------------------------------------------------------------------------

    async def give_back(self, creating: asyncio.Future[BrowserSession]) -> None:
        """Stop what it brings; its caller was cancelled."""
        await asyncio.wait({creating})
        if creating.cancelled():  # by the end of its loop
            await in_thread(self.journal.give_up, self.entry.rental)
            return
        if (error := creating.exception()) is not None:
            logger.debug("the cancelled create brought no browser: %s", error)
            return
        try:
            await self._stop(creating.result().id)
        except StopFailed as failed:
            logger.error("%s", failed)  # noqa: TRY400  # a cancellation is on its way

    async def _give_back_unread(self, error: APIResponseError, browser_id: UUID) -> None:
        """Stop a browser whose record cannot be read."""
        now = datetime.now(UTC)
        end = now + (self.order.timeout or DEFAULT_TIMEOUT)
        with unhindered(f"writing browser {browser_id} into the journal"):
            await in_thread(
                self.journal.rented, self.entry.rental, browser_id, started_at=now, timeout_at=end
            )
        await self.undo(browser_id, error)

    async def undo(self, browser_id: UUID, error: BaseException) -> None:
        """Stop the browser that the create has brought and that `error` makes useless; a note of it says so."""
        try:
            await self._stop(browser_id)
        except StopFailed as failed:
            error.add_note(str(failed))
        else:
            error.add_note(f"browser {browser_id}, which that answer brought, was stopped")

    async def _stop(self, browser_id: UUID) -> None:
        try:
            record = await confirmed_stop(self.client, browser_id, self.order.stop_timeout)
        except StopFailed:
            with unhindered(f"leaving browser {browser_id} to `cdpbridge reap`"):
                await in_thread(self.journal.give_up, self.entry.rental)
            raise
        with unhindered(f"writing the end of browser {browser_id} into the journal"):
            await self._end(
                Outcome.STOPPED, None if record is None else receipt_of(record, self.entry.tariff)
            )


async def create(client: AsyncClient, order: NewBrowser, entry: Entry, journal: Journal) -> BrowserSession:
    """The new browser, written into the journal under `entry`, which has been written as an intention.

    When the caller is cancelled, the answer is waited for, and what it brings is stopped.

    Raises:
        APIError: Nothing was rented; or it is not known, then a note says so, and the journal leaves it to `reap`.
    """
    work = _Create(client, order, entry, journal)
    creating = asyncio.ensure_future(work.run())
    try:
        return await asyncio.shield(creating)
    except asyncio.CancelledError:
        await to_the_end(work.give_back(creating))
        raise


async def undo(
    client: AsyncClient,
    order: NewBrowser,
    entry: Entry,
    journal: Journal,
    *,
    browser_id: UUID,
    because: BaseException,
) -> None:
    """Stop what `create` has brought, because of an error, which gets a note about it."""
    await _Create(client, order, entry, journal).undo(browser_id, because)


def _advice(command: str, candidates: Iterable[BrowserSession]) -> str:
    ids = ", ".join(str(each.id) for each in candidates)
    if ids:
        return f"it may have rented one of {ids}, but whose they are is not clear; see `cdpbridge browsers`, then `{command}`"
    return (
        "a browser may have been rented all the same, or may still be: `cdpbridge browsers` shows it, "
        f"`{command}` stops it"
    )


def newcomers(active: Iterable[BrowserSession], entry: Entry, known: frozenset[UUID]) -> list[BrowserSession]:
    """Active browsers that may have come of the create of `entry`. Pure.

    Args:
        active: What is active now.
        entry: The rental whose browser is looked for.
        known: Browsers that belong to some rental of the journal.
    """
    if entry.active_before is None:  # then every browser of everybody looks new
        return []
    duration = entry.timeout or DEFAULT_TIMEOUT
    return [
        each
        for each in active
        if each.id not in entry.active_before
        and each.id not in known
        # The two clocks may differ; the list before does not depend on them.
        and abs(each.started_at - entry.intended_at) <= _CLOCKS_DIFFER
        and (entry.timeout is None or abs(each.timeout_at - each.started_at - duration) <= _SAME_DURATION)
    ]


def competes(other: Entry, entry: Entry) -> bool:
    """Whether that rental waits for a browser of the same account, too."""
    return (
        other.rental != entry.rental
        and (other.place, other.account) == (entry.place, entry.account)
        and other.browser_id is None
    )


async def _keeps_keys(client: AsyncClient) -> bool:
    """Whether the server honours `Idempotency-Key`: ours do, and are known by a field of their answers."""
    if client.is_local:
        return True
    async for each in client.browsers.list(page_size=1):
        return _OUR_SERVERS_FIELD in each.model_fields_set
    return False
