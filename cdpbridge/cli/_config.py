"""`cdpbridge config`: where the next browser would be rented, with which key and which Chromium, and why. Sends nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ._options import Group, json_option, provider_option
from ._output import print_json, say

if TYPE_CHECKING:
    from cdpbridge.api._place import Place
    from cdpbridge.errors import ConfigurationError

__all__ = ["Fact", "ending", "facts", "register"]

_SHOWN: Final = 4  # characters of a key: enough to tell which, too little to guess it
_SHORTEST: Final = 3 * _SHOWN  # of a key that shows any


@dataclass(frozen=True, slots=True)
class Fact:
    """One line.

    Attributes:
        name: What.
        value: Its value; None where there is none.
        why: The variable or the default that decided.
    """

    name: str
    value: str | None
    why: str


def register(app: Group) -> None:
    """Add the command."""
    app.command("config")(_config)


@json_option
@provider_option
def _config(as_json: bool, provider: str | None) -> None:
    """Show where the next browser would be rented, and why; then what is missing."""
    found, problems = facts(provider)
    if as_json:
        print_json({fact.name: {"value": fact.value, "why": fact.why} for fact in found})
    else:
        for fact in found:
            say(f"{fact.name:<9} {fact.value or 'none'}  ({fact.why})")
    if problems:
        for other in problems[1:]:
            problems[0].add_note(str(other))
        raise problems[0]


def facts(where: str | None) -> tuple[list[Fact], list[ConfigurationError]]:
    """Return all of them, and what is missing or wrong."""
    from cdpbridge.api._place import find_place
    from cdpbridge.errors import ConfigurationError
    from cdpbridge.rental import Budget, Journal

    problems: list[ConfigurationError] = []
    try:
        place = find_place(os.environ, where, otherwise_local=True)
    except ConfigurationError as error:
        problems.append(error)
        found = _without_place(where)
    else:
        found = [_where(place, where), _key(place)]
        if place.is_local:
            found += [_chromium(), _data_dir()]
            found.append(Fact("money", "simulated", "browsers of this machine cost nothing"))
    journal = Journal()
    found.append(Fact("journal", "in memory" if journal.path is None else str(journal.path), _journal_why()))
    variables = "CDPBRIDGE_BUDGET_USD, _MINUTES, _BROWSERS"
    try:
        budget = Budget.of_environment(os.environ)
    except ConfigurationError as error:
        problems.append(error)
        found.append(Fact("budget", None, f"{variables} cannot be read"))
    else:
        found.append(Fact("budget", None if budget is None else str(budget), variables))
    return found, problems


def _where(place: Place, given: str | None) -> Fact:
    from cdpbridge.api._place import place_name

    name = "this machine" if place.base_url is None else f"{place_name(place.base_url)}  {place.base_url}"
    return Fact("where", name, _why(given))


def _without_place(where: str | None) -> list[Fact]:
    """Return what is set, where that does not suffice for a rental."""
    from cdpbridge.api._place import (
        BASE_URL_VARIABLE,
        KEY_VARIABLE,
        PROVIDER_VARIABLE,
        find_place,
        shown_setting,
    )
    from cdpbridge.errors import ConfigurationError

    key = os.environ.get(KEY_VARIABLE)
    state = f"{KEY_VARIABLE} is {'set' if key else 'not set'}"
    key_fact = Fact("key", ending(key) if key else None, state)
    try:
        return [_where(find_place(os.environ, where, "any"), where), key_fact]
    except ConfigurationError:  # more than the key is wrong
        given: dict[str, str | None] = {"--provider": where}
        given |= {name: os.environ.get(name) for name in (PROVIDER_VARIABLE, BASE_URL_VARIABLE)}
        return [
            *(Fact(name, shown_setting(value), "set") for name, value in given.items() if value),
            key_fact,
        ]


def _why(where: str | None) -> str:
    from cdpbridge.api._place import BASE_URL_VARIABLE, KEY_VARIABLE, PROVIDER_VARIABLE

    if where is not None:
        return "--provider"
    for name in (PROVIDER_VARIABLE, BASE_URL_VARIABLE, KEY_VARIABLE):
        if os.environ.get(name):
            return f"{name} is set"
    return f"default: none of {PROVIDER_VARIABLE}, {BASE_URL_VARIABLE} and {KEY_VARIABLE} is set"


def _key(place: Place) -> Fact:
    from cdpbridge.api._place import KEY_VARIABLE

    if place.is_local:
        return Fact("key", None, "the embedded server makes its own")
    return Fact("key", ending(place.api_key), f"{KEY_VARIABLE} is set")


def ending(key: str) -> str:
    """Return the last characters of a key, if it is long enough to keep the rest secret."""
    return f"...{key[-_SHOWN:]}" if len(key) >= _SHORTEST else "..."


def _chromium() -> Fact:
    from cdpbridge.chromium import find
    from cdpbridge.errors import BrowserNotFound, ConfigurationError

    named = next(
        (name for name in ("CDPBRIDGE_BROWSER_PATH", "CDPBRIDGE_CHROMIUM") if os.environ.get(name)), None
    )
    try:
        if named == "CDPBRIDGE_BROWSER_PATH":
            from pathlib import Path

            build = find(path=Path(os.environ[named]))
        else:
            build = find()
    except (BrowserNotFound, ConfigurationError) as error:
        return Fact("chromium", None, str(error))
    why = (
        f"{named} is set"
        if named
        else "the first that was found; with a profile, the full build where there is one"
    )
    return Fact("chromium", f"{build.path} ({build.kind})", why)


def _data_dir() -> Fact:
    import platformdirs

    if given := os.environ.get("CDPBRIDGE_DATA_DIR"):
        return Fact("data_dir", given, "CDPBRIDGE_DATA_DIR is set")
    return Fact("data_dir", platformdirs.user_data_dir("cdpbridge"), "the platform's folder")


def _journal_why() -> str:
    return "CDPBRIDGE_JOURNAL is set" if os.environ.get("CDPBRIDGE_JOURNAL") else "the platform's folder"
