"""The state of a project as the console shows it: one JSON object, without the addresses that are passwords."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from cdpbridge.server.accounts import Accounts
from cdpbridge.server.files import FileStore
from cdpbridge.server.gateway import Registry
from cdpbridge.server.hosts import BrowserHosts
from cdpbridge.server.live import Live
from cdpbridge.server.recording import Recordings
from cdpbridge.server.rentals import Rentals
from cdpbridge.server.settings import Settings, max_timeout_minutes
from cdpbridge.server.store import (
    AgentSession,
    Browser,
    LedgerEntry,
    LedgerKind,
    Profile,
    Share,
    Store,
    Task,
    from_micro_usd,
)
from cdpbridge.server.tasks.agent import Agents

from ._files import ProjectFiles

__all__ = ["Snapshots"]

_NEWEST: Final = 50
_PROFILES: Final = 200
_DAYS: Final = 30
_TASK_CHARACTERS: Final = 300  # of a task's text; its page has all of it


@dataclass(slots=True)
class _Days:
    last_id: int
    today: date
    days: list[dict[str, str]]


class Snapshots:
    """Reads the state of projects.

    Args:
        isolation: What a test has shown about the isolation of browsers, for a reader.
        wall: The present, for dates.

    Attributes:
        files: Those of projects.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        accounts: Accounts,
        hosts: BrowserHosts,
        registry: Registry,
        rentals: Rentals,
        live: Live,
        agents: Agents,
        files: FileStore,
        recordings: Recordings,
        isolation: str,
        wall: Callable[[], datetime],
    ) -> None:
        self.files = ProjectFiles(store, files, take=hosts.take_downloads)
        self._settings = settings
        self._store = store
        self._accounts = accounts
        self._hosts = hosts
        self._registry = registry
        self._rentals = rentals
        self._live = live
        self._agents = agents
        self._recordings = recordings
        self._isolation = isolation
        self._wall = wall
        self._days: dict[UUID, _Days] = {}

    @property
    def closing(self) -> bool:
        """True once the server is stopping."""
        return self._rentals.closing

    async def project_of(self, key_hash: str) -> UUID | None:
        """Return the project that a key, by its hash, belongs to now."""
        identity = await self._accounts.identify(key_hash)
        return None if identity is None else identity.project_id

    async def is_operator(self, key_hash: str) -> bool:
        """Return True if the key with this hash may manage projects, keys and credits."""
        identity = await self._accounts.identify(key_hash)
        return identity is not None and identity.admin

    def now(self) -> str:
        """Return the present by the server's clock."""
        return self._wall().isoformat()

    async def thumbnail(self, project_id: UUID, browser_id: UUID) -> bytes | None:
        """Return a JPEG of a running browser of the project, at most a few seconds old; None when there is none."""
        browser = await self._store.browser(project_id, browser_id)
        return None if browser is None or browser.over else await self._live.thumbnail(browser_id)

    async def ledger(self, project_id: UUID, *, limit: int) -> dict[str, Any]:
        """Return the newest entries of the ledger, each with the balance after it, newest first; and how many there are."""
        entries, total = await self._store.newest_entries(project_id, limit=limit)
        return {"entries": [_entry(entry, balance) for entry, balance in entries], "total": total}

    async def of(self, project_id: UUID) -> dict[str, Any]:
        """Return everything the console shows of a project that changes by itself."""
        profiles, _ = await self._store.profiles(project_id, offset=0, limit=_PROFILES)
        names = {profile.id: profile.name for profile in profiles}
        limit = self._accounts.limit(project_id)
        # A limit may have been lowered below what runs.
        active, _ = await self._store.browsers(project_id, active=True, offset=0, limit=max(limit, _NEWEST))
        ended, ended_total = await self._store.browsers(project_id, active=False, offset=0, limit=_NEWEST)
        shares = await self._store.shares(project_id)
        sessions, tasks = await self._newest_work(project_id, {share.session_id for share in shares})
        account = await self._store.account(project_id)
        plan = self._accounts.plan(project_id)
        return {
            "account": {
                "name": account.name if account else None,
                "balanceUsd": str(account.balance) if account else "0",
                "active": len(active),
                "limit": limit,
                "plan": plan,
                "maxMinutes": max_timeout_minutes(plan),
                "usdPerHour": str(self._settings.usd_per_hour),
                "simulated": self._settings.money_simulated and not (account and account.has_own_credits),
                "canRecord": self._recordings.offered,
                "countries": sorted(self._settings.proxies),
                "isolation": self._isolation,
            },
            "browsers": [self._browser(browser, names) for browser in (*active, *ended)],
            "endedTotal": ended_total,
            "agents": {"models": self._agents.known(), "refusal": self._agents.refusal()},
            "sessions": sessions,
            "tasks": tasks,
            "shares": [_share(share) for share in shares],
            "profiles": [_profile(profile) for profile in profiles],
            "days": await self._costs(project_id),
            "lastEntry": await self._store.last_entry(project_id),
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
            "countrySimulated": browser.proxy_simulated or False,
            "usdPerHour": browser.usd_per_hour,
            "label": (browser.labels or {}).get("label"),
            "minimumMinutes": browser.minimum_minutes,
            "chargedUsd": str(from_micro_usd(browser.charged_micro_usd)),
            "refundedUsd": str(from_micro_usd(browser.refunded_micro_usd)),
            "clients": usage.clients if usage else 0,
            "recording": browser.recording,
        }

    async def _newest_work(
        self, project_id: UUID, shared: set[UUID]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the newest agent sessions and the newest tasks."""
        sessions, _ = await self._store.agent_sessions(project_id, active=None, offset=0, limit=_NEWEST)
        tasks, _ = await self._store.tasks(project_id, offset=0, limit=_NEWEST)
        steps = await self._store.step_counts([task.id for task in tasks])
        return (
            [_session(session, browser, shared=session.id in shared) for session, browser in sessions],
            [_task(task, steps.get(task.id, 0)) for task in tasks],
        )

    async def _costs(self, project_id: UUID) -> list[dict[str, str]]:
        """Return what was paid on each of the last days, oldest first; days without a cost are there too."""
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


def _session(session: AgentSession, browser: Browser, *, shared: bool) -> dict[str, Any]:
    return {
        "id": str(session.id),
        "browserId": str(browser.id),
        "state": browser.state,
        "endReason": browser.end_reason,
        "createdAt": _text(session.created_at),
        "startedAt": _text(browser.started_at),
        "timeoutAt": _text(browser.timeout_at),
        "finishedAt": _text(browser.finished_at),
        "keepAlive": session.keep_alive,
        "shared": shared,
        "usdPerHour": browser.usd_per_hour,
        "minimumMinutes": browser.minimum_minutes,
        "chargedUsd": str(from_micro_usd(browser.charged_micro_usd)),
        "refundedUsd": str(from_micro_usd(browser.refunded_micro_usd)),
    }


def _task(task: Task, steps: int) -> dict[str, Any]:
    return {
        "id": str(task.id),
        "sessionId": str(task.session_id),
        "llm": task.llm,
        "task": task.task[:_TASK_CHARACTERS],
        "state": task.state,
        "endReason": task.end_reason,
        "createdAt": _text(task.created_at),
        "finishedAt": _text(task.finished_at),
        "isSuccess": task.is_success,
        "steps": steps,
    }


def _share(share: Share) -> dict[str, Any]:
    """Return a share without its token, which is an address to watch at for all who have it."""
    return {
        "sessionId": str(share.session_id),
        "views": share.view_count,
        "lastViewedAt": _text(share.last_viewed_at),
        "createdAt": _text(share.created_at),
    }


def _entry(entry: LedgerEntry, balance: Decimal) -> dict[str, Any]:
    return {
        "id": entry.id,
        "at": _text(entry.created_at),
        "kind": entry.kind,
        "entry": entry.entry,
        "browserId": str(entry.browser_id) if entry.browser_id else None,
        "amountUsd": str(from_micro_usd(entry.amount_micro_usd)),
        "balanceUsd": str(balance),
    }


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
