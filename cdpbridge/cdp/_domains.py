"""Which domain an event needs, and what else: so that a listener hears something, or learns why it does not. Pure.

Chromium sends most events only after `enable` of their domain. A session sends it with its first listener for one of them.
It never sends `disable`: that also discards what was set in the domain, e.g. extra headers or blocked URLs, and who set it
cannot be known. Domains whose `enable` does more than report are left to the program; they are listed here with the reason.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Final

from cdpbridge.errors import ConfigurationError
from cdpbridge.protocol._events import ENABLED_ALONE, EVENTS

__all__ = ["NAVIGATING", "SWITCHES", "check_name", "domains_of", "silence", "switch"]

LEFT_ALONE: Final[Mapping[str, str]] = {
    "Debugger": "it stops the page at each `debugger` statement",
    "DeviceAccess": "it holds device prompts until they are answered",
    "FedCm": "it takes the place of the browser's sign-in dialog",
    "Fetch": "it pauses requests until they are answered",
    "SmartCardEmulation": "it takes the place of the machine's card readers",
    "WebAuthn": "it takes the place of the machine's authenticators",
}
"""Domains that are never enabled by a listener, because that changes what pages do."""

_FIRST: Final[Mapping[str, tuple[str, ...]]] = {"CSS": ("DOM",), "Overlay": ("DOM",)}
"""What Chromium wants enabled before, else it answers "DOM agent needs to be enabled first"."""

_DISCOVERY: Final = "Target.setDiscoverTargets"
_DOWNLOADS: Final = "Browser.setDownloadBehavior with eventsEnabled"
_SWITCHED_BY: Final[Mapping[str, str]] = {
    "Browser.downloadProgress": _DOWNLOADS,
    "Browser.downloadWillBegin": _DOWNLOADS,
    "Input.dragIntercepted": "Input.setInterceptDrags",
    "Page.fileChooserOpened": "Page.setInterceptFileChooserDialog",
    "Page.lifecycleEvent": "Page.setLifecycleEventsEnabled",
    "Page.screencastFrame": "Page.startScreencast",
    "Runtime.bindingCalled": "Runtime.addBinding",
    "Target.attachedToTarget": "Target.setAutoAttach",
    "Target.targetCreated": _DISCOVERY,
    "Target.targetDestroyed": _DISCOVERY,
    "Target.targetInfoChanged": _DISCOVERY,
    "Tracing.bufferUsage": "Tracing.start",
    "Tracing.dataCollected": "Tracing.end",
    "Tracing.tracingComplete": "Tracing.end",
}
"""Events that come only after another command than `enable`."""

NAVIGATING: Final = frozenset({"Page.navigate", "Page.navigateToHistoryEntry", "Page.reload"})
"""Commands that the browser process begins before the page's own process has read what was sent earlier: an `enable` that
waits there is passed on to the next document's process, which may have loaded it by then (LIVE, Chromium 156)."""

SWITCHES: Final[Mapping[str, tuple[str, bool]]] = {
    f"{domain}.{verb}": (domain, verb == "enable")
    for domain in [*ENABLED_ALONE, "BluetoothEmulation", "PerformanceTimeline"]
    for verb in ("enable", "disable")
}
"""Commands that enable or disable a domain."""


def switch(enabled: set[str], method: str) -> None:
    """Note in `enabled` what a command does to a domain, if it does."""
    domain, on = SWITCHES.get(method, ("", False))
    (enabled.add if on else enabled.discard)(domain)


@cache
def domains_of(event: str) -> tuple[str, ...]:
    """Return the domains to enable for an event, in order."""
    domain = event.partition(".")[0]
    if domain not in ENABLED_ALONE or domain in LEFT_ALONE:
        return ()
    return (*_FIRST.get(domain, ()), domain)


def check_name(event: str) -> None:
    """Refuse the name of an event that Chromium's definition does not have.

    A domain that the definition does not have, and that is like none it has, is taken for a newer browser's.

    Raises:
        ConfigurationError: With the names that are like it.
    """
    domain, dot, name = event.partition(".")
    if name in _names(domain):
        return
    if domain in EVENTS:
        near = [f"{domain}.{each}" for each in _like(name, _names(domain))]
    else:
        near = [
            f"{each}.{name}" if name in _names(each) else f"{each}.{_names(each)[0]}"
            for each in get_close_matches(domain, EVENTS, cutoff=0.8)
        ]
        if not near and dot:
            return
        near = near or ["Page.loadEventFired"]
    raise ConfigurationError(
        f"{event!r} is no event; is it {' or '.join(near[:3])}? For an event of a newer browser, give raw=True"
    )


def _like(name: str, known: tuple[str, ...]) -> list[str]:
    word = name.casefold()
    found = get_close_matches(name, known, cutoff=0.6)
    found += [each for each in known if word and each.casefold().startswith(word)]
    found += [each for each in known if word and word in each.casefold()]
    return list(dict.fromkeys(found)) or list(known)


@cache
def _names(domain: str) -> tuple[str, ...]:
    return tuple(EVENTS.get(domain, "").split())


def silence(event: str, enabled: Collection[str], refused: Mapping[str, str]) -> str | None:
    """Return why an event may not come, for the message of a timeout; None when no reason is known.

    Args:
        enabled: Domains that the session has enabled.
        refused: Domains that the browser would not enable, and its words.
    """
    domain = event.partition(".")[0]
    for each in (*_FIRST.get(domain, ()), domain):
        if each in refused:
            return f"{each}.enable failed: {refused[each]}"
    if domain in LEFT_ALONE and domain not in enabled:
        return f"{domain} is not enabled: send {domain}.enable, which a listener does not do, as {LEFT_ALONE[domain]}"
    if f"{domain}.enable" in SWITCHES and domain not in enabled:
        return f"{domain} is not enabled: send {domain}.enable"
    if event in _SWITCHED_BY:
        return f"it comes only after {_SWITCHED_BY[event]}"
    return None
