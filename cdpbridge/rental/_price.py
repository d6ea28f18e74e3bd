"""What the server of a client charges, and whether that is money."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from decimal import Decimal

from cdpbridge.api import AsyncClient
from cdpbridge.billing import Tariff
from cdpbridge.errors import APIError

__all__ = ["Price", "price_of"]

logger = logging.getLogger("cdpbridge")


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
    """Ask the server for its price; what it does not say, the REST reference does."""
    try:
        account = await client.billing.account()
    except APIError as error:
        logger.debug("the account cannot be read: %s", error)
        return Price(given or Tariff(), client.place, simulated=client.is_local)
    if given is None:
        given = Tariff() if account.usd_per_hour is None else Tariff(account.usd_per_hour)
    simulated = client.is_local if account.credits_simulated is None else account.credits_simulated
    own_fields = account.usd_per_hour is not None
    return Price(given, client.place, simulated, account.total_credits_balance_usd, own_fields)
