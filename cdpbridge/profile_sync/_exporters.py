"""Cookies of a browser in the forms of other programs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from cdpbridge.cdp._cookies import CookieId

__all__ = ["cookies_txt", "extension_list"]

_HEAD: Final = "# Netscape HTTP Cookie File\n"
_SAME_SITES: Final = {"None": "no_restriction", "Lax": "lax", "Strict": "strict"}


def cookies_txt(cookies: Sequence[Mapping[str, Any]]) -> tuple[str, list[CookieId]]:
    """Return the table that curl, wget and yt-dlp read, and the cookies that it has no column for.

    It has none for SameSite.

    Args:
        cookies: As `Storage.getCookies` gives them.
    """
    lines, lost = [], []
    for cookie in cookies:
        name, value, domain = str(cookie["name"]), str(cookie["value"]), str(cookie["domain"])
        if cookie.get("partitionKey") or cookie.get("partitionKeyOpaque"):
            lost.append(CookieId(name, domain, "it is partitioned, and a cookies.txt has no column for that"))
            continue
        if "\t" in name + value:
            lost.append(CookieId(name, domain, "it has a tab, and a cookies.txt has tabs between columns"))
            continue
        # 0 for a session, as curl writes it; without it, curl would take the next column for this one.
        columns = (
            f"{'#HttpOnly_' if cookie.get('httpOnly') else ''}{domain}",
            _flag(domain.startswith(".")),
            str(cookie["path"]),
            _flag(bool(cookie.get("secure"))),
            "0" if _is_session(cookie) else str(int(cookie["expires"])),
            name,
            value,
        )
        lines.append("\t".join(columns) + "\n")
    return _HEAD + "".join(lines), lost


def extension_list(cookies: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the list of the cookies API of extensions, which EditThisCookie and Cookie-Editor read.

    Args:
        cookies: As `Storage.getCookies` gives them.
    """
    return [_extension_cookie(cookie) for cookie in cookies if not cookie.get("partitionKeyOpaque")]


def _extension_cookie(cookie: Mapping[str, Any]) -> dict[str, Any]:
    session = _is_session(cookie)
    written: dict[str, Any] = {
        "domain": cookie["domain"],
        "hostOnly": not str(cookie["domain"]).startswith("."),
        "httpOnly": bool(cookie.get("httpOnly")),
        "name": cookie["name"],
        "path": cookie["path"],
        "sameSite": _SAME_SITES.get(cookie.get("sameSite", ""), "unspecified"),
        "secure": bool(cookie.get("secure")),
        "session": session,
        "storeId": "0",
        "value": cookie["value"],
    }
    if not session:
        written["expirationDate"] = cookie["expires"]
    if cookie.get("partitionKey"):
        written["partitionKey"] = dict(cookie["partitionKey"])
    return written


def _is_session(cookie: Mapping[str, Any]) -> bool:
    return bool(cookie.get("session")) or cookie.get("expires", -1) < 0


def _flag(value: bool) -> str:
    return "TRUE" if value else "FALSE"
