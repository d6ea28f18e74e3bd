"""What may be spent: ceilings in USD, minutes and concurrent browsers. Pure: no clock, no I/O.

A running browser may yet use all of its time, so a ceiling counts it as if it did; what it does not use is free again
when it is stopped. Therefore money is refused before it is spent, and no ceiling is ever passed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Final, Self
from uuid import uuid4

from cdpbridge.billing import DEFAULT_TIMEOUT, Forecast, Tariff, forecast, money_text
from cdpbridge.errors import ConfigurationError

__all__ = ["Budget", "Claim", "Usage", "Verdict", "judge"]

MACHINE: Final = "machine"
"""Scope of a budget that counts every rental in the journal."""

_VARIABLES: Final = "CDPBRIDGE_BUDGET_"
_DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Budget:
    """Ceilings for rented browsers; None is no ceiling.

    A budget counts the rentals that were made with it, in whatever task or, when it has a `name`, process; with
    `whole_machine`, it counts every rental that the journal knows.

    Attributes:
        usd: Most that may be spent within `per`, in USD: a number, a text or a `Decimal`.
        minutes: Most browser minutes within `per`.
        browsers: Most browsers at once.
        per: The window of `usd` and `minutes`: they count what ended within it, and what still runs. Default: a day.
        name: Processes that use the same name share one budget.
        whole_machine: True if it counts all rentals in the journal.

    Raises:
        ConfigurationError: A ceiling is negative or no number, or `per` is not positive.
    """

    usd: Decimal | None = None
    minutes: int | None = None
    browsers: int | None = None
    per: timedelta = _DAY
    name: str | None = None
    whole_machine: bool = False
    _tag: str = field(default="", repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.usd is not None:
            object.__setattr__(self, "usd", _usd(self.usd))
        for word, value in (("minutes", self.minutes), ("browsers", self.browsers)):
            if value is not None and (value != int(value) or value < 0):
                raise ConfigurationError(
                    f"a budget's {word} must be a whole number, zero or more, not {value!r}"
                )
        if not isinstance(self.per, timedelta):
            raise ConfigurationError(
                f"a budget's per must be a timedelta, not {self.per!r}: use timedelta(hours=24)"
            )
        if self.per <= timedelta(0):
            raise ConfigurationError(f"a budget's per must be positive, not {self.per}")
        if self.name is not None and self.whole_machine:
            raise ConfigurationError(
                "a budget of the whole machine counts the rentals of all programs, so it has no name"
            )
        object.__setattr__(self, "_tag", self.name or str(uuid4()))

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> Self | None:
        """Read the budget of the whole machine from the environment: `CDPBRIDGE_BUDGET_USD`, `_MINUTES` (both a day), `_BROWSERS`.

        Raises:
            ConfigurationError: One of them is no number.
        """
        found = {
            word: environment[_VARIABLES + word.upper()]
            for word in ("usd", "minutes", "browsers")
            if environment.get(_VARIABLES + word.upper())
        }
        if not found:
            return None
        try:
            return cls(
                usd=_usd(found["usd"]) if "usd" in found else None,
                minutes=int(found["minutes"]) if "minutes" in found else None,
                browsers=int(found["browsers"]) if "browsers" in found else None,
                whole_machine=True,
            )
        except ValueError as error:
            raise ConfigurationError(
                f"{_VARIABLES}USD, {_VARIABLES}MINUTES, {_VARIABLES}BROWSERS: {error}"
            ) from error

    @property
    def scope(self) -> str:
        """The rentals it counts; equal for budgets that share one."""
        return MACHINE if self.whole_machine else f"budget {self._tag}"

    def __str__(self) -> str:
        whose = (
            "of this machine" if self.whole_machine else f"{self.name!r}" if self.name else "of this program"
        )
        return f"the budget {whose}"


def _usd(value: Decimal | str | float) -> Decimal:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise ConfigurationError(f"a budget's usd must be an amount of zero or more, not {value!r}")
    return amount


@dataclass(frozen=True, slots=True)
class Claim:
    """What a rental may use at most.

    Attributes:
        tariff: Its price rule.
        timeout: How long it may run; None for the server's default, taken as the REST reference's 60 minutes.
    """

    tariff: Tariff
    timeout: timedelta | None

    @property
    def forecast(self) -> Forecast:
        return forecast(self.tariff, self.timeout or DEFAULT_TIMEOUT)


@dataclass(frozen=True, slots=True)
class Usage:
    """What has been rented in a scope.

    Attributes:
        usd: Spent by rentals that ended within the window.
        minutes: Billed to them.
        running: Those that run, each as what it may use at most.
    """

    usd: Decimal = Decimal(0)
    minutes: int = 0
    running: Sequence[Claim] = ()


class Verdict(Enum):
    """The result of `judge`."""

    YES = "yes"
    FULL = "full"
    """As many browsers run as are allowed: there is a free one when one of them ends."""
    LATER = "later"
    """What running browsers do not use of their time may leave enough."""
    NEVER = "never"
    """Not within the window, whatever ends."""


def judge(budget: Budget, usage: Usage, claim: Claim) -> tuple[Verdict, str]:
    """Judge whether one more rental fits; return the verdict and, if it does not fit, why."""
    most = claim.forecast
    held_usd = sum((each.forecast.most for each in usage.running), Decimal(0))
    held_minutes = sum(each.forecast.minutes for each in usage.running)
    if budget.browsers is not None and len(usage.running) >= budget.browsers:
        why = f"{budget} allows {budget.browsers} browsers at once"
        return (Verdict.FULL if budget.browsers else Verdict.NEVER), why
    for unit, ceiling, spent, held, asked in (
        ("USD", budget.usd, usage.usd, held_usd, most.most),
        ("minutes", budget.minutes, usage.minutes, held_minutes, most.minutes),
    ):
        if ceiling is None or spent + held + asked <= ceiling:
            continue
        why = (
            f"{budget} allows {money_text(ceiling)} {unit} in {budget.per / _HOUR:g} hours: {money_text(spent)} are spent, running browsers "
            f"may use {money_text(held)} more, and this one {money_text(asked)}"
        )
        # What runs gives back at most all but its minimum; waiting helps only if that would be enough.
        least = sum((_least(each, unit) for each in usage.running), Decimal(0))
        return (Verdict.LATER if usage.running and spent + least + asked <= ceiling else Verdict.NEVER), why
    return Verdict.YES, ""


def _least(claim: Claim, unit: str) -> Decimal:
    return claim.forecast.least if unit == "USD" else Decimal(claim.tariff.minimum_minutes)
