"""Why something may not be made now."""

from __future__ import annotations

from cdpbridge.errors import CDPBridgeError

__all__ = [
    "AdmissionRefused",
    "InsufficientCredits",
    "KeyRevoked",
    "KeyTaken",
    "NotStarting",
    "TooManyBrowsers",
    "TooManyProfiles",
]


class AdmissionRefused(CDPBridgeError):
    """A browser or profile may not be made now."""


class TooManyBrowsers(AdmissionRefused):
    """The project holds as many browsers as it may.

    Attributes:
        limit: That number.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} browsers are active, the limit")
        self.limit = limit


class TooManyProfiles(AdmissionRefused):
    """The project has as many profiles as it may.

    Attributes:
        limit: That number.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"the project has {limit} profiles, the limit")
        self.limit = limit


class InsufficientCredits(AdmissionRefused):
    """The project's credits do not pay for the first hour."""


class KeyRevoked(AdmissionRefused):
    """The key that asks was revoked meanwhile."""


class NotStarting(CDPBridgeError):
    """A browser needs no slot: it was stopped while it started, or is another server's now."""


class KeyTaken(CDPBridgeError):
    """Another server has begun a browser for this `Idempotency-Key`: it is that one's."""
