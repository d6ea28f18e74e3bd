"""A create that leaves no unknown browser running, and never makes two of one.

A create costs money, so it is not repeated blindly. When its answer is lost, there are two ways to learn its result: a server that
honours `Idempotency-Key` is asked again with the same key; for any other, the browsers that are active now are compared with those
that were active before. A candidate that belongs to no entry of the journal, and has the duration that we asked for, is ours.
It is adopted: written into the journal, where a browser can belong to one rental only. While another rental of the same account
waits for its own answer, the candidates may belong to that one, so this one waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final
from uuid import UUID

from cdpbridge._concurrency import in_thread, to_the_end, unhindered
from cdpbridge.api import DEFAULT_BASE_URL, AsyncClient, BrowserSession, BrowserSessionStatus
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

from ._options import CheckedOptions
from ._stop import confirmed_stop, receipt_of
from .journal import LOCAL, Entry, Outcome

__all__ = [
    "CreateVerdict",
    "active_browsers",
    "candidates_of",
    "competes",
    "create",
    "discard",
    "reap_command",
    "verdict",
]

logger = logging.getLogger("cdpbridge")

_LOOK_SECONDS: Final = 0.5
_QUICK_LOOK: Final = timedelta(seconds=2)
"""After an error response: the server, or a proxy before it, has answered, so no request is under way any more."""
_MAYBE_RENTED: Final = frozenset({500, 502, 504})
"""Status codes of a server, or of a proxy before it, that do not say whether the create was done."""
_CLOCKS_DIFFER: Final = timedelta(minutes=10)
_SAME_DURATION: Final = timedelta(seconds=5)


class CreateVerdict(Enum):
    """What a failed create means for the money."""

    REFUSED = "refused"
    """Nothing was rented."""
    NO_SLOT = "no slot"
    """Nothing was rented; the caller may wait for a slot and ask again."""
    UNREAD = "unread"
    """A browser was rented; its id is known, its record cannot be read."""
    LOST = "lost"
    """No answer: perhaps rented; ask again or look."""
    UNCLEAR = "unclear"
    """An answer that does not say whether a browser was rented; only look, do not ask again."""


def verdict(error: Exception) -> CreateVerdict:
    """Judge the failure of a create."""
    match error:
        case APIResponseError():
            return CreateVerdict.LOST if error.answer_id is None else CreateVerdict.UNREAD
        case APIConnectionError():
            return CreateVerdict.LOST if error.maybe_processed else CreateVerdict.REFUSED
        case RateLimitError():
            return CreateVerdict.NO_SLOT
        case APIStatusError():
            return CreateVerdict.UNCLEAR if error.status in _MAYBE_RENTED else CreateVerdict.REFUSED
        case ConfigurationError():  # raised before anything is sent
            return CreateVerdict.REFUSED
    return CreateVerdict.UNCLEAR  # nothing says that it was not sent


def reap_command(client: AsyncClient) -> str:
    """Return the command that stops what was left behind on the server of `client`."""
    where = "" if client.place in {DEFAULT_BASE_URL, LOCAL} else f" --provider {client.place}"
    return f"cdpbridge reap{where}"


async def active_browsers(client: AsyncClient) -> list[BrowserSession]:
    """List the browsers that are active for this key."""
    found = client.browsers.list(status=BrowserSessionStatus.ACTIVE)
    # A browser of an agent session is that session's to stop.
    return [each async for each in found if each.agent_session_id is None]


@dataclass(frozen=True, slots=True)
class _Create:
    client: AsyncClient
    options: CheckedOptions
    profile_id: UUID | None
    entry: Entry
    metadata: Mapping[str, str] | None = None

    async def run(self) -> BrowserSession:
        """Create the browser and write it into the journal; stop one that is not as it was asked for."""
        record = await self._rented()
        if (why := self._not_limited(record)) is not None:
            error = ConfigurationError(why)
            await to_the_end(self.discard(record.id, error))
            raise error
        return record

    async def _rented(self) -> BrowserSession:
        try:
            record = await self._post()
        except Exception as error:
            match verdict(error):
                case CreateVerdict.NO_SLOT:
                    await in_thread(self.options.journal.withdraw, self.entry.rental)
                case CreateVerdict.REFUSED:
                    await self._end(Outcome.REFUSED)
                case CreateVerdict.UNREAD:
                    await self._stop_unread(error)
                case CreateVerdict.LOST:
                    return await self._settle(error, answered=False)
                case CreateVerdict.UNCLEAR:
                    return await self._settle(error, answered=True)
            raise
        await self._write(record)
        return record

    def _not_limited(self, record: BrowserSession) -> str | None:
        """Return why the server does not keep the browser to the hosts that were asked for; None if it does, or none were.

        A server that does not know such a field may take the request without it.
        """
        asked_and_kept = {
            "allowed_hosts": (self.options.allowed_hosts, record.allowed_hosts),
            "denied_hosts": (self.options.denied_hosts or None, record.denied_hosts),
        }
        for name, (asked, kept) in asked_and_kept.items():
            if asked is not None and (kept is None or tuple(kept) != asked):
                return f"this server does not keep browsers to {name}; use a cdpbridge server of this version, or leave it out"
        return None

    async def _post(self) -> BrowserSession:
        return await self.client.browsers.create(
            profile_id=self.profile_id,
            proxy_country=self.options.proxy_country,
            timeout=self.options.timeout,
            enable_recording=self.options.recording or None,
            allowed_hosts=self.options.allowed_hosts,
            denied_hosts=self.options.denied_hosts,
            metadata=self.metadata,
            idempotency_key=str(self.entry.rental),
        )

    async def _write(self, record: BrowserSession) -> bool:
        """Write the browser into the journal; stop one that cannot be written. False if another rental has it."""
        try:
            return await in_thread(
                self.options.journal.rented,
                self.entry.rental,
                record.id,
                started_at=record.started_at,
                timeout_at=record.timeout_at,
            )
        except BaseException as error:
            await to_the_end(self.discard(record.id, error))
            raise

    async def _end(self, outcome: Outcome, receipt: Receipt | None = None) -> None:
        await in_thread(self.options.journal.end, self.entry.rental, outcome, receipt, now=datetime.now(UTC))

    # --- lost answers ---------------------------------------------------------------------------------------------

    async def _settle(self, lost: Exception, *, answered: bool) -> BrowserSession:
        """Find the browser of a create whose result is not known.

        Args:
            lost: The failure; raised when there is no browser, or its result stays unknown.
            answered: The server, or a proxy before it, has answered; then the create is not sent again.
        """
        logger.warning("%s; looking whether a browser was rented all the same", lost)
        loop = asyncio.get_running_loop()
        limit = self.options.connect_timeout
        if answered:
            limit = min(_QUICK_LOOK, limit)
        deadline = loop.time() + limit.total_seconds()
        candidates: list[BrowserSession] = []
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    if not answered and await self.client.honours_idempotency_keys():
                        record = await self._post()
                        await self._write(record)
                        logger.warning("asked again with its Idempotency-Key: it is browser %s", record.id)
                        return record
                    candidates = await self._candidates()
                    if (
                        len(candidates) == 1
                        and not await self._has_rivals(candidates[0])
                        and await self._write(candidates[0])
                    ):
                        logger.warning(
                            "adopted browser %s as the result of the lost create", candidates[0].id
                        )
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
        await in_thread(self.options.journal.give_up, self.entry.rental)
        lost.add_note(_advice(reap_command(self.client), candidates))
        raise lost

    async def _candidates(self) -> list[BrowserSession]:
        active = await active_browsers(self.client)
        known = await in_thread(self.options.journal.known_browsers, self.entry.place)
        return candidates_of(self.entry, active, known)

    async def _has_rivals(self, candidate: BrowserSession) -> bool:
        """Return True if `candidate` may belong to another rental, which still waits for its answer."""
        return any(
            competes(each, self.entry) and candidates_of(each, [candidate], frozenset())
            for each in await in_thread(self.options.journal.open_entries)
        )

    # --- what is not needed any more ------------------------------------------------------------------------------

    async def cancel(self, creating: asyncio.Future[BrowserSession]) -> None:
        """Wait for the answer and stop the browser: the caller was cancelled."""
        await asyncio.wait({creating})
        if creating.cancelled():  # by the end of its loop
            await in_thread(self.options.journal.give_up, self.entry.rental)
            return
        if (error := creating.exception()) is not None:
            logger.debug("the cancelled create rented no browser: %s", error)
            return
        try:
            await self._stop(creating.result().id)
        except StopFailed as failed:
            logger.error("%s", failed)  # noqa: TRY400  # a cancellation is on its way

    async def _stop_unread(self, error: Exception) -> None:
        """Stop a browser whose record cannot be read."""
        assert isinstance(error, APIResponseError)  # `CreateVerdict.UNREAD` means so
        assert error.answer_id is not None
        browser_id = UUID(error.answer_id)
        now = datetime.now(UTC)
        end = now + (self.options.timeout or DEFAULT_TIMEOUT)
        with unhindered(f"writing browser {browser_id} into the journal"):
            await in_thread(
                self.options.journal.rented, self.entry.rental, browser_id, started_at=now, timeout_at=end
            )
        await self.discard(browser_id, error)

    async def discard(self, browser_id: UUID, error: BaseException) -> None:
        """Stop a browser that `error` makes useless; add a note about it to the error."""
        try:
            await self._stop(browser_id)
        except StopFailed as failed:
            error.add_note(str(failed))
        else:
            error.add_note(f"browser {browser_id}, which that create rented, was stopped")

    async def _stop(self, browser_id: UUID) -> None:
        try:
            record = await confirmed_stop(
                self.client, browser_id, self.options.stop_timeout, simulated=self.entry.simulated
            )
        except StopFailed:
            with unhindered(f"leaving browser {browser_id} to `cdpbridge reap`"):
                await in_thread(self.options.journal.give_up, self.entry.rental)
            raise
        with unhindered(f"writing the end of browser {browser_id} into the journal"):
            await self._end(Outcome.STOPPED, None if record is None else receipt_of(record, self.entry))


async def create(
    client: AsyncClient,
    options: CheckedOptions,
    profile_id: UUID | None,
    entry: Entry,
    *,
    metadata: Mapping[str, str] | None = None,
) -> BrowserSession:
    """Create a browser and write it into the journal under `entry`, which is there as an intention.

    When the caller is cancelled, wait for the answer and stop what it rented.

    Args:
        client: Of the server.
        options: What is asked for.
        profile_id: State to start from.
        entry: Of the journal.
        metadata: For the server's lists; None for a server whose contract has no place for it.

    Raises:
        APIError: Nothing was rented; or that is not known, then a note says so, and the journal leaves it to `reap`.
    """
    work = _Create(client, options, profile_id, entry, metadata)
    creating = asyncio.ensure_future(work.run())
    try:
        return await asyncio.shield(creating)
    except asyncio.CancelledError:
        await to_the_end(work.cancel(creating))
        raise


async def discard(
    client: AsyncClient, options: CheckedOptions, entry: Entry, browser_id: UUID, because: BaseException
) -> None:
    """Stop the browser that `create` has rented, because of an error, which gets a note about it."""
    await _Create(client, options, None, entry).discard(browser_id, because)


def _advice(command: str, candidates: Iterable[BrowserSession]) -> str:
    ids = ", ".join(str(each.id) for each in candidates)
    if ids:
        return f"it may have rented one of {ids}, but whose they are is not clear; see `cdpbridge browsers`, then `{command}`"
    return (
        "a browser may have been rented all the same, or may still be: `cdpbridge browsers` shows it, "
        f"`{command}` stops it"
    )


def candidates_of(
    entry: Entry, active: Iterable[BrowserSession], known: frozenset[UUID]
) -> list[BrowserSession]:
    """Return the active browsers that the create of `entry` may have produced. Pure.

    Args:
        entry: The rental whose browser is looked for.
        active: The browsers that are active now.
        known: Browsers that belong to a rental of the journal.
    """
    if entry.active_before is None:  # then every browser of the account looks new
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
    """Return True if `other` waits for a browser of the same account, too."""
    return (
        other.rental != entry.rental
        and (other.place, other.account) == (entry.place, entry.account)
        and other.browser_id is None
    )
