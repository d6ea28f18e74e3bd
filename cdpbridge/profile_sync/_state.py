"""A profile as a portable value: Playwright's `storage_state`, cookies, localStorage and IndexedDB, both ways."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cdpbridge.browser import Browser
from cdpbridge.cdp import Connection
from cdpbridge.cdp._cookies import CookieReport, export_cookies, import_cookies
from cdpbridge.errors import ConfigurationError

from ._storage import origin_of, read_storage, write_storage

__all__ = ["StateReport", "export_state", "import_state", "state_of"]

logger = logging.getLogger("cdpbridge")

_KEPT: Final = ("name", "value", "domain", "path", "httpOnly", "secure")


@dataclass(frozen=True, slots=True)
class StateReport:
    """What became of an import.

    Attributes:
        cookies: See `CookieReport`.
        items: How many items of localStorage are there now.
        refused: Origins of which something could not be stored.
        databases: How many databases of IndexedDB were stored.
        lost: What could not be stored, and why, as sentences without values.
    """

    cookies: CookieReport
    items: int
    refused: list[str]
    databases: int = 0
    lost: list[str] = field(default_factory=list)


async def export_state(browser: Browser, *, origins: Iterable[str] = ()) -> dict[str, Any]:
    """Return what a rented browser has, in the form of Playwright's `storage_state`.

    A browser does not tell which origins have storage, so the hosts of its cookies are looked at, and `origins`. No
    site is asked: their pages are answered here. What cannot be part of the state, such as a record of IndexedDB with a
    `Blob`, is named in a warning of the log.

    Args:
        origins: Further ones, e.g. `http://localhost:8000`.

    Raises:
        ConfigurationError: One of `origins` is none.
        CDPError: The browser does not answer.
    """
    return await state_of(browser.connection, origins)


async def state_of(
    connection: Connection, origins: Iterable[str], *, context_id: str | None = None
) -> dict[str, Any]:
    """Return what a browser context has, by default the browser's own. Otherwise as `export_state`."""
    wanted = {origin_of(each) for each in origins}
    cookies = await export_cookies(connection.root.send, context_id)
    hosts = {str(cookie["domain"]).lstrip(".") for cookie in cookies}
    wanted |= {f"{scheme}://{host}" for host in hosts for scheme in ("https", "http")}
    found, lost = await read_storage(connection, wanted, context_id=context_id)
    for sentence in lost:
        logger.warning("not in the exported state: %s", sentence)
    return {"cookies": [_portable(cookie) for cookie in cookies], "origins": found}


async def import_state(browser: Browser, state: Mapping[str, Any]) -> StateReport:
    """Put a `storage_state` into a rented browser; what it has besides stays.

    A database of IndexedDB replaces the one of its name.

    Raises:
        ConfigurationError: This is no storage state.
        CDPError: The browser does not answer.
    """
    cookies, origins = checked_state(state)
    report = await import_cookies(browser.connection.root.send, [_native(cookie) for cookie in cookies])
    stored = await write_storage(browser.connection, origins)
    return StateReport(report, stored.items, stored.refused, stored.databases, stored.lost)


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


def checked_state(state: Any) -> tuple[list[Mapping[str, Any]], Sequence[dict[str, Any]]]:
    """Return the cookies and origins of a `storage_state`.

    Raises:
        ConfigurationError: It is something else. The message repeats no value.
    """
    try:
        parts = {name: state[name] for name in ("cookies", "origins") if name in state}
        if not isinstance(state, Mapping) or not parts:
            raise TypeError("no storage state")
        if not all(isinstance(part, list | tuple) for part in parts.values()):
            raise TypeError("no lists")
        cookies = [
            cookie for cookie in state.get("cookies", ()) if cookie["name"] is not None and cookie["domain"]
        ]
        origins = [
            {
                "origin": origin_of(each["origin"]),
                "localStorage": [
                    {"name": str(item["name"]), "value": str(item["value"])}
                    for item in each.get("localStorage", ())
                ],
                "indexedDB": [_database(database) for database in each.get("indexedDB") or ()],
            }
            for each in state.get("origins", ())
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            "this is no storage state: it needs `cookies` with name, value, domain and path, and `origins` with "
            f"localStorage or indexedDB ({type(error).__name__})"
        ) from None
    return cookies, origins


def _database(given: Mapping[str, Any]) -> dict[str, Any]:
    stores = [
        {**store, "name": str(store["name"]), "records": list(store.get("records") or ())}
        for store in given.get("stores") or ()
    ]
    return {"name": str(given["name"]), "version": int(given["version"]), "stores": stores}
