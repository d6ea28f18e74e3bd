"""Routes by the part of the server that they are about: a part is imported when the first request for it comes.

A server that rents browsers and nothing else never loads its console, its agents or its live view.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.routing import BaseRoute

__all__ = ["RouteGroup", "RouteGroups"]


@dataclass(frozen=True, slots=True)
class RouteGroup:
    """Routes that are loaded together.

    Attributes:
        load: Imports the part and returns its routes, in the order of their matching.
        paths: What it answers: each of these, and what is below it; none: it is loaded from the start.
    """

    load: Callable[[], Sequence[BaseRoute]]
    paths: tuple[str, ...] = ()

    def answers(self, path: str) -> bool:
        """Return True if a request for `path` may be for one of its routes."""
        return not self.paths or any(path == each or path.startswith(f"{each}/") for each in self.paths)


class RouteGroups:
    """The routes of a server that are loaded so far.

    Args:
        groups: In the order of their matching, whatever is loaded first.
    """

    def __init__(self, groups: Sequence[RouteGroup]) -> None:
        self._groups = groups
        self._loaded: list[Sequence[BaseRoute] | None] = [None] * len(groups)
        self._missing = len(groups)
        self._load(lambda group: not group.paths)

    @property
    def routes(self) -> list[BaseRoute]:
        """Those that are loaded."""
        return [route for loaded in self._loaded for route in loaded or ()]

    def load_for(self, path: str) -> bool:
        """Load what may answer a request for `path`; True if there are new routes."""
        return self._missing > 0 and self._load(lambda group: group.answers(path))

    def load_all(self) -> bool:
        """Load the rest; True if there are new routes."""
        return self._load(lambda _group: True)

    def _load(self, wanted: Callable[[RouteGroup], bool]) -> bool:
        before = self._missing
        for place, group in enumerate(self._groups):
            if self._loaded[place] is None and wanted(group):
                self._loaded[place] = group.load()
                self._missing -= 1
        return self._missing < before
