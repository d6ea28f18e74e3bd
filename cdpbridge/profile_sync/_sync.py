"""From a local browser into a hosted profile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from cdpbridge._cookies import CookieReport, import_cookies
from cdpbridge.api import AsyncClient
from cdpbridge.billing import Receipt
from cdpbridge.browser import open_browser

from ._local import read_local

__all__ = ["SyncReport", "select", "sync"]

_TIMEOUT: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What became of a sync. Names and domains of cookies only, no values.

    Attributes:
        source: Browser and folder they came from.
        found: Cookies there, before the choice of domains.
        chosen: After it.
        cookies: What the hosted browser has of them.
        skipped: Left out when they were read: of containers, or unreadable.
        running: The local browser is running, so its newest may be missing.
        saved: Whether the profile is saved; None if the server does not say.
        receipt: Of the rental it took.
    """

    source: str
    found: int
    chosen: int
    cookies: CookieReport
    skipped: int
    running: bool
    saved: bool | None
    receipt: Receipt | None

    @property
    def dropped_domains(self) -> dict[str, int]:
        """How many the browser did not keep, by domain: it holds 180 for one, and removes the oldest above."""
        return dict(Counter(each.domain for each in self.cookies.dropped))


def select(cookies: Sequence[Mapping[str, Any]], domains: Iterable[str]) -> list[Mapping[str, Any]]:
    """The cookies of these domains and what is below them; all of them when none is named."""
    wanted = [domain.strip().lower().strip(".") for domain in domains]
    if not wanted:
        return list(cookies)
    return [
        cookie
        for cookie in cookies
        if any(
            host == domain or host.endswith(f".{domain}")
            for host in (str(cookie["domain"]).lower().lstrip("."),)
            for domain in wanted
        )
    ]


async def sync(
    source: str | Path,
    *,
    client: AsyncClient | str | None = None,
    to: str,
    domains: Iterable[str] = (),
) -> SyncReport:
    """Bring the cookies of a browser on this machine into a hosted profile; what the profile has besides stays.

    Args:
        source: As of `read_local`.
        client: As of `open_browser`.
        to: The profile's name, made if missing, or its id.
        domains: Only these, with what is below them.

    Raises:
        ConfigurationError: There is nothing to read.
        CDPBridgeError: As of `open_browser`.
    """
    local = await read_local(source)
    chosen = select(local.cookies, domains)
    async with open_browser(client, profile=to, timeout=_TIMEOUT) as browser:
        report = await import_cookies(browser.connection.root.send, chosen)
    return SyncReport(
        source=local.source,
        found=len(local.cookies),
        chosen=len(chosen),
        cookies=report,
        skipped=local.skipped,
        running=local.running,
        saved=browser.profile_writable,
        receipt=browser.receipt,
    )
