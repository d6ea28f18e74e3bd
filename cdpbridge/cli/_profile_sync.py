"""`cdpbridge profiles sync`, `export` and `import`: browser state from and to this machine. No value is shown."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from ._ids import profile_id
from ._options import Command, Group, argument, json_option, provider_option
from ._output import note, print_record, progress, say
from ._profiles import profiles

if TYPE_CHECKING:
    from cdpbridge.cdp._cookies import CookieId, CookieReport
    from cdpbridge.profile_sync import GivenState, LocalProfile, LocalState, SyncReport

__all__ = ["register"]

_RENTAL = timedelta(minutes=10)
_MANY = 20  # domains or cookies that are listed
_FEW = 5  # cookies of a domain that are named


def register(_app: Group) -> None:
    """Add the commands to the group `profiles`."""
    for command in (_sync, _export, _import):
        profiles.add_command(command)


@click.command("sync", cls=Command)
@click.option(
    "--from",
    "source",
    help="`chrome`, `chromium`, `edge`, `brave`, `firefox`, or a profile's folder. Default: asked on a terminal, else `chrome`.",
)
@click.option(
    "--domain", "domains", multiple=True, help="Only this domain and what is below it; may be given often."
)
@click.option(
    "--to",
    help="Hosted profile: a name (made if missing) or an id. Default: asked on a terminal, else `default`.",
)
@click.option(
    "--preferences/--no-preferences",
    "preferences",
    is_flag=True,
    default=None,
    help="Whether preferences are copied. Default: when no domain is named.",
)
@provider_option
def _sync(
    source: str | None,
    domains: tuple[str, ...],
    to: str | None,
    preferences: bool | None,
    provider: str | None,
) -> None:
    """Copy logins of a browser on this machine into a hosted profile.

    Without `--from`, on a terminal, it asks for the browser, the domains and the profile.
    """
    from cdpbridge.profile_sync import read_local, sync_state

    asking = source is None and sys.stdin.isatty()
    chosen: str | LocalProfile = _choose_profile() if asking else source or "chrome"
    wanted = list(domains)
    with progress(f"reading {chosen}"):
        local = asyncio.run(read_local(chosen, domains=wanted))
    if asking and not domains:
        wanted = _choose_domains(local)
    name = to or (
        click.prompt("Into which hosted profile", default="default", err=True) if asking else "default"
    )
    with progress(f"writing into the profile {name}"):
        report = asyncio.run(
            sync_state(local, provider=provider, to=name, domains=wanted, preferences=preferences)
        )
    _tell(report)
    counts = [
        _count(number, what)
        for number, what in (
            (report.cookies.imported, "cookie"),
            (report.items, "item"),
            (report.databases, "database"),
            (report.preferences, "preference"),
        )
    ]
    counts[1] += " of localStorage"
    say(f"{', '.join(counts[:-1])} and {counts[-1]} are in the profile {name}")
    note(str(report.receipt))
    if report.saved is False:
        note("another browser holds the profile, so nothing was saved: stop it, and sync again")
        raise click.exceptions.Exit(1)


def _tell(report: SyncReport) -> None:
    note(f"{report.source}: {report.found} cookies, {report.chosen} chosen")
    if report.skipped:
        note(f"{report.skipped} could not be read, or belong to a container")
    if report.running:
        note("the browser is running: what it set in the last half minute may be missing")
    _show(report.cookies, report.dropped_domains)
    for sentence in report.lost:
        note(f"not brought: {sentence}")


def _choose_profile() -> LocalProfile:
    """Ask which of the profiles on this machine is meant."""
    from cdpbridge.errors import ConfigurationError
    from cdpbridge.profile_sync import installed_profiles

    found = installed_profiles()
    if not found:
        raise ConfigurationError(
            "no profile of Chrome, Chromium, Edge, Brave or Firefox was found here; name its folder with --from"
        )
    for number, profile in enumerate(found, 1):
        note(f"{number:>3}  {profile}")
    while True:
        chosen: int = click.prompt("Which one", default=1, type=int, err=True)
        if 1 <= chosen <= len(found):
            return found[chosen - 1]
        note(f"a number from 1 to {len(found)}, please")


def _choose_domains(local: LocalState) -> list[str]:
    """Ask for the domains; an empty answer means all."""
    from collections import Counter

    counts = Counter(str(cookie["domain"]).lstrip(".") for cookie in local.cookies)
    shown = counts.most_common(_MANY)
    for domain, count in shown:
        note(f"{count:>6} cookies of {domain}")
    if len(counts) > len(shown):
        note(f"       and those of {len(counts) - len(shown)} more domains")
    answer = click.prompt(
        "Which domains, separated by commas (empty: all)", default="", show_default=False, err=True
    )
    return [domain.strip() for domain in answer.split(",") if domain.strip()]


def _show(report: CookieReport, dropped: dict[str, int]) -> None:
    for each in report.failed:
        note(f"refused: {each}")
    for each in report.changed:
        note(f"changed: {each}")
    if report.expired:
        names = ", ".join(str(replace(each, reason="")) for each in report.expired[:_MANY])
        more = len(report.expired) - _MANY
        note(f"{len(report.expired)} expired: {names}{f', and {more} more' if more > 0 else ''}")
    for domain, count in sorted(dropped.items()):
        few = [each.name for each in report.dropped if each.domain == domain] if count <= _FEW else []
        named = f": {', '.join(few)}" if few else ""
        note(f"not kept: {count} of {domain}{named}; a browser keeps 180 cookies of a domain")


@click.command("export", cls=Command)
@argument("profile", metavar="PROFILE", help="Its name, its id, or the beginning of the id.")
@argument("file", type=click.Path(path_type=Path), help="The file to write.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["storage-state", "cookies.txt", "json"]),
    default="storage-state",
    show_default=True,
    help="Playwright's storage_state; or only cookies: as curl and yt-dlp read them, or as EditThisCookie and Cookie-Editor do.",
)
@click.option(
    "--origin",
    "origins",
    multiple=True,
    help="Its localStorage too, e.g. http://localhost:8000; hosts with cookies are looked at anyway.",
)
@json_option
@provider_option
def _export(
    profile: str, file: Path, form: str, origins: tuple[str, ...], as_json: bool, provider: str | None
) -> None:
    """Write logins of a hosted profile into a file that only you can read."""
    from cdpbridge._folders import check_writable

    if origins and form != "storage-state":
        raise click.UsageError("--origin is for storage: only --format storage-state has it")
    check_writable(file)  # before it costs anything
    exported = asyncio.run(_read(profile, form, origins, provider))
    _write_private(file, exported.text)
    if form == "storage-state":
        counts = _counts(exported.cookies, exported.items, exported.databases)
    else:
        counts = _count(exported.cookies, "cookie")
    found = {
        "cookies": exported.cookies,
        "localStorage": exported.items,
        "databases": exported.databases,
        "file": str(file),
    }
    print_record(found, as_json, f"{counts} {'is' if counts == '1 cookie' else 'are'} in {file}")


class _Exported(NamedTuple):
    text: str
    cookies: int
    items: int = 0
    databases: int = 0


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


async def _read(profile: str, form: str, origins: Sequence[str], where: str | None) -> _Exported:
    from cdpbridge import open_browser
    from cdpbridge.profile_sync import export_state
    from cdpbridge.profile_sync._state import export_in_form
    from cdpbridge.providers import provider

    async with provider(where) as client:
        # By its id: by a name that is mistyped, the rental would make a profile, and export nothing.
        found = await profile_id(client, profile)
        async with open_browser(client, profile=found, timeout=_RENTAL) as browser:
            if form != "storage-state":
                return _Exported(*await export_in_form(browser, form))
            state = await export_state(browser, origins=origins)
    items = sum(len(each["localStorage"]) for each in state["origins"])
    databases = sum(len(each.get("indexedDB", ())) for each in state["origins"])
    return _Exported(json.dumps(state, indent=2), len(state["cookies"]), items, databases)


@click.command("import", cls=Command)
@argument("profile", metavar="PROFILE", help="Its name (made if missing) or id.")
@argument(
    "file",
    type=click.Path(path_type=Path),
    help="Playwright's storage_state, a JSON list of cookies (extensions, Puppeteer, Selenium), or a cookies.txt.",
)
@json_option
@provider_option
def _import(profile: str, file: Path, as_json: bool, provider: str | None) -> None:
    """Copy logins from a file into a hosted profile; all else in it stays.

    A cookie that no browser can have is named with its reason; the others are imported.
    """
    from cdpbridge.errors import ConfigurationError
    from cdpbridge.profile_sync import read_state
    from cdpbridge.profile_sync._state import checked_state

    state = read_state(file)
    try:
        checked_state(state)  # before it costs anything
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from None
    if not asyncio.run(_write(profile, state, as_json, provider)):
        raise click.exceptions.Exit(1)


async def _write(profile: str, state: GivenState, as_json: bool, provider: str | None) -> bool:
    from collections import Counter

    from cdpbridge import open_browser
    from cdpbridge.profile_sync import import_state

    async with open_browser(provider, profile=profile, timeout=_RENTAL) as browser:
        report = await import_state(browser, state)
    cookies = report.cookies
    _show(cookies, dict(Counter(each.domain for each in cookies.dropped)))
    for sentence in report.lost:
        note(f"not imported: {sentence}")
    found = {
        "cookies": cookies.imported,
        "localStorage": report.items,
        "databases": report.databases,
        "profile": profile,
        "refused": [_plain(each) for each in (*cookies.failed, *cookies.dropped)],
        "changed": [_plain(each) for each in cookies.changed],
        "expired": [_plain(each) for each in cookies.expired],
        "lost": report.lost,
    }
    counts = _counts(cookies.imported, report.items, report.databases)
    print_record(found, as_json, f"{counts} are in the profile {profile}")
    if browser.profile_writable is False:
        note("another browser holds the profile, so nothing was saved: stop it, and import again")
    return browser.profile_writable is not False


def _plain(cookie: CookieId) -> dict[str, str]:
    return {"name": cookie.name, "domain": cookie.domain, "reason": cookie.reason}


def _counts(cookies: int, items: int, databases: int) -> str:
    """Say how much there is of each; databases only where there are some."""
    parts = [_count(cookies, "cookie"), f"{_count(items, 'item')} of localStorage"]
    if databases:
        parts.append(_count(databases, "database"))
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _write_private(file: Path, text: str) -> None:
    """Write a file completely or not at all, for the owner only: cookies are logins."""
    from cdpbridge.errors import ConfigurationError

    try:
        descriptor, name = tempfile.mkstemp(".part", ".state-", file.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(text)
        Path(name).replace(file)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written: {error.strerror}") from error
