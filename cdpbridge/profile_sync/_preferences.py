"""Preferences of a Chromium profile, by the settings page of the browser itself, which knows what it lets others set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cdpbridge.browser._tab import Tab
from cdpbridge.cdp import Connection
from cdpbridge.errors import CommandError, EvaluationError, NavigationError

from ._tabs import own_tab

__all__ = ["chosen_preferences", "extensions_of", "read_preferences", "storage_origins", "write_preferences"]

_SETTINGS: Final = "chrome://settings/"
_FILES: Final = ("Preferences", "Secure Preferences")
# What belongs to the machine or to an account, and how the browser starts, which a rental decides.
_NOT_BROUGHT: Final = (
    "account", "autofill.autofill_ai.", "dns_over_https.", "download.", "gaia", "google.", "printing.", "profile.avatar", "profile.name", "proxy",
    "savefile.", "session.", "signin.", "sync.", "system.", "vmodule",
)  # fmt: skip

_READ: Final = """new Promise(done => chrome.settingsPrivate.getAllPrefs(all => done(
    all.filter(each => !each.enforcement && each.value !== undefined).map(({key, value}) => [key, value]))))"""
_WRITE: Final = """(async pairs => {
    const refused = [];
    for (const [key, value] of pairs) {
        const kept = await new Promise(done => chrome.settingsPrivate.setPref(
            key, value, '', success => done(success && !chrome.runtime.lastError))).catch(() => false);
        if (!kept) refused.push(key);
    }
    return refused;
})"""
_ORIGINS: Final = """import('chrome://resources/js/cr.js').then(cr => new Promise(done => {
    setTimeout(() => done(null), 10000);
    cr.addWebUiListener('onStorageListFetched', sites =>
        done(sites.flatMap(site => site.origins).filter(each => !each.isPartitioned).map(each => each.origin)));
    cr.sendWithPromise('getAllSites');
}))"""


def chosen_preferences(profile: Path) -> set[str]:
    """Return the names of all preferences that differ from the browser's own: only those are in its files."""
    chosen: set[str] = set()
    for content in _contents(profile):
        _collect(content, "", chosen)
    return {name for name in chosen if not name.startswith(_NOT_BROUGHT)}


def extensions_of(profile: Path) -> list[str]:
    """Return the names of the extensions that a person has installed."""
    found = set()
    for content in _contents(profile):
        settings = content.get("extensions", {})
        entries = settings.get("settings", {}) if isinstance(settings, dict) else {}
        for each in entries.values() if isinstance(entries, dict) else ():
            # extensions/common/manifest.h, ManifestLocation: 1 is from the store, 4 unpacked; others come with the browser.
            if isinstance(each, dict) and each.get("location") in {1, 4}:
                manifest = each.get("manifest")
                name = manifest.get("name") if isinstance(manifest, dict) else None
                found.add(str(name or each.get("path") or "unnamed"))
    return sorted(found)


def _contents(profile: Path) -> list[dict[str, Any]]:
    contents = []
    for name in _FILES:
        try:
            content = json.loads((profile / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not there, or damaged: the browser takes its own then
            continue
        if isinstance(content, dict):
            contents.append(content)
    return contents


def _collect(content: Mapping[str, Any], prefix: str, into: set[str]) -> None:
    for name, value in content.items():
        into.add(f"{prefix}{name}")
        if isinstance(value, dict):
            _collect(value, f"{prefix}{name}.", into)


async def storage_origins(connection: Connection) -> list[str] | None:
    """Return the origins that have storage in this browser; None when it does not tell."""
    async with own_tab(connection) as tab:
        found = await _asked(tab, _ORIGINS)
    return None if found is None else [str(origin).rstrip("/") for origin in found]


async def read_preferences(connection: Connection, chosen: set[str]) -> list[tuple[str, Any]]:
    """Return those of the `chosen` preferences that the browser lets others set, with their values."""
    async with own_tab(connection) as tab:
        found = await _asked(tab, _READ) or []
    return [(key, value) for key, value in found if key in chosen]


async def write_preferences(
    connection: Connection, preferences: Sequence[tuple[str, Any]]
) -> list[str] | None:
    """Set preferences; the names of those that were refused, None when this browser has no settings page."""
    async with own_tab(connection) as tab:
        refused = await _asked(tab, f"{_WRITE}({json.dumps(preferences)})")
    return None if refused is None else [str(name) for name in refused]


async def _asked(tab: Tab, expression: str) -> Any:
    """Return the answer of the settings page; None where there is none: in the headless shell, by policy, in another browser."""
    try:
        await tab.goto(_SETTINGS)
        if not await tab.evaluate("Boolean(globalThis.chrome?.settingsPrivate)"):
            return None
        return await tab.evaluate(expression)
    except (NavigationError, CommandError, EvaluationError):
        return None
