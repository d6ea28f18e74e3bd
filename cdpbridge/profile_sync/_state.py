"""A profile as a portable value: Playwright's `storage_state`, cookies, localStorage and IndexedDB, both ways."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cdpbridge.browser import Browser
from cdpbridge.cdp import Connection
from cdpbridge.cdp._cookies import (
    CookieId,
    CookieReport,
    SortedCookies,
    export_cookies,
    set_sorted,
    sort_cookies,
)
from cdpbridge.errors import ConfigurationError

from ._exporters import cookies_txt, extension_list
from ._formats import GivenState, given_state
from ._storage import origin_of, read_storage, write_storage

__all__ = ["StateReport", "export_state", "import_state", "state_of"]

logger = logging.getLogger("cdpbridge")

_KEPT: Final = ("name", "value", "domain", "path", "httpOnly", "secure")
_NOT_EXPORTED: Final = "not in the exported state: %s"
_SHOWN: Final = 5  # reasons in one message


@dataclass(frozen=True, slots=True)
class StateReport:
    """What became of an import.

    Attributes:
        cookies: See `CookieReport`.
        items: How many items of localStorage are there now.
        refused: Origins of which something could not be stored.
        databases: How many databases of IndexedDB were stored.
        lost: What else could not be stored, and why, as sentences without values.
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
    wanted |= {origin for cookie in cookies for origin in _origins_of(cookie)}
    found, lost = await read_storage(connection, wanted, context_id=context_id)
    for sentence in lost:
        logger.warning(_NOT_EXPORTED, sentence)
    return {"cookies": [_portable(cookie) for cookie in movable(cookies)], "origins": found}


def movable(cookies: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the cookies that another browser can have; the others are named in a warning of the log."""
    found = []
    for cookie in cookies:
        if cookie.get("partitionKeyOpaque"):
            reason = "its partition is opaque: no site can be in it again"
            logger.warning(_NOT_EXPORTED, CookieId(cookie["name"], cookie["domain"], reason))
        else:
            found.append(cookie)
    return found


async def export_in_form(browser: Browser, form: str) -> tuple[str, int]:
    """Return the cookies of a rented browser as the text of a file, and how many are in it.

    Args:
        form: `cookies.txt` or `json`, the list of the cookies API of extensions.

    Raises:
        CDPError: The browser does not answer.
    """
    cookies = movable(await export_cookies(browser.connection.root.send))
    if form == "json":
        return json.dumps(extension_list(cookies), indent=2), len(cookies)
    text, lost = cookies_txt(cookies)
    for each in lost:
        logger.warning(_NOT_EXPORTED, each)
    return text, len(cookies) - len(lost)


async def import_state(
    browser: Browser, state: Mapping[str, Any] | Sequence[Mapping[str, Any]] | GivenState
) -> StateReport:
    """Put a `storage_state` into a rented browser; what it has besides stays.

    A database of IndexedDB replaces the one of its name. Cookies may be in the spelling of any usual exporter. One that no
    browser can have is named in the report, with its reason, and the others arrive.

    Args:
        state: Playwright's `storage_state`, a list of cookies, or what `read_state` has found in a file.

    Raises:
        ConfigurationError: This is no storage state, or nothing in it can be imported.
        CDPError: The browser does not answer.
    """
    checked = checked_state(state)
    report = await set_sorted(browser.connection.root.send, checked.cookies)
    stored = await write_storage(browser.connection, checked.origins)
    return StateReport(report, stored.items, stored.refused, stored.databases, [*checked.lost, *stored.lost])


def _origins_of(cookie: Mapping[str, Any]) -> set[str]:
    """Return the origins that a cookie may be of."""
    host = str(cookie["domain"]).lstrip(".")
    found = {f"https://{host}", f"http://{host}"}
    # The port of the server that set it, as for a site under development.
    if (port := cookie.get("sourcePort", -1)) not in {-1, 80, 443}:
        scheme = "https" if cookie.get("sourceScheme") == "Secure" else "http"
        found.add(f"{scheme}://{host}:{port}")
    return found


def _portable(cookie: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: cookie[name] for name in _KEPT}
    kept["expires"] = -1 if cookie.get("session") else cookie["expires"]
    kept["sameSite"] = cookie.get("sameSite") or "Lax"  # what Chromium takes a cookie for that says nothing
    partition = cookie.get("partitionKey")
    if isinstance(partition, Mapping):  # as Playwright writes it
        kept["partitionKey"] = partition.get("topLevelSite")
        kept["_crHasCrossSiteAncestor"] = bool(partition.get("hasCrossSiteAncestor"))
    return kept


@dataclass(frozen=True, slots=True)
class CheckedState:
    """A state that can be imported.

    Attributes:
        cookies: The good ones, and what is wrong with the others.
        origins: As of Playwright's `storage_state`; secrets.
        lost: What cannot be imported, and why, as sentences without values.
    """

    cookies: SortedCookies = field(repr=False)
    origins: list[dict[str, Any]] = field(repr=False)
    lost: list[str]


def checked_state(state: object) -> CheckedState:
    """Read a state before anything is rented for it.

    Raises:
        ConfigurationError: It is none, or nothing in it can be imported. The message repeats no value.
    """
    given = given_state(state)
    cookies = sort_cookies(given.cookies, url=given.url)
    lost = list(given.lost)
    origins = []
    for each in given.origins:
        try:
            origin = _origin(each, lost)
        except ConfigurationError as error:
            lost.append(str(error))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                "this is no storage state: each of its `origins` needs origin, and localStorage with name and value or "
                f"indexedDB with name, version and stores ({type(error).__name__})"
            ) from None
        else:
            origins.append(origin)
    if given.cookies and not cookies.good and not origins:
        reasons = [str(each) for each in (*cookies.failed, *cookies.expired)]
        more = f", and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
        raise ConfigurationError(f"no cookie in it can be imported: {'; '.join(reasons[:_SHOWN])}{more}")
    return CheckedState(cookies, origins, lost)


def _origin(given: Mapping[str, Any], lost: list[str]) -> dict[str, Any]:
    items, databases = given.get("localStorage") or (), given.get("indexedDB") or ()
    if isinstance(items, Mapping):
        items = [{"name": name, "value": value} for name, value in items.items()]
    checked = {
        "origin": origin_of(str(given["origin"])),
        "localStorage": [{"name": str(item["name"]), "value": _text(item["value"])} for item in items],
        "indexedDB": [_database(database) for database in databases],
    }
    if given.get("sessionStorage"):
        lost.append(f"{checked['origin']}: sessionStorage is of one tab, and no profile has it")
    return checked


def _text(value: object) -> str:
    """Return a value of localStorage, which are texts, as a page would write another one there."""
    return value if isinstance(value, str) else json.dumps(value)


def _database(given: Mapping[str, Any]) -> dict[str, Any]:
    stores = [
        {**store, "name": str(store["name"]), "records": list(store.get("records") or ())}
        for store in given.get("stores") or ()
    ]
    return {"name": str(given["name"]), "version": int(given["version"]), "stores": stores}
