"""`cdpbridge live`: watch a running browser, and take it over."""

from __future__ import annotations

import asyncio
import sys
import webbrowser
from typing import TYPE_CHECKING

import click

from ._browsers import shared_server
from ._ids import ID, one_of
from ._options import Group, argument, json_option, provider_option
from ._output import note, print_record, say

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["register"]


def register(app: Group) -> None:
    """Add the command."""
    app.command("live")(_live)


@argument(
    "which",
    type=ID,
    required=False,
    metavar="[ID]",
    help="A browser or an agent session, or the beginning of its id. Not needed when only one runs.",
)
@click.option("--print", "only_print", is_flag=True, help="Print the address, and open nothing.")
@json_option
@provider_option
def _live(which: str | None, only_print: bool, as_json: bool, provider: str | None) -> None:
    """Open the live view of a running browser.

    Its address is a password: who has it can watch and take over. Where no browser with a window can be opened, it is printed.
    """
    found, address = asyncio.run(_find(which, provider))
    if as_json or only_print or not sys.stdout.isatty():
        print_record({"id": str(found), "liveUrl": address}, as_json, address)
    elif webbrowser.open(address):
        note(f"the live view of {found} is open")
    else:
        say(address)


async def _find(which: str | None, where: str | None) -> tuple[UUID, str]:
    """Return what runs and can be watched, and its address."""
    from cdpbridge.errors import ConfigurationError

    async with shared_server(where) as client:
        running = {each.id: each.live_url async for each in client.browsers.list(status="active")}
        if which is None and len(running) != 1:
            what = f"{len(running)} browsers run; name one" if running else "no browser runs"
            raise ConfigurationError(f"{what}; see `cdpbridge browsers`")
        if which is None:
            [chosen] = running
        else:
            # An agent session has an address too; one of the cloud's is in that list only.
            running |= {each.id: each.live_url async for each in client.sessions.list(status="active")}
            chosen = one_of(
                "running browser or session", which, dict.fromkeys(running), hint="cdpbridge browsers"
            )
        address = running[chosen]
    if not address:
        raise ConfigurationError(f"{chosen} has no live view: it has not started, or the server offers none")
    return chosen, address
