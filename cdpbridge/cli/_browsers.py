"""`cdpbridge browsers` and `cdpbridge stop`: what is rented, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import click

from ._options import Group, argument, limit_option, provider_option
from ._output import first, note, print_rows, say

if TYPE_CHECKING:
    from cdpbridge.api import AsyncClient, BrowserSession

__all__ = ["register", "shared_server"]


def register(app: Group) -> None:
    """Add the commands."""
    app.command("browsers")(_browsers)
    app.command("stop")(_stop)


@click.option("--all", "show_all", is_flag=True, help="Also those that are stopped.")
@limit_option
@provider_option
def _browsers(show_all: bool, limit: int, provider: str | None) -> None:
    """List rented browsers."""
    asyncio.run(_list(show_all, limit, provider))


async def _list(show_all: bool, limit: int, where: str | None) -> None:
    async with shared_server(where) as client:
        found = await first(limit, client.browsers.list(status=None if show_all else "active"))
    print_rows(
        ["id", "status", "started", "ends", "cost USD"],
        [_row(browser) for browser in found],
        nothing="no browsers" if show_all else "no active browsers",
    )


def shared_server(where: str | None) -> AsyncClient:
    """Return a server that other programs rent from: a new embedded one has nothing to list or stop."""
    from cdpbridge.errors import ConfigurationError
    from cdpbridge.providers import provider

    client = provider(where)
    if client.is_local:
        raise ConfigurationError(
            "browsers of local() end with the program that rented them, so there are none to list or stop; "
            "for those of a server, give --provider with its base URL, or `cloud`"
        )
    return client


def _row(browser: BrowserSession) -> list[str]:
    end = browser.finished_at or browser.timeout_at
    cost = "" if browser.browser_cost is None else f"{browser.browser_cost}"
    return [
        str(browser.id),
        browser.status,
        f"{browser.started_at:%Y-%m-%d %H:%M:%S}",
        _until(browser, end),
        cost,
    ]


def _until(browser: BrowserSession, end: datetime) -> str:
    if browser.finished_at is not None:
        return f"{end:%Y-%m-%d %H:%M:%S}"
    minutes = max((end - datetime.now(UTC)).total_seconds(), 0) / 60
    return f"{end:%Y-%m-%d %H:%M:%S} (in {minutes:.0f} min)"


@argument("ids", nargs=-1, type=click.UUID, metavar="[ID]...", help="Browsers to stop.")
@click.option("--all", "stop_all", is_flag=True, help="Every active browser of this key.")
@provider_option
def _stop(ids: tuple[UUID, ...], stop_all: bool, provider: str | None) -> None:
    """Stop rented browsers and get their unused minutes back."""
    if bool(ids) == stop_all:
        raise click.BadParameter("name the browsers to stop, or give --all")
    if asyncio.run(_stop_each(ids, provider)):
        raise click.exceptions.Exit(1)


async def _stop_each(ids: Sequence[UUID], where: str | None) -> int:
    """Stop them side by side; how many could not be stopped."""
    async with shared_server(where) as client:
        if not ids:
            ids = [browser.id async for browser in client.browsers.list(status="active")]
            if not ids:
                note("no active browsers")
        return sum(await asyncio.gather(*(_stop_one(client, browser_id) for browser_id in ids)))


async def _stop_one(client: AsyncClient, browser_id: UUID) -> int:
    try:
        browser = await client.browsers.stop(browser_id)
    except Exception as error:  # noqa: BLE001  # the others are stopped all the same
        note(f"{browser_id} not stopped: {error}")
        return 1
    cost = "" if browser.browser_cost is None else f", cost {browser.browser_cost} USD"
    say(f"{browser_id} {browser.status}{cost}")
    return 0
