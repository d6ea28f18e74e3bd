"""Which build of Chromium a browser runs on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cdpbridge.chromium import Build, Kind, find
from cdpbridge.errors import BrowserNotFound, ConfigurationError

__all__ = ["Builds"]


@dataclass(frozen=True, slots=True)
class Builds:
    """The builds of a machine.

    Attributes:
        usual: For browsers without a profile.
        for_profile: For those with one: the full build where there is a choice, since it alone keeps passwords and preferences.
        ordered: The operator has named the build, so that what it cannot do is no surprise.
    """

    usual: Build
    for_profile: Build
    ordered: bool = False

    @classmethod
    def found(cls, kind: Kind | None, path: Path | None) -> Self:
        """Find them; a kind or a path that is ordered goes for both.

        Raises:
            BrowserNotFound: There is none, or the ordered one cannot be run.
            ConfigurationError: The one at `path` is of the other kind.
        """
        usual = find(kind, path)
        if kind is not None or path is not None:
            return cls(usual, usual, ordered=True)
        try:
            return cls(usual, find("full"))
        except (
            BrowserNotFound,
            ConfigurationError,
        ):  # not installed, or the environment names a headless shell
            return cls(usual, usual)

    @property
    def profile_losses(self) -> tuple[str, ...]:
        """The parts of a profile that are not kept here: the headless shell has no password store and no settings."""
        return ("passwords", "preferences") if self.for_profile.kind == "shell" else ()
