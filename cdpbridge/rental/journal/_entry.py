"""One rental in the journal, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from cdpbridge.billing import Receipt, Tariff
from cdpbridge.rental._budget import Claim

from ._owner import Owner

__all__ = ["Entry", "Outcome"]


class Outcome(StrEnum):
    """How an entry was closed."""

    STOPPED = "stopped"
    """The server confirmed that the browser is stopped, or has forgotten it."""
    REFUSED = "refused"
    """The server refused the create; nothing was rented."""
    NOTHING = "nothing"
    """The create was sent, but no browser came of it."""
    SERVER_ENDED = "server_ended"
    """It ran on an embedded server, and ended with it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One rental.

    Attributes:
        rental: Our id, sent as `Idempotency-Key`.
        place: Base URL of the server; `"local"` for an embedded one.
        account: Fingerprint of the API key.
        owner: The process that rented it.
        tariff: Price rule of its receipt.
        intended_at: When it was ordered, by this machine's clock.
        timeout: As ordered; None for the server's default.
        profile: As ordered: a name or an id.
        country: Country of the proxy as ordered; None for none or the server's choice.
        label: The program's own word for it.
        simulated: The server says that its money is simulated.
        scopes: Of the budgets that count it.
        active_before: Browsers that were active when it was ordered; None where the server did not tell.
        browser_id: None until the server's answer.
        started_at: By the server's clock.
        timeout_at: By the server's clock.
        given_up: Its owner could not stop it, or could not learn what its create brought, and leaves it to `reap`.
        ended_at: When the end was known here; None before.
        outcome: How it ended.
        receipt: What it cost; None where that is not known.
    """

    rental: UUID
    place: str
    account: str
    owner: Owner
    tariff: Tariff
    intended_at: datetime
    timeout: timedelta | None = None
    profile: str | None = None
    country: str | None = None
    label: str | None = None
    simulated: bool = False
    scopes: tuple[str, ...] = ()
    active_before: frozenset[UUID] | None = None
    browser_id: UUID | None = None
    started_at: datetime | None = None
    timeout_at: datetime | None = None
    given_up: bool = False
    ended_at: datetime | None = None
    outcome: Outcome | None = None
    receipt: Receipt | None = None

    @property
    def is_open(self) -> bool:
        """True if it may still cost money."""
        return self.ended_at is None

    @property
    def claim(self) -> Claim:
        """What it may use at most."""
        if self.timeout_at is not None and self.started_at is not None:
            return Claim(self.tariff, self.timeout_at - self.started_at)
        return Claim(self.tariff, self.timeout)

    def __str__(self) -> str:
        name = f" ({self.label})" if self.label else ""
        what = f"browser {self.browser_id}" if self.browser_id else "a browser that is being rented"
        end = f", until {self.timeout_at:%H:%M:%S %Z}" if self.timeout_at else ""
        return f"{what} of {self.owner}{name}, since {self.started_at or self.intended_at:%H:%M:%S %Z}{end}"
