"""Shares of the processors between projects: who uses much goes behind those who use little.

The kernel's weights say how processors are shared out, and not how soon a process runs that has waited for a message. A browser
that computes without end is ready to run at any moment: with any weight, others wait for the end of its slice of time. So browsers
of a project that uses much, while others have browsers too, only get what is left; that costs nothing where something is left.

Which projects: those above a part of the machine's processors, shared out evenly. What stays in front uses less than that part in
all, so that the others are never without the rest.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from cdpbridge._concurrency import TaskSet

from ._cgroups import Cgroup

__all__ = ["ProcessorShares", "Use", "heavy"]

logger = logging.getLogger("cdpbridge.server")

_EVERY_SECONDS: Final = 0.25
# Of the processors, for what stays in front of those that use much.
_FRONT: Final = 0.5
# A browser that has used much stays behind for so long after that: pages compute and rest in turns.
_BEHIND_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Use:
    """What a browser uses.

    Attributes:
        processors: On average, since it was looked at before.
    """

    browser: UUID
    project: UUID | None
    processors: float


def heavy(uses: Iterable[Use], *, projects: int, processors: float) -> set[UUID]:
    """Return the browsers that go behind: of each project that uses too much those that use most, until the others do not.

    Args:
        uses: Of all browsers.
        projects: That have browsers, or wait for one.
        processors: Of the machine.
    """
    if projects < 2:
        return set()
    limit = processors * _FRONT / projects
    by_project: dict[UUID | None, list[Use]] = {}
    for use in uses:
        by_project.setdefault(use.project, []).append(use)
    found = set()
    for own in by_project.values():
        total = sum(use.processors for use in own)
        for use in sorted(own, key=lambda each: each.processors, reverse=True):
            if total <= limit:
                break
            found.add(use.browser)
            total -= use.processors
    return found


class Running(Protocol):
    """A browser that runs, as far as it is looked at."""

    @property
    def id(self) -> UUID:
        """Of its rental."""

    @property
    def project_id(self) -> UUID | None:
        """Whose it is."""

    @property
    def cgroup(self) -> Cgroup | None:
        """Its control group; None for none."""


class ProcessorShares:
    """Looks at what browsers use, while several projects have some, and sets whether each goes behind.

    Args:
        running: Returns the browsers that run.
        processors: Of the machine.
        clock: Monotonic, seconds.
    """

    def __init__(
        self,
        running: Callable[[], Sequence[Running]],
        processors: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._running = running
        self._processors = processors
        self._clock = clock
        self._starting: Counter[UUID | None] = Counter()
        self._before: dict[UUID, tuple[float, float]] = {}  # when, and the processor time until then, seconds
        self._until: dict[UUID, float] = {}
        self._projects_behind: set[UUID | None] = set()
        self._work = TaskSet(logger)

    @contextmanager
    def starts(self, project: UUID | None) -> Iterator[None]:
        """Count a browser that is being started as one of its project's, and look from now on if that makes several projects."""
        self._starting[project] += 1
        self._begin()
        try:
            yield
        finally:
            self._starting[project] -= 1

    def is_behind(self, project: UUID | None) -> bool:
        """Return True if browsers of a project are behind: further ones of it start as those do that run."""
        return project in self._projects_behind

    async def close(self) -> None:
        """End it."""
        await self._work.cancel()

    @property
    def _projects(self) -> int:
        waiting = {project for project, number in self._starting.items() if number}
        return len(waiting | {each.project_id for each in self._running()})

    def _begin(self) -> None:
        if not len(self._work) and self._projects > 1:
            self._work.start(self._look_on(), "the shares of processors")

    async def _look_on(self) -> None:
        """Look from time to time, until one project is left, and nothing behind."""
        while self._projects > 1 or self._until:
            browsers = list(self._running())
            try:
                await asyncio.to_thread(self._look, browsers, self._projects)
            except Exception:
                logger.exception("the processors cannot be shared out between projects")
                return
            await asyncio.sleep(_EVERY_SECONDS)
        self._before.clear()

    def _look(self, browsers: Sequence[Running], projects: int) -> None:
        """Look once. Blocks for a moment."""
        now, before = self._clock(), set(self._until)
        groups = {each.id: each.cgroup for each in browsers if each.cgroup is not None}
        used = {
            browser: seconds for browser, group in groups.items() if (seconds := group.used()) is not None
        }
        uses = [
            Use(each.id, each.project_id, (used[each.id] - seconds) / max(now - at, 0.001))
            for each in browsers
            if each.id in used
            for at, seconds in (self._before.get(each.id, (now, used[each.id])),)
        ]
        self._before = {browser: (now, seconds) for browser, seconds in used.items()}
        for browser in heavy(uses, projects=projects, processors=self._processors):
            self._until[browser] = now + _BEHIND_SECONDS
        self._until = {
            browser: until for browser, until in self._until.items() if until > now and browser in groups
        }
        for browser, group in groups.items():
            behind = browser in self._until
            if behind != (browser in before):
                group.go_behind(behind)
        self._projects_behind = {each.project_id for each in browsers if each.id in self._until}
