"""`cdpbridge tunnel`: a rented browser under an address of this machine, its files included."""

from __future__ import annotations

import asyncio

import click

from cdpbridge._concurrency import loop_factory

from ._ids import ID, browser_id
from ._options import Group, argument, provider_option
from ._output import note

__all__ = ["register"]


def register(app: Group) -> None:
    """Add the command."""
    app.command("tunnel")(_tunnel)


@argument(
    "browser", metavar="BROWSER", help="A rented browser: its id, the beginning of that, or its cdpUrl."
)
@click.option(
    "--port", type=click.IntRange(min=0, max=65535), default=0, help="Port to listen on; 0 takes a free one."
)
@provider_option
@click.option(
    "--ws", is_flag=True, help="Print a ws:// address with a secret path, and answer to that alone."
)
def _tunnel(browser: str, port: int, provider: str | None, ws: bool) -> None:
    """Reach a rented browser on a port of this machine.

    What it downloads arrives in the folders that clients name on this machine, and files of this machine can be given to its pages. Prints
    host:port, for clients that take no more (Selenium), and runs until Ctrl-C. Who can open connections on this machine can use it;
    with --ws only who knows the address.
    """
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_run(browser, port, provider, ws=ws))


async def _run(browser: str, port: int, where: str | None, *, ws: bool) -> None:
    from cdpbridge.errors import CDPBridgeError, ConfigurationError
    from cdpbridge.tunnel import open_tunnel

    from ._browsers import shared_server

    if "://" in browser:
        address = browser
    else:
        text = ID.convert(browser, None, None)
        async with shared_server(where) as client:
            record = await client.browsers.get(await browser_id(client, text))
        if not record.cdp_url:
            raise ConfigurationError(f"browser {record.id} is {record.status}: it has no cdpUrl")
        address = record.cdp_url
    try:
        async with open_tunnel(address, port=port, bare=not ws) as here:
            # not through the console, which would break a long address
            print(here.ws_url if ws else str(here), flush=True)  # for programs
            note("leads to the browser until Ctrl-C")
            await asyncio.get_running_loop().create_future()
    except CDPBridgeError:  # some are `TimeoutError`s, and those are `OSError`s
        raise
    except OSError as error:
        raise ConfigurationError(f"port {port} cannot be opened: {error.strerror}") from error
