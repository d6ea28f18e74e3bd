"""A profile as a portable value: Playwright's `storage_state`, cookies and localStorage, both ways."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from cdpbridge._cookies import CookieReport, export_cookies, import_cookies
from cdpbridge.browser import Browser
from cdpbridge.errors import CDPError, ConfigurationError
from cdpbridge.tab import Tab

__all__ = ["StateReport", "export_state", "import_state"]

_KEPT: Final = ("name", "value", "domain", "path", "httpOnly", "secure")
_EMPTY: Final = base64.b64encode(b"<!doctype html><title></title>").decode()
_READ: Final = "Object.entries(localStorage).map(([name, value]) => ({name, value}))"


@dataclass(frozen=True, slots=True)
class StateReport:
    """What became of an import.

    Attributes:
        cookies: See `CookieReport`.
        items: How many items of localStorage are there now.
        refused: Origins whose items could not be stored, all or some.
    """

    cookies: CookieReport
    items: int
    refused: list[str]


async def export_state(browser: Browser, *, origins: Iterable[str] = ()) -> dict[str, Any]:
    """What a rented browser has, in the form of Playwright's `storage_state`.

    A browser does not tell which origins have localStorage, so the hosts of its cookies are looked at, and `origins`. No
    site is asked: their pages are answered here.

    Args:
        origins: Further ones, e.g. `http://localhost:8000`.

    Raises:
        ConfigurationError: One of `origins` is none.
        CDPError: The browser does not answer.
    """
    cookies = await export_cookies(browser.connection.root.send)
    hosts = {str(cookie["domain"]).lstrip(".") for cookie in cookies}
    wanted = {_origin(each) for each in origins}
    wanted |= {f"{scheme}://{host}" for host in hosts for scheme in ("https", "http")}
    found = []
    async with _quiet_page(browser) as tab:
        for origin in sorted(wanted):
            await tab.goto(f"{origin}/")
            items = await tab.evaluate(_READ)
            if items:
                found.append({"origin": origin, "localStorage": items})
    return {"cookies": [_portable(cookie) for cookie in cookies], "origins": found}


async def import_state(browser: Browser, state: Mapping[str, Any]) -> StateReport:
    """Put a `storage_state` into a rented browser; what it has besides stays.

    Raises:
        ConfigurationError: This is no storage state.
        CDPError: The browser does not answer.
    """
    cookies, origins = _checked(state)
    report = await import_cookies(browser.connection.root.send, [_native(cookie) for cookie in cookies])
    items, refused = 0, []
    if origins:
        async with _quiet_page(browser) as tab:
            for origin, pairs in origins:
                try:
                    await tab.goto(f"{origin}/")
                    kept = await tab.evaluate(_write(pairs))
                except CDPError as error:
                    if browser.connection.closed:
                        raise
                    kept = 0
                    del error  # its text may quote the page
                items += kept
                if kept < len(pairs):
                    refused.append(origin)
    return StateReport(report, items, refused)


def _write(pairs: list[tuple[str, str]]) -> str:
    return f"""(pairs => {{
        let kept = 0;
        for (const [name, value] of pairs) {{
            try {{ localStorage.setItem(name, value) }} catch {{ continue }}
            kept += localStorage.getItem(name) === value;
        }}
        return kept;
    }})({json.dumps(pairs)})"""


@asynccontextmanager
async def _quiet_page(browser: Browser) -> AsyncIterator[Tab]:
    """A page that is of whatever origin it is sent to, without that anybody is asked for it."""
    tab = await browser.new_tab()
    session = tab.session

    async def answer(event: dict[str, Any]) -> None:
        await session.send(
            "Fetch.fulfillRequest",
            {
                "requestId": event["requestId"],
                "responseCode": 200,
                "responseHeaders": [{"name": "Content-Type", "value": "text/html"}],
                "body": _EMPTY,
            },
        )

    try:
        await session.send("Network.enable")
        await session.send("Network.setBypassServiceWorker", {"bypass": True})
        session.on("Fetch.requestPaused", answer)
        await session.send("Fetch.enable")
        yield tab
    finally:
        if session.closed is None:
            await tab.close()


def _portable(cookie: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: cookie[name] for name in _KEPT}
    kept["expires"] = -1 if cookie.get("session") else cookie["expires"]
    kept["sameSite"] = cookie.get("sameSite") or "Lax"  # what Chromium takes a cookie for that says nothing
    partition = cookie.get("partitionKey")
    if isinstance(partition, Mapping):  # as Playwright writes it
        kept["partitionKey"] = partition.get("topLevelSite")
        kept["_crHasCrossSiteAncestor"] = bool(partition.get("hasCrossSiteAncestor"))
    return kept


def _native(cookie: Mapping[str, Any]) -> dict[str, Any]:
    native = {name: cookie[name] for name in (*_KEPT, "expires", "sameSite") if name in cookie}
    if isinstance(cookie.get("partitionKey"), str):
        native["partitionKey"] = {
            "topLevelSite": cookie["partitionKey"],
            "hasCrossSiteAncestor": bool(cookie.get("_crHasCrossSiteAncestor")),
        }
    return native


def _checked(
    state: Mapping[str, Any],
) -> tuple[list[Mapping[str, Any]], list[tuple[str, list[tuple[str, str]]]]]:
    try:
        cookies = [
            cookie for cookie in state.get("cookies", ()) if cookie["name"] is not None and cookie["domain"]
        ]
        origins = [
            (
                _origin(each["origin"]),
                [(str(item["name"]), str(item["value"])) for item in each["localStorage"]],
            )
            for each in state.get("origins", ())
        ]
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigurationError(
            "this is no storage state: it needs `cookies` with name, value, domain and path, and `origins` with "
            f"localStorage ({type(error).__name__})"
        ) from None
    return cookies, origins


def _origin(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/"):
        raise ConfigurationError(
            f"{text!r} is no origin; it looks like https://example.com or http://localhost:8000"
        )
    return f"{parts.scheme}://{parts.netloc}"
