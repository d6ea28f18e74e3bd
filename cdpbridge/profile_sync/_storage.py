"""localStorage and IndexedDB of the origins of a browser, both ways, over CDP. No site is asked: its page is answered here."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlsplit

import idna

from cdpbridge.browser._tab import Tab
from cdpbridge.cdp import Connection
from cdpbridge.errors import CommandError, ConfigurationError, EvaluationError, NavigationError

from ._tabs import own_tab

__all__ = ["StorageReport", "origin_of", "read_storage", "write_storage"]

_EMPTY: Final = base64.b64encode(b"<!doctype html><title></title>").decode()
_PORTS: Final = {"http": 80, "https": 443}
# A database of some hundred megabytes takes seconds to read, and as long to send.
_TIMEOUT: Final = timedelta(minutes=2)
# Chromium ends a connection that sends it a message of more than 100 MiB.
_LARGEST: Final = 90 * 1024 * 1024
# Within a text of JSON its first quote has a backslash before it, or its last one has.
_PROTO_KEY: Final = re.compile(r'(?<!\\)"__proto__":')


@dataclass(slots=True)
class StorageReport:
    """What became of the storage of origins. Names only, no values.

    Attributes:
        items: How many items of localStorage are there now.
        databases: How many databases of IndexedDB.
        refused: Origins of which something could not be stored.
        lost: What that was, and why, as sentences.
    """

    items: int = 0
    databases: int = 0
    refused: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def lose(self, origin: str, what: str) -> None:
        """Note that something of an origin could not be stored."""
        if origin not in self.refused:
            self.refused.append(origin)
        self.lost.append(f"{origin}: {what}")


async def read_storage(
    connection: Connection, origins: Iterable[str], *, context_id: str | None = None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the storage of `origins`: those that have any, in the form of Playwright's `storage_state`, and what was lost.

    Raises:
        CDPError: The browser does not answer.
    """
    found, lost = [], []
    async with _quiet_page(connection, context_id) as page:
        for origin in sorted(set(origins)):
            if not await page.go(origin):
                continue
            entry: dict[str, Any] = {"origin": origin, "localStorage": await page.call("readItems")}
            databases = []
            for each in await page.call("databases"):
                try:
                    read = await page.call("readDatabase", each)
                except EvaluationError as error:
                    lost.append(f"{origin}: the database {each['name']}: {_first_line(error)}")
                    continue
                databases.append(read["database"])
                lost += [f"{origin}: the database {each['name']}: {reason}" for reason in read["lost"]]
            if databases:
                entry["indexedDB"] = databases
            if entry["localStorage"] or databases:
                found.append(entry)
    return found, lost


async def write_storage(connection: Connection, origins: Sequence[Mapping[str, Any]]) -> StorageReport:
    """Store what `read_storage` gave. Items are added to what is there; a database replaces the one of its name.

    Raises:
        CDPError: The browser does not answer.
    """
    report = StorageReport()
    if not origins:
        return report
    async with _quiet_page(connection) as page:
        for entry in origins:
            origin = str(entry["origin"])
            items, databases = entry.get("localStorage") or [], entry.get("indexedDB") or []
            if not await page.go(origin):
                report.lose(origin, "the browser does not open a page of it")
                continue
            kept = await page.call("writeItems", items) if items else 0
            report.items += kept
            if kept < len(items):
                report.lose(
                    origin, f"{len(items) - kept} of {len(items)} items of localStorage: no space for them"
                )
            for database in databases:
                await _write_database(page, origin, database, report)
    return report


async def _write_database(
    page: _Page, origin: str, database: Mapping[str, Any], report: StorageReport
) -> None:
    what = f"the database {database['name']}"
    # In the message it is text in JSON once more, which takes a byte for each quote and backslash.
    if len(json.dumps(_literal(database))) > _LARGEST:
        report.lose(origin, f"{what}: it is larger than {_LARGEST >> 20} MiB")
        return
    try:
        reasons = await page.call("writeDatabase", database)
    except EvaluationError as error:
        report.lose(origin, f"{what}: {_first_line(error)}")
        return
    report.databases += 1
    for reason in reasons:
        report.lose(origin, f"{what}: {reason}")


def origin_of(text: str) -> str:
    """Check an origin, and return it as browsers write it.

    Raises:
        ConfigurationError: It is none.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
        host = parts.hostname or ""
        host = host if host.isascii() else idna.encode(host, uts46=True).decode()
    except ValueError:  # as idna's are
        parts, port, host = urlsplit(""), None, ""
    if parts.scheme not in _PORTS or not host or parts.username is not None or parts.path.strip("/"):
        shown = text.rpartition("@")[2]  # no password
        raise ConfigurationError(
            f"{shown!r} is no origin; it looks like https://example.com or http://localhost:8000"
        )
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{'' if port in {None, _PORTS[parts.scheme]} else f':{port}'}"


@cache
def _script() -> str:
    return files("cdpbridge.profile_sync").joinpath("storage.js").read_text("utf-8")


def _literal(value: object) -> str:
    """Write a value as an expression of JavaScript, where `{"__proto__": ...}` of JSON would set the prototype."""
    return _PROTO_KEY.sub('["__proto__"]:', json.dumps(value))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].removeprefix("Error: ")


class _Page:
    """A page that becomes one of any origin, without a request to it."""

    def __init__(self, tab: Tab) -> None:
        self._tab = tab

    async def go(self, origin: str) -> bool:
        """Navigate to a page of `origin`; return False when the browser opens none: a policy forbids it, or the host cannot be one."""
        try:
            await self._tab.goto(f"{origin}/")
        except (NavigationError, CommandError):
            return False
        return True

    async def call(self, name: str, *arguments: object) -> Any:
        """Return the value of a function of `storage.js`."""
        given = ", ".join(map(_literal, arguments))
        return await self._tab.evaluate(f"({_script()}).{name}({given})", timeout=_TIMEOUT)


@asynccontextmanager
async def _quiet_page(connection: Connection, context_id: str | None = None) -> AsyncGenerator[_Page]:
    async with own_tab(connection, context_id) as tab:
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

        await session.send("Network.enable")
        await session.send("Network.setBypassServiceWorker", {"bypass": True})
        session.on("Fetch.requestPaused", answer)
        await session.send("Fetch.enable")
        yield _Page(tab)
