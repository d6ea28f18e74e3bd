"""What a judge is shown of a task."""

from __future__ import annotations

from typing import Final

from ._base import AgentStep

__all__ = ["Trajectory"]

_KEPT_STEPS: Final = 200
"""At the beginning of a trajectory, and as many at its end."""


class Trajectory:
    """The steps of an agent, as far as a judge needs them. Bounded: of very many, those in the middle are dropped."""

    def __init__(self) -> None:
        self._first: list[AgentStep] = []
        self._last: list[AgentStep] = []

    def add(self, step: AgentStep) -> None:
        if len(self._first) < _KEPT_STEPS:
            self._first.append(step)
            return
        self._last.append(step)
        del self._last[:-_KEPT_STEPS]

    @property
    def steps(self) -> list[AgentStep]:
        """In their order."""
        return [*self._first, *self._last]
