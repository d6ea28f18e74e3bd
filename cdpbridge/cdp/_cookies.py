"""All cookies of a browser out of it, and into another one. Their values appear in no message, log or repr."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from cdpbridge.errors import CommandError

from ._cookie_forms import CookieError, cookie_form, described

__all__ = [
    "CookieId",
    "CookieReport",
    "SortedCookies",
    "export_cookies",
    "import_cookies",
    "set_sorted",
    "sort_cookies",
]

Send: TypeAlias = Callable[..., Awaitable[Any]]
"""`CDPSession.send` of a root session."""

# Chromium ends a connection that sends it a message of more than 100 MiB; a cookie may have 5 KiB.
_AT_ONCE: Final = 5000
_UNUSUAL_IN_PATH: Final = re.compile(r"[^a-zA-Z0-9/_~.-]|/\.|//")
_NOT_KEPT: Final = (
    "the browser has not kept it; it keeps 180 cookies of a domain, and removes the oldest above"
)


@dataclass(frozen=True, slots=True)
class CookieId:
    """A cookie without its value.

    Attributes:
        name: Its name; empty if it has none.
        domain: Its domain, as it was given.
        reason: What is wrong with it. Two of these are equal whatever it is.
    """

    name: str
    domain: str
    reason: str = field(default="", compare=False)

    def __str__(self) -> str:
        name = self.name if self.name.isprintable() else repr(self.name)
        domain = self.domain if self.domain.isprintable() else repr(self.domain)
        who = f"{name or 'a cookie without a name'} of {domain or 'no domain'}"
        return f"{who}: {self.reason}" if self.reason else who


@dataclass(frozen=True, slots=True)
class CookieReport:
    """Result of an import of cookies.

    Attributes:
        imported: How many the browser has now.
        failed: Those that no browser can have, or that this one refused.
        dropped: Those it accepted and does not have: it keeps 180 for one domain, and removes the oldest above.
        changed: Those it has, without something that a browser does not keep.
        expired: Those whose time was over.
    """

    imported: int
    failed: list[CookieId] = field(default_factory=list)
    dropped: list[CookieId] = field(default_factory=list)
    changed: list[CookieId] = field(default_factory=list)
    expired: list[CookieId] = field(default_factory=list)


class GoodCookie(NamedTuple):
    """A cookie that can be set.

    Attributes:
        param: As `Storage.setCookies` takes it.
        which: What it was called.
        changed: What it cannot keep, and why; empty when it is whole.
    """

    param: dict[str, Any]
    which: CookieId
    changed: str


@dataclass(slots=True)
class SortedCookies:
    """Cookies in any spelling, read: those that can be set, and the others, as of `CookieReport`."""

    good: list[GoodCookie] = field(default_factory=list)
    failed: list[CookieId] = field(default_factory=list)
    expired: list[CookieId] = field(default_factory=list)


async def export_cookies(send: Send, context_id: str | None = None) -> list[dict[str, Any]]:
    """Return all cookies of a context, by default the browser's own, as `Storage.getCookies` gives them, session cookies included."""
    reply = await send("Storage.getCookies", None if context_id is None else {"browserContextId": context_id})
    return list(reply["cookies"])


def sort_cookies(cookies: Iterable[object], *, url: str | None = None) -> SortedCookies:
    """Read cookies in the spelling of any exporter; `url` is the site of those that name none."""
    found = SortedCookies()
    now = time.time()
    for number, cookie in enumerate(cookies, 1):
        try:
            form = cookie_form(cookie, url=url)
        except CookieError as error:
            name, domain = described(cookie)
            # Without a name, its place in the list tells which one it is.
            reason = str(error) if name else f"number {number}: {error}"
            found.failed.append(CookieId(name, domain, reason))
            continue
        which = CookieId(form.param["name"], form.param["domain"])
        if form.param.get("expires", now + 1) <= now:
            found.expired.append(replace(which, reason="it has expired"))
        else:
            found.good.append(GoodCookie(form.param, which, form.changed))
    return found


async def import_cookies(send: Send, cookies: Iterable[object]) -> CookieReport:
    """Set what `export_cookies` gave, or cookies in the spelling of any other exporter.

    The browser takes a list of cookies whole or not at all, so a list that it refuses is halved until it is known which
    of them are at fault; the others arrive.

    Raises:
        CDPError: The browser does not answer.
    """
    return await set_sorted(send, sort_cookies(cookies))


async def set_sorted(send: Send, found: SortedCookies) -> CookieReport:
    """Set what `sort_cookies` has found good. Otherwise as `import_cookies`."""
    refused = []
    for start in range(0, len(found.good), _AT_ONCE):
        refused += await _set(send, found.good[start : start + _AT_ONCE])
    at_fault = {id(each.param) for each in refused}
    present = _Present(await export_cookies(send))
    report = CookieReport(0, [*found.failed, *map(_refused, refused)], expired=found.expired)
    kept = set()
    for param, which, changed in found.good:
        if id(param) in at_fault:
            continue
        bare = param | {"domain": param["domain"].removeprefix(".")}
        if param in present:
            reason = changed
        elif bare in present:
            # Chromium does so with names under which anyone registers, such as co.uk.
            reason = "kept for its host alone: hosts below it are sites of their own"
        else:
            report.dropped.append(replace(which, reason=_NOT_KEPT))
            continue
        kept.add(
            (*_key(param), param.get("path"), str(param.get("partitionKey")))
        )  # a file may have a cookie twice
        if reason:
            report.changed.append(replace(which, reason=reason))
    return replace(report, imported=len(kept))


async def _set(send: Send, cookies: Sequence[GoodCookie]) -> list[GoodCookie]:
    """Set cookies and return those that were refused."""
    if not cookies:
        return []
    try:
        await send("Storage.setCookies", {"cookies": [each.param for each in cookies]})
    except CommandError:
        if len(cookies) == 1:
            return list(cookies)
        half = len(cookies) // 2
        return [*await _set(send, cookies[:half]), *await _set(send, cookies[half:])]
    return []


def _refused(cookie: GoodCookie) -> CookieId:
    partitioned = "partitionKey" in cookie.param and not cookie.param.get("secure")
    reason = "it is partitioned, which needs Secure" if partitioned else "the browser refuses it"
    return replace(cookie.which, reason=reason)


class _Present:
    """The cookies that a browser has, by what makes two of them the same one (RFC 6265 section 5.3, and the partition)."""

    def __init__(self, cookies: Iterable[Mapping[str, Any]]) -> None:
        self._cookies: dict[tuple[object, ...], list[Mapping[str, Any]]] = {}
        for cookie in cookies:
            self._cookies.setdefault(_key(cookie), []).append(cookie)

    def __contains__(self, param: Mapping[str, Any]) -> bool:
        path = param.get("path", "/")
        return any(
            _is_same_partition(param.get("partitionKey"), each.get("partitionKey"))
            # The browser writes an unusual path as URLs have it.
            and (path == each["path"] or (_UNUSUAL_IN_PATH.search(path) and param["value"] == each["value"]))
            for each in self._cookies.get(_key(param), ())
        )


def _key(cookie: Mapping[str, Any]) -> tuple[object, ...]:
    return cookie.get("name"), cookie.get("domain")


def _is_same_partition(given: Any, kept: Any) -> bool:
    if not given or not kept:
        return not given and not kept
    if given.get("hasCrossSiteAncestor") != kept.get("hasCrossSiteAncestor"):
        return False
    # The browser keeps the site of the address that it was given: without a port, and without what is below the site.
    wanted, there = urlsplit(given["topLevelSite"]), urlsplit(kept["topLevelSite"])
    host, site = wanted.hostname or "", there.hostname or ""
    return wanted.scheme == there.scheme and (host == site or host.endswith(f".{site}"))
