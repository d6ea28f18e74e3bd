"""Versions of profiles, and why one is not saved or not restored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cdpbridge.errors import CDPBridgeError

__all__ = [
    "NO_VERSION",
    "ProfileNotRestored",
    "ProfileRefused",
    "ProfileTooBig",
    "ProfileVersion",
    "SavedProfile",
]


class ProfileRefused(CDPBridgeError):
    """A profile is not saved because of what its browser has left; the former version stays."""


class ProfileTooBig(ProfileRefused):
    """A profile has more bytes, files or folders than the store takes, or takes too long to copy."""


class ProfileNotRestored(CDPBridgeError):
    """A profile's version is not on this machine and cannot be fetched. Its browser does not start: it would be without its logins."""


@dataclass(frozen=True, slots=True)
class ProfileVersion:
    """The version of a profile that counts, as its row says.

    Attributes:
        number: 0 when none was noted yet.
        archive: Its name in object storage; None when it is kept in a folder of the server.
    """

    number: int = 0
    archive: str | None = None


NO_VERSION: Final = ProfileVersion()


@dataclass(frozen=True, slots=True)
class SavedProfile:
    """A version of a profile.

    Attributes:
        version: From 1, at least one more with each save.
        cookie_domains: Hosts that its cookies belong to, sorted, without leading dots.
        archive: See `ProfileVersion`.
    """

    version: int
    cookie_domains: Sequence[str]
    archive: str | None = None
