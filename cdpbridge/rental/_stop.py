"""Stop a browser, repeat that until the server confirms, and make the receipt."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from decimal import Decimal
from typing import Final, Protocol
from urllib.parse import urlsplit
from uuid import UUID

from cdpbridge._concurrency import unhindered
from cdpbridge._loopback import is_loopback
from cdpbridge.api import DEFAULT_BASE_URL, AsyncClient, BrowserSession, BrowserSessionStatus
from cdpbridge.api._place import place_name
from cdpbridge.billing import HostBytes, Receipt, Tariff
from cdpbridge.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    BadRequestError,
    CDPBridgeError,
    NotFoundError,
    RateLimitError,
    ServerError,
    StopFailed,
)

from .journal import LOCAL

__all__ = ["confirmed_stop", "receipt_of", "said_by", "server_ended", "stop_advice", "stop_failed"]

logger = logging.getLogger("cdpbridge")


class _Priced(Protocol):
    """Where and at which price a browser was rented."""

    @property
    def tariff(self) -> Tariff: ...
    @property
    def simulated(self) -> bool: ...
    @property
    def place(self) -> str: ...


_STOP_RETRY_SECONDS: Final = 0.5
_UNEXPECTED_TRIES: Final = 3
"""A failure that is none of the REST API's may pass (a closed connection pool, a full descriptor table), or be a defect."""


_REFUSED_SECONDS: Final = 5.0
"""Where money is simulated, a server of this machine that no longer listens has ended, or is starting again. Its browsers end with
it, and its next start settles them, so a person who pressed Ctrl-C does not wait for the whole timeout. Where it is real, we do: the
address may be a forwarded port."""


async def confirmed_stop(
    client: AsyncClient, browser_id: UUID, timeout: timedelta, *, simulated: bool = False
) -> BrowserSession | None:
    """Stop a browser; repeat that until the server confirms. Return its record, None if the server does not know it any more.

    Args:
        client: Of the server.
        browser_id: Of the browser.
        timeout: For all tries.
        simulated: Whether the server's money is simulated. The tries end sooner then, when a server of this machine has ended.

    Raises:
        StopFailed: No confirmation in time, or the server refused, or an unexpected failure came three times.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout.total_seconds()
    unexpected = 0
    refused_since: float | None = None
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
            raise stop_failed(client, browser_id, error) from error
        except Exception as error:  # whatever it is, the browser costs money until it is stopped
            cause = error
            unexpected += 1
            if unexpected == _UNEXPECTED_TRIES:
                raise stop_failed(client, browser_id, error) from error
        ended = simulated and _refused_here(client, cause)
        refused_since = (refused_since or loop.time()) if ended else None
        if refused_since is not None and loop.time() - refused_since > _REFUSED_SECONDS:
            raise stop_failed(client, browser_id, cause) from cause
        if loop.time() + _STOP_RETRY_SECONDS >= deadline:
            raise stop_failed(client, browser_id, cause) from cause
        logger.warning("browser %s is not stopped yet (%s); trying again", browser_id, said_by(cause))
        await asyncio.sleep(_STOP_RETRY_SECONDS)


def _refused_here(client: AsyncClient, cause: Exception) -> bool:
    """Return True if nothing listens at the address of a server on this machine."""
    refused = isinstance(cause, APIConnectionError) and not cause.maybe_processed
    return (
        refused
        and not isinstance(cause, APITimeoutError)
        and is_loopback(urlsplit(client.place).hostname or "")
    )


def stop_failed(client: AsyncClient, browser_id: UUID, cause: BaseException) -> StopFailed:
    """Return the error for a stop that was not confirmed, with what a person can do. Raise it `from cause`."""
    advice = None
    with unhindered(f"looking for advice about browser {browser_id}"):
        advice = stop_advice(client, browser_id)
    return StopFailed(browser_id, said_by(cause), advice=advice)


def stop_advice(client: AsyncClient, browser_id: UUID) -> str:
    """Return what a person can do about a browser that could not be stopped."""
    if client.place == LOCAL:
        return "it ends with the embedded server, and the next one settles its bill"
    where = "" if client.place == DEFAULT_BASE_URL else f" --provider {client.place}"
    return f"run: cdpbridge stop {browser_id}{where}"


def server_ended(client: AsyncClient) -> bool:
    """Return True if the embedded server of `client` has ended, and with it its browsers. False for any other server."""
    return client.is_local and client.server_pid is None


def said_by(error: BaseException) -> str:
    """Return the message of an error, with its class where that is needed to understand it."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    if isinstance(error, CDPBridgeError | RuntimeError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


async def _stop_once(client: AsyncClient, browser_id: UUID) -> BrowserSession | None:
    try:
        return await client.browsers.stop(browser_id)
    except NotFoundError:  # another client has ended it, and the server does not list it any more
        return None
    except BadRequestError:  # another refusal of a second stop; the record tells
        return await client.browsers.get(browser_id)


def receipt_of(
    record: BrowserSession,
    priced: _Priced,
    *,
    used: timedelta = timedelta(0),
    account_change: Decimal | None = None,
) -> Receipt:
    """Return what a stopped browser cost, by the server's dates.

    Args:
        priced: Its entry in the journal, or the price of its server.
        used: How long it was used, where the server does not say when it ended.
        account_change: See `Receipt`.
    """
    if record.finished_at is not None:
        used = record.finished_at - record.started_at
    return Receipt.of(
        priced.tariff,
        max(used, timedelta(0)),
        booked=record.browser_cost,
        account_change=account_change,
        simulated_country=record.proxy_country_code if record.proxy_simulated else None,
        simulated=priced.simulated,
        place=place_name(priced.place),
        traffic=[
            HostBytes(each.host, each.bytes_sent, each.bytes_received) for each in record.host_traffic or ()
        ],
    )
