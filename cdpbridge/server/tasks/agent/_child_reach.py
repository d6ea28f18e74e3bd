"""A task that is kept to some hosts, as its agent sees it. Loaded by the agent's own process, see `_child`.

The browser's forwarding proxy keeps it there; this tells the model at once what the proxy would refuse, and why. Nothing is
left to browser-use's own guard, which lets the first request pass, and ends agents whose browser shows another page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["Reach"]

_ENGINES: Final = {
    "duckduckgo": "https://duckduckgo.com/",
    "google": "https://www.google.com/",
    "bing": "https://www.bing.com/",
}
# Of an error, browser-use shows the model 200 characters, and leaves the middle out of a longer one.
_DOMAINS_CHARACTERS: Final = 60
_URL_CHARACTERS: Final = 50


class Reach:
    """The domains that a task may visit.

    Args:
        given: `allowedDomains` of the request; empty when it may go everywhere.
        domains: The module `_domains`.
    """

    def __init__(self, given: list[str], domains: Any) -> None:
        self._given = given
        self._domains = domains
        self._allowed = domains.allowed_domains(given)

    def refusal(self, action: str, params: Mapping[str, Any]) -> str | None:
        """Return why an action is not done, as a text for the model."""
        if action == "navigate":
            url = str(params.get("url") or "")
        elif action == "search":
            url = _ENGINES.get(str(params.get("engine") or "").lower(), "")
        else:
            return None
        return self._refuse(url)

    def _refuse(self, url: str) -> str | None:
        if not self._given or not self._domains.outside(_as_browser_use_reads(url), self._allowed):
            return None
        return (
            f"{_start(url, _URL_CHARACTERS)} was blocked by security policy: "
            f"this task may reach only {self._shown(_DOMAINS_CHARACTERS)}"
        )

    def explained(self, error: str) -> str:
        """Return an error of browser-use, with what may be its reason when a page could not be loaded."""
        if not self._given or "site unavailable" not in error:
            return error
        only = self._shown(_DOMAINS_CHARACTERS)
        return f"{_start(error, 80)}. It may be outside: this task may reach only {only}"

    def words(self) -> str:
        """Return the text for the system prompt; empty when the task may go everywhere."""
        if not self._given:
            return ""
        return (
            f"This task is kept to these hosts: {self._shown(2000)}. The browser reaches no other, for pages, pictures and "
            "scripts alike. When a page needs another host, or leads to one, it fails: do not try again, and say so in your "
            "answer if it matters."
        )

    def _shown(self, characters: int) -> str:
        return _start(", ".join(self._given), characters)


def _as_browser_use_reads(url: str) -> str:
    return url if ":" in url.partition("/")[0] or url.startswith(("about:", "data:")) else f"https://{url}"


def _start(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 3]}..."
