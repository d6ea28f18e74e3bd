"""The REST half of a rental: a create that never leaves a browser nobody knows, a stop that is repeated until confirmed."""

from __future__ import annotations

import asyncio
import logging
import uuid
from datetime import timedelta
from decimal import Decimal
from typing import Final
from weakref import WeakKeyDictionary

from cdpbridge._shield import to_the_end
from cdpbridge.api import AsyncClient, BrowserSession, BrowserSessionStatus, Profile, ServerChoice
from cdpbridge.errors import (
    APIConnectionError,
    APIError,
    APIResponseError,
    BadRequestError,
    ConfigurationError,
    NotFoundError,
    RateLimitError,
    ServerError,
    StopFailed,
)

__all__ = ["balance", "confirmed_stop", "create", "profile_id"]

logger = logging.getLogger("cdpbridge")

_STOP_RETRY_SECONDS: Final = 0.5
_naming: WeakKeyDictionary[AsyncClient, asyncio.Lock] = WeakKeyDictionary()


async def create(
    client: AsyncClient,
    *,
    profile_id: uuid.UUID | None,
    proxy_country: str | ServerChoice | None,
    timeout: timedelta | None,
    stop_timeout: timedelta,
) -> BrowserSession:
    """The new rental. When the caller is cancelled, its answer is waited for, and what it brings is stopped."""
    creating = asyncio.ensure_future(
        client.browsers.create(
            profile_id=profile_id,
            proxy_country=proxy_country,
            timeout=timeout,
            idempotency_key=str(uuid.uuid4()),
        )
    )
    try:
        return await asyncio.shield(creating)
    except asyncio.CancelledError:
        await to_the_end(_give_back(client, creating, stop_timeout))
        raise
    except APIResponseError as error:
        if error.answer_id is not None:
            await to_the_end(_give_back_unread(client, error, uuid.UUID(error.answer_id), stop_timeout))
        raise
    except APIConnectionError as error:
        if error.maybe_processed:
            error.add_note("a browser may have been rented all the same; look with: cdpbridge browsers")
        raise


async def _give_back(
    client: AsyncClient, creating: asyncio.Future[BrowserSession], stop_timeout: timedelta
) -> None:
    """Stop what a create brings whose caller was cancelled."""
    await asyncio.wait({creating})
    if creating.cancelled():
        return
    error = creating.exception()
    browser_id = creating.result().id if error is None else getattr(error, "answer_id", None)
    if browser_id is None:
        logger.debug("the cancelled create brought no browser: %s", error)
        return
    try:
        await confirmed_stop(client, uuid.UUID(str(browser_id)), stop_timeout)
    except StopFailed as failed:
        logger.error("%s", failed)  # noqa: TRY400  # a cancellation is on its way


async def _give_back_unread(
    client: AsyncClient, error: APIResponseError, browser_id: uuid.UUID, stop_timeout: timedelta
) -> None:
    """Stop a browser whose record cannot be read."""
    try:
        await confirmed_stop(client, browser_id, stop_timeout)
    except StopFailed as failed:
        error.add_note(str(failed))
    else:
        error.add_note(f"browser {browser_id}, which that answer brought, was stopped")


async def confirmed_stop(
    client: AsyncClient, browser_id: uuid.UUID, timeout: timedelta
) -> BrowserSession | None:
    """The stopped browser's record, None if the server has forgotten it. Repeated until the server confirms.

    Raises:
        StopFailed: It did not within `timeout`, or refused.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout.total_seconds()
    advice = client.stop_advice(browser_id)
    while True:
        cause: Exception
        try:
            async with asyncio.timeout_at(deadline):
                answer = await _stop_once(client, browser_id)
                if answer is None or answer.status == BrowserSessionStatus.STOPPED:
                    return answer
                cause = RuntimeError(f"the server still says {answer.status!r}")
        except (APIConnectionError, RateLimitError, ServerError, TimeoutError) as error:
            cause = error
        except APIError as error:
            raise StopFailed(browser_id, error, advice=advice) from error
        if loop.time() + _STOP_RETRY_SECONDS >= deadline:
            raise StopFailed(browser_id, str(cause) or "no answer in time", advice=advice) from cause
        logger.warning("browser %s is not stopped yet (%s); trying again", browser_id, cause)
        await asyncio.sleep(_STOP_RETRY_SECONDS)


async def _stop_once(client: AsyncClient, browser_id: uuid.UUID) -> BrowserSession | None:
    try:
        return await client.browsers.stop(browser_id)
    except NotFoundError:  # somebody else has ended it, and the server has forgotten it
        return None
    except BadRequestError:  # another refusal of a second stop; the record tells
        return await client.browsers.get(browser_id)


async def balance(client: AsyncClient) -> Decimal | None:
    """The account's balance, for the receipt; a server that does not tell it is no obstacle."""
    try:
        return (await client.billing.account()).total_credits_balance_usd
    except APIError as error:
        logger.debug("the account balance cannot be read: %s", error)
        return None


async def profile_id(client: AsyncClient, profile: str | uuid.UUID | Profile | None) -> uuid.UUID | None:
    if profile is None or isinstance(profile, uuid.UUID):
        return profile
    if isinstance(profile, Profile):
        return profile.id
    try:
        return uuid.UUID(profile)
    except ValueError:
        return await _profile_named(client, profile)


async def _profile_named(client: AsyncClient, name: str) -> uuid.UUID:
    """The profile of that name, made if there is none; the oldest, should there be several."""
    if not name.strip():
        raise ConfigurationError("profile is an empty text; give a name, an id, or None")
    lock = _naming.setdefault(client, asyncio.Lock())  # else two rentals at once would make two
    async with lock:
        found = [each async for each in client.profiles.list() if each.name == name]
        if not found:
            return (await client.profiles.create(name=name)).id
    if len(found) > 1:
        logger.warning("%d profiles are called %r; the oldest one is used", len(found), name)
    return min(found, key=lambda each: each.created_at).id
