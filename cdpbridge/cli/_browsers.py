"""`cdpbridge browsers` and `cdpbridge stop`: what is rented, and its end."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from ._output import LimitOption, ProviderOption, console, error_console, first, print_rows

if TYPE_CHECKING:
    from cdpbridge.api import AsyncClient, BrowserSession

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("browsers")(_browsers)
    app.command("stop")(_stop)


def _browsers(
    show_all: Annotated[bool, typer.Option("--all", help="Also those that are stopped.")] = False,
    limit: LimitOption = 100,
    provider: ProviderOption = None,
) -> None:
    """List rented browsers."""
    asyncio.run(_list(show_all, limit, provider))


async def _list(show_all: bool, limit: int, where: str | None) -> None:
    async with _server(where) as client:
        found = await first(limit, client.browsers.list(status=None if show_all else "active"))
    print_rows(
        ["id", "status", "started", "ends", "cost USD"],
        [_row(browser) for browser in found],
        nothing="no browsers" if show_all else "no active browsers",
    )


def _server(where: str | None) -> AsyncClient:
    """A server that other programs rent from; a new embedded one would have nothing to list or stop."""
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


def _stop(
    ids: Annotated[
        list[UUID] | None, typer.Argument(metavar="[ID]...", help="Browsers to stop.", show_default=False)
    ] = None,
    stop_all: Annotated[bool, typer.Option("--all", help="Every active browser of this key.")] = False,
    provider: ProviderOption = None,
) -> None:
    """Stop rented browsers and get their unused minutes back."""
    if bool(ids) == stop_all:
        raise typer.BadParameter("name the browsers to stop, or give --all")
    if asyncio.run(_stop_each(ids or [], provider)):
        raise typer.Exit(1)


async def _stop_each(ids: list[UUID], where: str | None) -> int:
    """Stop them side by side; how many could not be stopped."""
    async with _server(where) as client:
        if not ids:
            ids = [browser.id async for browser in client.browsers.list(status="active")]
            if not ids:
                error_console.print("no active browsers")
        return sum(await asyncio.gather(*(_stop_one(client, browser_id) for browser_id in ids)))


async def _stop_one(client: AsyncClient, browser_id: UUID) -> int:
    try:
        browser = await client.browsers.stop(browser_id)
    except Exception as error:  # noqa: BLE001  # the others are stopped all the same
        error_console.print(f"{browser_id} not stopped: {error}", markup=False, soft_wrap=True)
        return 1
    cost = "" if browser.browser_cost is None else f", cost {browser.browser_cost} USD"
    console.print(f"{browser_id} {browser.status}{cost}")
    return 0
