"""The cost of a rented browser. Pure: no clock, no I/O; money is `Decimal`, durations are `timedelta`.

The rule (REST reference, "Create" and "Update Browser Session", read 2026-11): the hourly price is charged upfront for
each started hour; at the stop, the unused minutes of that hour are refunded. Minutes are rounded up, and
at least one is billed. The reference says "nearest" in one place and "ceil" in the newer one; ceil is the rule here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from cdpbridge._durations import paid_time

__all__ = [
    "DEFAULT_TIMEOUT",
    "Forecast",
    "HostBytes",
    "Receipt",
    "Tariff",
    "billed_minutes",
    "charge",
    "cost",
    "forecast",
    "money_text",
    "refund",
    "round_money",
]

DEFAULT_TIMEOUT: Final = timedelta(minutes=60)
"""How long a browser may run when its order does not say (REST reference, "Create Browser Session", read 2026-11)."""

_MICRO_USD: Final = Decimal("0.000001")
_MINUTE: Final = timedelta(minutes=1)
_MINUTES_PER_HOUR: Final = 60


@dataclass(frozen=True, slots=True)
class Tariff:
    """A price rule, as data: the cloud changed its price before and will again.

    Attributes:
        usd_per_hour: Price of one browser hour. Default: REST reference, "Create Browser Session", 0.05 USD.
        minimum_minutes: Least number of minutes billed. Default: the same page, 1.
    """

    usd_per_hour: Decimal = Decimal("0.05")
    minimum_minutes: int = 1

    def __post_init__(self) -> None:
        if not self.usd_per_hour.is_finite() or self.usd_per_hour < 0:
            raise ValueError(f"usd_per_hour must be a price of zero or more, not {self.usd_per_hour}")
        if self.minimum_minutes < 0:
            raise ValueError(f"minimum_minutes must not be negative, not {self.minimum_minutes}")


def round_money(amount: Decimal) -> Decimal:
    """Round to whole millionths of a USD, half to even, as amounts are booked and shown. Done once, at the end."""
    return amount.quantize(_MICRO_USD, rounding=ROUND_HALF_EVEN)


def billed_minutes(tariff: Tariff, used: timedelta) -> int:
    """Return the minutes that are billed for `used`: rounded up, at least the tariff's minimum.

    Raises:
        ValueError: `used` is negative.
    """
    if used < timedelta(0):
        raise ValueError(f"used time must not be negative, not {used}")
    whole, rest = divmod(used, _MINUTE)
    return max(tariff.minimum_minutes, whole + (1 if rest else 0))


def charge(tariff: Tariff, used: timedelta) -> Decimal:
    """Return the USD charged so far for a browser that has run for `used`: one full hour for each hour that has started.

    At `used` = 0 the first hour is charged; the second one when its first minute starts, i.e. after exactly 60 minutes
    nothing more is charged yet.

    Raises:
        ValueError: `used` is negative.
    """
    return round_money(_hours_started(tariff, used) * tariff.usd_per_hour)


def cost(tariff: Tariff, used: timedelta) -> Decimal:
    """Return the USD that `used` costs in the end: its billed minutes at the minute price.

    Raises:
        ValueError: `used` is negative.
    """
    return charge(tariff, used) - refund(tariff, used)


def refund(tariff: Tariff, used: timedelta) -> Decimal:
    """Return the USD refunded when a browser stops after `used`: the charge less the billed minutes. Never negative.

    30 of 60 minutes at 0.05 USD an hour refund 0.025.

    Args:
        tariff: Price rule in force when the browser was created.
        used: Start to stop.

    Raises:
        ValueError: `used` is negative.

    Source:
        REST reference, "Update Browser Session", section Refund, read 2026-11.
    """
    minutes_paid = _hours_started(tariff, used) * _MINUTES_PER_HOUR
    minutes_left = minutes_paid - billed_minutes(tariff, used)
    return round_money(tariff.usd_per_hour * minutes_left / _MINUTES_PER_HOUR)


@dataclass(frozen=True, slots=True)
class Forecast:
    """The cost of a rental, known before it begins.

    Attributes:
        upfront: USD charged when it starts: its first hour.
        least: USD it costs if it is stopped at once.
        most: USD it costs if it runs until its timeout.
        minutes: Minutes billed then.
    """

    upfront: Decimal
    least: Decimal
    most: Decimal
    minutes: int

    def __str__(self) -> str:
        return f"{money_text(self.upfront)} USD upfront, {money_text(self.least)} to {money_text(self.most)} USD in the end"


def forecast(tariff: Tariff, timeout: timedelta = DEFAULT_TIMEOUT) -> Forecast:
    """Return the cost of a browser that may run for `timeout`.

    Raises:
        ConfigurationError: `timeout` is no timedelta, or negative.
    """
    paid_time("timeout", timeout)
    nothing = timedelta(0)
    return Forecast(
        charge(tariff, nothing), cost(tariff, nothing), cost(tariff, timeout), billed_minutes(tariff, timeout)
    )


def _hours_started(tariff: Tariff, used: timedelta) -> int:
    return max(1, -(-billed_minutes(tariff, used) // _MINUTES_PER_HOUR))


def money_text(amount: Decimal | int) -> str:
    """Return an amount without exponent and without zeros at its end, e.g. `0.05`."""
    return f"{Decimal(amount).normalize():f}" if amount else "0"


@dataclass(frozen=True, slots=True)
class HostBytes:
    """Payload that was exchanged with one host.

    Attributes:
        host: Its name or address, without a port; None for all hosts that the server does not count one by one.
        sent: Bytes towards it.
        received: Bytes from it.
    """

    host: str | None
    sent: int
    received: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """The cost of one rental by the price rule, next to the server's figures.

    Attributes:
        used: Start to stop, by the server's clock.
        billed_minutes: `used`, rounded up by the tariff's rule.
        charged: USD charged upfront for the started hours.
        refunded: USD refunded at the stop.
        booked: USD that the server itself says this rental cost; None where it does not say.
        account_change: How far the account balance moved meanwhile, in USD; None where it was not read. Other rentals of
            the same account move it too.
        simulated: The server says that its money is simulated: nothing is paid.
        place: Where it ran: `cloud`, `this machine`, or a server's host and port; empty where that is not known.
        simulated_country: The proxy country, when the server has no proxy there and connected directly.
        traffic: Bytes by host, the most first; empty where the server does not say. The journal does not keep it.
    """

    used: timedelta
    billed_minutes: int
    charged: Decimal
    refunded: Decimal
    booked: Decimal | None = None
    account_change: Decimal | None = None
    simulated_country: str | None = None
    simulated: bool = False
    place: str = ""
    traffic: tuple[HostBytes, ...] = ()

    @property
    def paid(self) -> Decimal:
        """USD in the end: `charged - refunded`."""
        return self.charged - self.refunded

    @property
    def cost(self) -> Decimal:
        """USD that the rental cost: as the server booked it, else by the written rule."""
        return self.paid if self.booked is None else self.booked

    @property
    def difference(self) -> Decimal | None:
        """USD that the server took above (or, negative, below) `paid`; None where the server gives no figure."""
        if self.booked is not None:
            return round_money(self.booked - self.paid)
        if self.account_change is not None:
            return round_money(-self.account_change - self.paid)
        return None

    @classmethod
    def of(
        cls,
        tariff: Tariff,
        used: timedelta,
        *,
        booked: Decimal | None = None,
        account_change: Decimal | None = None,
        simulated_country: str | None = None,
        simulated: bool = False,
        place: str = "",
        traffic: Iterable[HostBytes] = (),
    ) -> Receipt:
        """Return the receipt that the price rule gives for `used`.

        Raises:
            ValueError: `used` is negative.
        """
        return cls(
            used,
            billed_minutes(tariff, used),
            charge(tariff, used),
            refund(tariff, used),
            booked,
            account_change,
            simulated_country,
            simulated,
            place,
            tuple(traffic),
        )

    @classmethod
    def total(cls, receipts: Sequence[Receipt]) -> Receipt:
        """Return one receipt for several rentals; the server's figures are kept if it gives them for each."""
        booked = [receipt.booked for receipt in receipts if receipt.booked is not None]
        changes = [receipt.account_change for receipt in receipts if receipt.account_change is not None]
        return cls(
            sum((receipt.used for receipt in receipts), timedelta(0)),
            sum(receipt.billed_minutes for receipt in receipts),
            sum((receipt.charged for receipt in receipts), Decimal(0)),
            sum((receipt.refunded for receipt in receipts), Decimal(0)),
            sum(booked, Decimal(0)) if receipts and len(booked) == len(receipts) else None,
            sum(changes, Decimal(0)) if receipts and len(changes) == len(receipts) else None,
            next((receipt.simulated_country for receipt in receipts if receipt.simulated_country), None),
            bool(receipts) and all(receipt.simulated for receipt in receipts),
            ", ".join(dict.fromkeys(receipt.place for receipt in receipts if receipt.place)),
            _added_up(receipt.traffic for receipt in receipts),
        )

    def __str__(self) -> str:
        unit = "simulated USD" if self.simulated else "USD"
        if self.place:
            unit += f", {self.place}"
        text = (
            f"charged {money_text(self.charged)}, used {self.billed_minutes} min, "
            f"refunded {money_text(self.refunded)}, paid {money_text(self.paid)} ({unit})"
        )
        if self.difference:
            source = "the server booked" if self.booked is not None else "the account balance fell by"
            text += f"; {source} {money_text(self.paid + self.difference)}"
        if self.simulated_country is not None:
            text += f"; proxy country {self.simulated_country!r} was simulated: traffic went out directly"
        return text


def _added_up(traffic: Iterable[Iterable[HostBytes]]) -> tuple[HostBytes, ...]:
    """Add up bytes by host, the most first; what stands for other hosts comes last."""
    found: dict[str | None, HostBytes] = {}
    for each in (each for some in traffic for each in some):
        before = found.get(each.host, HostBytes(each.host, 0, 0))
        found[each.host] = HostBytes(each.host, before.sent + each.sent, before.received + each.received)
    return tuple(
        sorted(
            found.values(), key=lambda each: (each.host is None, -each.sent - each.received, each.host or "")
        )
    )
