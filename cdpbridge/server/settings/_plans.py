"""Plans of projects, and how long a browser may run on each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

__all__ = ["Plan", "max_timeout_minutes"]

Plan = Literal["free", "paid"]
# REST reference, "Create Browser Session", section Session Limits; for agent sessions its introduction says the same.
_PLAN_MINUTES: Final[Mapping[Plan, int]] = {"free": 15, "paid": 240}


def max_timeout_minutes(plan: Plan) -> int:
    """Return how many minutes a browser or agent session may run on a plan."""
    return _PLAN_MINUTES[plan]
