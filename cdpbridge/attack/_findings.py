"""What came of an attack. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

__all__ = ["OUTCOMES", "Finding", "Outcome", "Verdict", "allowed", "held", "through", "untried"]

Outcome = Literal["held", "allowed", "through", "untried"]

OUTCOMES: Final[tuple[Outcome, ...]] = ("through", "allowed", "held", "untried")
"""The gravest first."""


class Verdict(NamedTuple):
    """What came of one attack, and how that was seen."""

    outcome: Outcome
    detail: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One attack and what came of it.

    Attributes:
        area: `"files"`, `"programs"`, `"network"` or `"projects"`.
        attack: What was tried.
        outcome: `"held"`: it was refused, or had no effect. `"through"`: it was not. `"allowed"`: it was not, and the server
            says that its settings allow it. `"untried"`: it could not be tried here, or its effect not be seen.
        detail: What was seen, or why it was not tried.
    """

    area: str
    attack: str
    outcome: Outcome
    detail: str


def held(detail: str) -> Verdict:
    """Return the verdict on an attack without effect."""
    return Verdict("held", detail)


def through(detail: str) -> Verdict:
    """Return the verdict on an attack that worked."""
    return Verdict("through", detail)


def allowed(detail: str) -> Verdict:
    """Return the verdict on an attack that worked, as the server's settings allow."""
    return Verdict("allowed", detail)


def untried(detail: str) -> Verdict:
    """Return the verdict on an attack that could not be tried, or whose effect could not be seen."""
    return Verdict("untried", detail)
