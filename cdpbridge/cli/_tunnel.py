"""`cdpbridge tunnel`: a rented browser under an address of this machine, its files included."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import UUID

import typer

from ._output import ProviderOption, error_console

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("tunnel")(_tunnel)


def _tunnel(
    browser: Annotated[str, typer.Argument(metavar="BROWSER", help="Id of a rented browser, or its cdpUrl.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 0,
    provider: ProviderOption = None,
    ws: Annotated[
        bool, typer.Option("--ws", help="Print a ws:// address with a secret path, and answer to that alone.")
    ] = False,
) -> None:
    """Open a port on this machine that leads to a rented browser, as if it ran here.

    What it downloads arrives in the folders that clients name on this machine, and files of this machine can be given to its pages. Prints
    host:port, for clients that take no more (Selenium), and runs until Ctrl-C. Who can open connections on this machine can use it;
    with --ws only who knows the address.
    """
    asyncio.run(_run(browser, port, provider, ws=ws))


async def _run(browser: str, port: int, where: str | None, *, ws: bool) -> None:
    from cdpbridge.errors import CDPBridgeError, ConfigurationError
    from cdpbridge.tunnel import open_tunnel

    from ._browsers import _server

    if "://" in browser:
        address = browser
    else:
        try:
            browser_id = UUID(browser)
        except ValueError:
            raise ConfigurationError(f"{browser!r} is neither the id of a browser nor a cdpUrl") from None
        async with _server(where) as client:
            record = await client.browsers.get(browser_id)
        if not record.cdp_url:
            raise ConfigurationError(f"browser {browser_id} is {record.status}: it has no cdpUrl")
        address = record.cdp_url
    try:
        async with open_tunnel(address, port=port, bare=not ws) as here:
            # not through the console, which would break a long address
            print(here.ws_url if ws else str(here), flush=True)  # for programs
            error_console.print("leads to the browser until Ctrl-C", highlight=False)
            await asyncio.get_running_loop().create_future()
    except CDPBridgeError:  # some are `TimeoutError`s, and those are `OSError`s
        raise
    except OSError as error:
        raise ConfigurationError(f"port {port} cannot be opened: {error.strerror}") from error
