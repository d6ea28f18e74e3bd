"""All cookies of a browser out of it, and into another one. Their values appear in no message, log or repr."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

from cdpbridge.errors import CommandError

__all__ = ["CookieId", "CookieReport", "export_cookies", "import_cookies"]

Send: TypeAlias = Callable[..., Awaitable[Any]]
"""`CDPSession.send` of a root session."""

# What Storage.setCookies takes (type Network.CookieParam) of what Storage.getCookies gives (type Network.Cookie). Left
# out are `size`, `session`, `partitionKeyOpaque` and `sameParty`; `expires` depends on `session`.
_KEPT: Final = (
    "name",
    "value",
    "domain",
    "path",
    "secure",
    "httpOnly",
    "sameSite",
    "priority",
    "sourceScheme",
    "sourcePort",
    "partitionKey",
)


class CookieId(NamedTuple):
    """A cookie without its value."""

    name: str
    domain: str


@dataclass(frozen=True, slots=True)
class CookieReport:
    """Result of an import of cookies. Cookies that had expired meanwhile are not in it.

    Attributes:
        imported: How many the browser has now.
        failed: Those it refused.
        dropped: Those it accepted and does not have: it keeps 180 for one domain, and removes the oldest above.
    """

    imported: int
    failed: list[CookieId] = field(default_factory=list)
    dropped: list[CookieId] = field(default_factory=list)


async def export_cookies(send: Send, context_id: str | None = None) -> list[dict[str, Any]]:
    """Return all cookies of a context, by default the browser's own, as `Storage.getCookies` gives them, session cookies included."""
    reply = await send("Storage.getCookies", None if context_id is None else {"browserContextId": context_id})
    return list(reply["cookies"])


async def import_cookies(send: Send, cookies: Sequence[Mapping[str, Any]]) -> CookieReport:
    """Set what `export_cookies` gave.

    The browser takes a list of cookies whole or not at all, so a list that it refuses is halved until it is known which
    of them are at fault; the others arrive.

    Raises:
        CDPError: The browser does not answer.
    """
    now = time.time()
    current = [cookie for cookie in cookies if _is_current(cookie, now)]
    refused = await _set(send, current)
    present = {_key(cookie) for cookie in await export_cookies(send)}
    accepted = [cookie for cookie in current if not any(cookie is other for other in refused)]
    dropped = [cookie for cookie in accepted if _key(cookie) not in present]
    return CookieReport(len(accepted) - len(dropped), [*map(_id, refused)], [*map(_id, dropped)])


async def _set(send: Send, cookies: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Set cookies and return those that were refused."""
    if not cookies:
        return []
    try:
        await send("Storage.setCookies", {"cookies": [_param(cookie) for cookie in cookies]})
    except CommandError:
        if len(cookies) == 1:
            return list(cookies)
        half = len(cookies) // 2
        return [*await _set(send, cookies[:half]), *await _set(send, cookies[half:])]
    return []


def _param(cookie: Mapping[str, Any]) -> dict[str, Any]:
    param = {name: cookie[name] for name in _KEPT if cookie.get(name) is not None}
    if not _is_session(cookie):
        param["expires"] = cookie["expires"]
    return param


def _is_session(cookie: Mapping[str, Any]) -> bool:
    expires = cookie.get("expires")
    return bool(cookie.get("session")) or expires is None or expires == -1


def _is_current(cookie: Mapping[str, Any], now: float) -> bool:
    expires = cookie.get("expires")
    return _is_session(cookie) or not isinstance(expires, int | float) or expires > now


def _id(cookie: Mapping[str, Any]) -> CookieId:
    return CookieId(str(cookie.get("name", "")), str(cookie.get("domain", "")))


def _key(cookie: Mapping[str, Any]) -> tuple[object, ...]:
    """Return what makes two cookies the same one (RFC 6265 section 5.3, and the partition)."""
    partition = cookie.get("partitionKey")
    if isinstance(partition, Mapping):
        partition = tuple(sorted(partition.items()))
    return cookie.get("name"), cookie.get("domain"), cookie.get("path", "/"), partition
