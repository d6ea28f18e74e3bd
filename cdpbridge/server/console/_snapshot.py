"""The state of a project as the console shows it: one JSON object, without the addresses that are passwords."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from cdpbridge.server._rentals import Rentals
from cdpbridge.server._settings import Settings, max_timeout_minutes
from cdpbridge.server.gateway import Registry
from cdpbridge.server.hosts import BrowserHosts
from cdpbridge.server.store import Browser, LedgerEntry, LedgerKind, Profile, Store, from_micro_usd

__all__ = ["Snapshots"]

_NEWEST: Final = 50
_PROFILES: Final = 200
_DAYS: Final = 30


@dataclass(slots=True)
class _Days:
    last_id: int
    today: date
    days: list[dict[str, str]]


class Snapshots:
    """Reads the state of projects.

    Args:
        wall: The present, for dates.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        hosts: BrowserHosts,
        registry: Registry,
        rentals: Rentals,
        wall: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._store = store
        self._hosts = hosts
        self._registry = registry
        self._rentals = rentals
        self._wall = wall
        self._days: dict[UUID, _Days] = {}

    @property
    def closing(self) -> bool:
        """Whether the server is on its way out."""
        return self._rentals.closing

    async def project_of(self, key_hash: str) -> UUID | None:
        """The project that a key, by its hash, belongs to now."""
        return await self._store.project_of_hash(key_hash)

    def now(self) -> str:
        """The present by the server's clock."""
        return self._wall().isoformat()

    async def of(self, project_id: UUID) -> dict[str, Any]:
        """Everything the console shows of a project that changes by itself."""
        profiles, _ = await self._store.profiles(project_id, offset=0, limit=_PROFILES)
        names = {profile.id: profile.name for profile in profiles}
        active, _ = await self._store.browsers(
            project_id, active=True, offset=0, limit=self._settings.max_browsers
        )
        ended, ended_total = await self._store.browsers(project_id, active=False, offset=0, limit=_NEWEST)
        account = await self._store.account(project_id)
        plan = self._settings.plan_of(account.name if account else "")
        return {
            "account": {
                "name": account.name if account else None,
                "balanceUsd": str(account.balance) if account else "0",
                "active": len(active),
                "limit": self._settings.max_browsers,
                "plan": plan,
                "maxMinutes": max_timeout_minutes(plan),
                "usdPerHour": str(self._settings.usd_per_hour),
                "countries": sorted(self._settings.proxies),
            },
            "browsers": [self._browser(browser, names) for browser in (*active, *ended)],
            "endedTotal": ended_total,
            "profiles": [_profile(profile) for profile in profiles],
            "days": await self._costs(project_id),
        }

    def _browser(self, browser: Browser, names: dict[UUID, str | None]) -> dict[str, Any]:
        placement = self._hosts.placement(browser.id)
        usage = self._registry.usage(placement.token) if placement else None
        return {
            "id": str(browser.id),
            "state": browser.state,
            "endReason": browser.end_reason,
            "createdAt": _text(browser.created_at),
            "startedAt": _text(browser.started_at),
            "timeoutAt": _text(browser.timeout_at),
            "finishedAt": _text(browser.finished_at),
            "profileId": str(browser.profile_id) if browser.profile_id else None,
            "profileName": names.get(browser.profile_id) if browser.profile_id else None,
            "profileWritable": browser.profile_writable,
            "country": browser.proxy_country,
            "usdPerHour": browser.usd_per_hour,
            "minimumMinutes": browser.minimum_minutes,
            "chargedUsd": str(from_micro_usd(browser.charged_micro_usd)),
            "refundedUsd": str(from_micro_usd(browser.refunded_micro_usd)),
            "clients": usage.clients if usage else 0,
        }

    async def _costs(self, project_id: UUID) -> list[dict[str, str]]:
        """What was paid on each of the last days, oldest first; days without a cost are there too."""
        today = self._wall().astimezone(UTC).date()
        last_id = await self._store.last_entry(project_id)
        cached = self._days.get(project_id)
        if cached is None or (cached.last_id, cached.today) != (last_id, today):
            first = today - timedelta(days=_DAYS - 1)
            entries = await self._store.ledger(project_id, since=datetime.combine(first, time.min, UTC))
            cached = _Days(last_id, today, _per_day(entries, first, today))
            self._days[project_id] = cached
        return cached.days


def _per_day(entries: Sequence[LedgerEntry], first: date, last: date) -> list[dict[str, str]]:
    """Refunds are given to the day on which they were made, as the ledger has it."""
    days = {
        first + timedelta(days=number): [Decimal(0), Decimal(0)] for number in range((last - first).days + 1)
    }
    for entry in entries:
        day = days.get(entry.created_at.date())
        if day is not None and entry.kind != LedgerKind.GRANT:
            day[entry.kind == LedgerKind.REFUND] += from_micro_usd(entry.amount_micro_usd)
    return [
        {"day": day.isoformat(), "chargedUsd": str(-charged), "refundedUsd": str(refunded)}
        for day, (charged, refunded) in days.items()
    ]


def _profile(profile: Profile) -> dict[str, Any]:
    return {
        "id": str(profile.id),
        "name": profile.name,
        "createdAt": _text(profile.created_at),
        "updatedAt": _text(profile.updated_at),
        "lastUsedAt": _text(profile.last_used_at),
        "cookieDomains": profile.cookie_domains,
    }


def _text(instant: datetime | None) -> str | None:
    return instant.isoformat() if instant else None
