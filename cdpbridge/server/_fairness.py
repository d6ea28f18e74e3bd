"""The order of a queue: round robin over projects, first come, first served within one. Pure."""

from __future__ import annotations

__all__ = ["fair_round"]


def fair_round(first: int | None, own_last: int | None) -> int:
    """Return the round in which an order is served; within a round, who joined first is.

    A project has one order in each round, so one that has ordered a hundred browsers is served once before one that orders its
    first. Nothing is kept of those that were served: a project that comes back joins the round that is served now.

    Args:
        first: The round that is served now: the lowest of all that wait; None when none waits.
        own_last: The highest round of this project's orders that wait; None when none does.
    """
    now = 0 if first is None else first
    return now if own_last is None else max(now, own_last + 1)
