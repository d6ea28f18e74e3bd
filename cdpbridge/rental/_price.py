"""What the server of a client charges, and whether that is money."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from cdpbridge.api import AsyncClient
from cdpbridge.billing import Tariff
from cdpbridge.errors import APIError

__all__ = ["Price", "price_of"]

logger = logging.getLogger("cdpbridge")

_PRICE_SECONDS: Final = 10.0  # every rental waits for the answer; many times what a busy server needs


@dataclass(frozen=True, slots=True)
class Price:
    """The price rule of a server.

    Attributes:
        tariff: As the caller gave it, else as the server says, else the REST reference's.
        place: Base URL of the server; `"local"` for an embedded one.
        simulated: The server says that its money is simulated.
        own_fields: The server knows fields that the cloud's contract has not, as it says its price.
        balance: USD of the account; None where the server does not say.
    """

    tariff: Tariff
    place: str
    simulated: bool = False
    balance: Decimal | None = None
    own_fields: bool = False


async def price_of(client: AsyncClient, given: Tariff | None = None) -> Price:
    """Ask the server for its price; what it does not say, or not in time, or not as a price, the REST reference does."""
    try:
        async with asyncio.timeout(_PRICE_SECONDS):
            account = await client.billing.account()
    except (APIError, TimeoutError) as error:
        logger.debug("the account cannot be read: %s", str(error) or "no answer in time")
        return Price(given or Tariff(), client.place, simulated=client.is_local)
    if given is None:
        given = _tariff_of(account.usd_per_hour)
    simulated = client.is_local if account.credits_simulated is None else account.credits_simulated
    own_fields = account.usd_per_hour is not None
    return Price(given, client.place, simulated, account.total_credits_balance_usd, own_fields)


def _tariff_of(usd_per_hour: Decimal | None) -> Tariff:
    reference = Tariff()
    if usd_per_hour is None:
        return reference
    try:
        return Tariff(usd_per_hour)
    except ValueError as error:
        logger.warning(
            "the server's price is not usable (%s); counting with %s USD an hour",
            error,
            reference.usd_per_hour,
        )
        return reference
