"""From a local browser into a hosted profile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from cdpbridge.api import AsyncClient
from cdpbridge.billing import Receipt
from cdpbridge.browser import Browser, open_browser
from cdpbridge.cdp._cookies import CookieReport, import_cookies

from ._domains import in_domains, select
from ._local import LocalState, read_local
from ._places import LocalProfile
from ._preferences import write_preferences
from ._storage import StorageReport, write_storage

__all__ = ["SyncReport", "sync", "sync_state"]

_TIMEOUT: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class SyncReport:
    """The result of a sync. Names and domains only, no values.

    Attributes:
        source: Browser and folder they came from.
        found: Cookies there, before the choice of domains.
        chosen: After it.
        cookies: What the hosted browser has of them.
        skipped: Left out when they were read: of containers, or unreadable.
        running: The local browser is running, so its newest may be missing.
        saved: True if the profile is saved; None if the server does not say.
        receipt: Of the rental it took.
        items: How many items of localStorage the hosted browser has of it.
        databases: How many databases of IndexedDB.
        preferences: How many preferences.
        lost: What was found and could not be brought, as sentences.
    """

    source: str
    found: int
    chosen: int
    cookies: CookieReport
    skipped: int
    running: bool
    saved: bool | None
    receipt: Receipt | None
    items: int = 0
    databases: int = 0
    preferences: int = 0
    lost: list[str] = field(default_factory=list)

    @property
    def dropped_domains(self) -> dict[str, int]:
        """How many the browser did not keep, by domain: it holds 180 for one, and removes the oldest above."""
        return dict(Counter(each.domain for each in self.cookies.dropped))


async def sync(
    source: str | Path | LocalProfile,
    *,
    provider: AsyncClient | str | None = None,
    to: str,
    domains: Iterable[str] = (),
    preferences: bool | None = None,
) -> SyncReport:
    """Bring cookies, localStorage, IndexedDB and preferences of a browser on this machine into a hosted profile.

    What the profile has besides stays; a database of IndexedDB replaces the one of its name. Nothing is read before the
    local browser has been found, and nothing is rented before it has been read.

    Args:
        source: As of `read_local`.
        provider: As of `open_browser`.
        to: The profile's name, created if there is none, or its id.
        domains: Only these, with what is below them.
        preferences: True to bring preferences, too. Default: True if no domain is named.

    Raises:
        ConfigurationError: There is nothing to read.
        CDPBridgeError: As of `open_browser`.
    """
    chosen = list(domains)
    local = await read_local(source, domains=chosen)
    return await sync_state(local, provider=provider, to=to, domains=chosen, preferences=preferences)


async def sync_state(
    local: LocalState,
    *,
    provider: AsyncClient | str | None = None,
    to: str,
    domains: Iterable[str] = (),
    preferences: bool | None = None,
) -> SyncReport:
    """Bring what `read_local` has found into a hosted profile; arguments and errors as of `sync`."""
    wanted = list(domains)
    cookies = select(local.cookies, wanted)
    settings = local.preferences if (not wanted if preferences is None else preferences) else []
    async with open_browser(provider, profile=to, timeout=_TIMEOUT) as browser:
        report = await import_cookies(browser.connection.root.send, cookies)
        origins = [each for each in local.origins if in_domains(each["origin"], wanted)]
        stored = await write_storage(browser.connection, origins)
        kept = await _set_preferences(browser, settings, stored)
    return SyncReport(
        source=local.source,
        found=len(local.cookies),
        chosen=len(cookies),
        cookies=report,
        skipped=local.skipped,
        running=local.running,
        saved=browser.profile_writable,
        receipt=browser.receipt,
        items=stored.items,
        databases=stored.databases,
        preferences=kept,
        lost=[*local.lost, *stored.lost],
    )


async def _set_preferences(browser: Browser, wanted: list[tuple[str, Any]], report: StorageReport) -> int:
    if not wanted:
        return 0
    refused = await write_preferences(browser.connection, wanted)
    if refused is None:
        report.lost.append(f"{len(wanted)} preferences: the hosted browser has no settings page")
        return 0
    if refused:
        report.lost.append(f"preferences that the hosted browser does not take: {', '.join(sorted(refused))}")
    return len(wanted) - len(refused)
