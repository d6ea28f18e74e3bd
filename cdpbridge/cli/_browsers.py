"""`cdpbridge browsers` and `cdpbridge stop`: what is rented, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ._ids import ID, browser_id
from ._options import Group, argument, json_option, limit_option, provider_option
from ._output import first, instant, note, on_terminal, print_json, print_list, say

if TYPE_CHECKING:
    from uuid import UUID

    from cdpbridge.api import AsyncClient, BrowserSession

__all__ = ["register", "shared_server"]


def register(app: Group) -> None:
    """Add the commands."""
    app.command("browsers")(_browsers)
    app.command("stop")(_stop)


@click.option("--all", "show_all", is_flag=True, help="Also those that are stopped.")
@limit_option
@json_option
@provider_option
def _browsers(show_all: bool, limit: int, as_json: bool, provider: str | None) -> None:
    """List rented browsers."""
    found = asyncio.run(_list(show_all, limit, provider))
    whole = not on_terminal()
    label = any(_label(browser) for browser in found)
    print_list(
        found,
        as_json,
        ["id", "status", "started", "ends", "cost USD", *(["label"] if label else [])],
        lambda browser: [*_row(browser, whole=whole), *([_label(browser)] if label else [])],
        nothing="no browsers" if show_all else "no active browsers",
        cut=("label",),
    )


async def _list(show_all: bool, limit: int, where: str | None) -> list[BrowserSession]:
    async with shared_server(where) as client:
        return await first(limit, client.browsers.list(status=None if show_all else "active"))


def shared_server(where: str | None) -> AsyncClient:
    """Return a server that other programs rent from: a new embedded one has nothing to list or stop."""
    from cdpbridge.errors import ConfigurationError
    from cdpbridge.providers import provider

    client = provider(where)
    if client.is_local:
        raise ConfigurationError(
            "browsers of local() belong to the program that rented them and end with it: it alone reaches them (browser.live_url); "
            "for those of a server, give --provider with its base URL, or `cloud`"
        )
    return client


def _row(browser: BrowserSession, *, whole: bool) -> list[str]:
    """Return its cells: whole dates for programs, what fits in 80 columns for people."""
    started, end = browser.started_at, browser.finished_at or browser.timeout_at
    cost = "" if browser.browser_cost is None else f"{browser.browser_cost:f}"
    if whole:
        dates = [instant(started), instant(end)]
    else:
        today = datetime.now(UTC).date()
        dates = [
            f"{each:%H:%M:%S}" if each.date() == today else f"{each:%m-%d %H:%M}" for each in (started, end)
        ]
        if browser.finished_at is None:
            dates[1] = f"in {max((end - datetime.now(UTC)).total_seconds(), 0) / 60:.0f} min"
    return [str(browser.id), browser.status, *dates, cost]


def _label(browser: BrowserSession) -> str:
    return str((browser.metadata or {}).get("label", ""))


@argument("ids", nargs=-1, type=ID, metavar="[ID]...", help="Browsers to stop: ids, or their beginnings.")
@click.option("--all", "stop_all", is_flag=True, help="Every active browser of this key.")
@json_option
@provider_option
def _stop(ids: tuple[str, ...], stop_all: bool, as_json: bool, provider: str | None) -> None:
    """Stop rented browsers and get their unused minutes back."""
    if bool(ids) == stop_all:
        raise click.BadParameter("name the browsers to stop, or give --all")
    asked = asyncio.run(_stop_each(ids, provider, quiet=as_json))
    stopped = [each for each in asked if each is not None]
    if as_json:
        print_json(stopped)
    if len(stopped) < len(asked):
        raise click.exceptions.Exit(1)


async def _stop_each(ids: Sequence[str], where: str | None, *, quiet: bool) -> list[BrowserSession | None]:
    """Stop them side by side; None for each that could not be stopped."""
    async with shared_server(where) as client:
        if ids:
            # All are looked up before one is stopped: a mistyped id stops nothing.
            found = [await browser_id(client, text) for text in ids]
        else:
            found = [browser.id async for browser in client.browsers.list(status="active")]
            if not found:
                note("no active browsers")
        stops = (_stop_one(client, each, quiet=quiet) for each in dict.fromkeys(found))
        return await asyncio.gather(*stops)


async def _stop_one(client: AsyncClient, which: UUID, *, quiet: bool) -> BrowserSession | None:
    try:
        browser = await client.browsers.stop(which)
    except Exception as error:  # noqa: BLE001  # the others are stopped all the same
        note(f"cdpbridge: browser {which} is not stopped: {error}")
        return None
    if not quiet:
        cost = "" if browser.browser_cost is None else f", cost {browser.browser_cost} USD"
        say(f"{which} {browser.status}{cost}")
    return browser
