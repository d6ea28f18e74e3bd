"""`cdpbridge profiles sync`, `export` and `import`: browser state from and to this machine. No value is shown."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._output import ProviderOption, console, error_console, progress
from ._profiles import profiles

if TYPE_CHECKING:
    from cdpbridge.cdp._cookies import CookieReport
    from cdpbridge.profile_sync import LocalProfile, LocalState, SyncReport

__all__: list[str] = []

_RENTAL = timedelta(minutes=10)
_MANY = 20  # domains that are listed
ProfileArgument = Annotated[str, typer.Argument(metavar="PROFILE", help="Its name or id.")]


@profiles.command("sync")
def _sync(
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="`chrome`, `chromium`, `edge`, `brave`, `firefox`, or a profile's folder. Default: you are asked; `chrome` "
            "where nobody can be.",
            show_default=False,
        ),
    ] = None,
    domains: Annotated[
        list[str] | None,
        typer.Option(
            "--domain", help="Only this domain and what is below it; may be given often.", show_default=False
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            help="Hosted profile: a name (made if missing) or an id. Default: you are asked, else `default`.",
            show_default=False,
        ),
    ] = None,
    preferences: Annotated[
        bool | None,
        typer.Option(
            "--preferences/--no-preferences",
            help="Whether preferences are brought. Default: when no domain is named.",
            show_default=False,
        ),
    ] = None,
    provider: ProviderOption = None,
) -> None:
    """Bring cookies, localStorage, IndexedDB and preferences of a browser on this machine into a hosted profile.

    Without `--from`, on a terminal, it asks for the browser, the domains and the profile.
    """
    from cdpbridge.profile_sync import read_local, sync_state

    asking = source is None and sys.stdin.isatty()
    chosen: str | LocalProfile = _choose_profile() if asking else source or "chrome"
    wanted = domains or []
    with progress(f"reading {chosen}"):
        local = asyncio.run(read_local(chosen, domains=wanted))
    if asking and domains is None:
        wanted = _choose_domains(local)
    name = to or (
        typer.prompt("Into which hosted profile", default="default", err=True) if asking else "default"
    )
    with progress(f"writing into the profile {name}"):
        report = asyncio.run(
            sync_state(local, provider=provider, to=name, domains=wanted, preferences=preferences)
        )
    _tell(report)
    console.print(
        f"{report.cookies.imported} cookies, {report.items} items of localStorage, {report.databases} databases and "
        f"{report.preferences} preferences are in the profile {name}",
        markup=False,
        soft_wrap=True,
    )
    error_console.print(str(report.receipt), markup=False, soft_wrap=True)
    if report.saved is False:
        error_console.print(
            "another browser holds the profile, so nothing was saved: stop it, and sync again"
        )
        raise typer.Exit(1)


def _tell(report: SyncReport) -> None:
    error_console.print(
        f"{report.source}: {report.found} cookies, {report.chosen} chosen", markup=False, soft_wrap=True
    )
    if report.skipped:
        error_console.print(f"{report.skipped} could not be read, or belong to a container")
    if report.running:
        error_console.print("the browser is running: what it set in the last half minute may be missing")
    _show(report.cookies, report.dropped_domains)
    for sentence in report.lost:
        error_console.print(f"not brought: {sentence}", markup=False, soft_wrap=True)


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
        error_console.print(f"{number:>3}  {profile}", markup=False, soft_wrap=True)
    while True:
        chosen: int = typer.prompt("Which one", default=1, type=int, err=True)
        if 1 <= chosen <= len(found):
            return found[chosen - 1]
        error_console.print(f"a number from 1 to {len(found)}, please")


def _choose_domains(local: LocalState) -> list[str]:
    """Ask for the domains; an empty answer means all."""
    from collections import Counter

    counts = Counter(str(cookie["domain"]).lstrip(".") for cookie in local.cookies)
    shown = counts.most_common(_MANY)
    for domain, count in shown:
        error_console.print(f"{count:>6} cookies of {domain}", markup=False, soft_wrap=True)
    if len(counts) > len(shown):
        error_console.print(f"       and those of {len(counts) - len(shown)} more domains")
    answer = typer.prompt(
        "Which domains, separated by commas (empty: all)", default="", show_default=False, err=True
    )
    return [domain.strip() for domain in answer.split(",") if domain.strip()]


def _show(report: CookieReport, dropped: dict[str, int]) -> None:
    for each in report.failed:
        error_console.print(f"refused: {each.name} of {each.domain}", markup=False, soft_wrap=True)
    for domain, count in sorted(dropped.items()):
        error_console.print(
            f"not kept: {count} of {domain}; a browser keeps 180 cookies of a domain", markup=False
        )


@profiles.command("export")
def _export(
    profile: ProfileArgument,
    file: Annotated[Path, typer.Argument(help="JSON file to write (Playwright's storage_state).")],
    origins: Annotated[
        list[str] | None,
        typer.Option(
            "--origin",
            help="Its localStorage too, e.g. http://localhost:8000; hosts with cookies are looked at anyway.",
            show_default=False,
        ),
    ] = None,
    provider: ProviderOption = None,
) -> None:
    """Write cookies and localStorage of a hosted profile into a file that only you can read."""
    from cdpbridge._folders import check_writable

    check_writable(file)  # before it costs anything
    state = asyncio.run(_read(profile, origins or [], provider))
    _write_private(file, json.dumps(state, indent=2))
    items = sum(len(each["localStorage"]) for each in state["origins"])
    console.print(
        f"{len(state['cookies'])} cookies and {items} items of localStorage are in {file}", markup=False
    )


async def _read(profile: str, origins: list[str], provider: str | None) -> dict[str, Any]:
    from cdpbridge import open_browser
    from cdpbridge.profile_sync import export_state

    async with open_browser(provider, profile=profile, timeout=_RENTAL) as browser:
        return await export_state(browser, origins=origins)


@profiles.command("import")
def _import(
    profile: ProfileArgument,
    file: Annotated[Path, typer.Argument(help="JSON file to read (Playwright's storage_state).")],
    provider: ProviderOption = None,
) -> None:
    """Put cookies and localStorage of a file into a hosted profile; what it has besides stays."""
    from cdpbridge.errors import ConfigurationError

    try:
        state = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError:
        raise ConfigurationError(f"{file} is no JSON file") from None
    if not asyncio.run(_write(profile, state, provider)):
        raise typer.Exit(1)


async def _write(profile: str, state: dict[str, Any], provider: str | None) -> bool:
    from collections import Counter

    from cdpbridge import open_browser
    from cdpbridge.profile_sync import import_state

    async with open_browser(provider, profile=profile, timeout=_RENTAL) as browser:
        report = await import_state(browser, state)
    _show(report.cookies, dict(Counter(each.domain for each in report.cookies.dropped)))
    for origin in report.refused:
        error_console.print(
            f"not all of localStorage could be stored for {origin}", markup=False, soft_wrap=True
        )
    console.print(
        f"{report.cookies.imported} cookies and {report.items} items of localStorage are in the profile {profile}",
        markup=False,
        soft_wrap=True,
    )
    if browser.profile_writable is False:
        error_console.print(
            "another browser holds the profile, so nothing was saved: stop it, and import again"
        )
    return browser.profile_writable is not False


def _write_private(file: Path, text: str) -> None:
    """Whole or not at all, and for the owner only: cookies are logins."""
    from cdpbridge.errors import ConfigurationError

    try:
        descriptor, name = tempfile.mkstemp(".part", ".state-", file.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(text)
        Path(name).replace(file)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written: {error.strerror}") from error
