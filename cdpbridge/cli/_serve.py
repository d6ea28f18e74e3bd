"""`cdpbridge serve`: the embedded server for others to use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve")(_serve)


def _serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port; 0 takes a free one. Default: 8700.", show_default=False),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of the database, profiles and running browsers.", show_default=False),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="CDPBRIDGE_API_KEY",
            help="API key of its clients. Without one, and without the setting `api_keys`, a key is made and shown once.",
            show_default=False,
            show_envvar=True,
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.", show_default=False)] = None,
    show_settings: Annotated[
        bool, typer.Option("--show-settings", help="Print every setting and end.")
    ] = False,
) -> None:
    """Serve the Browser Use Cloud API v2 over Chromium on this machine.

    Prints `cdpbridge: serving http://HOST:PORT/api/v2` when it is ready. SIGTERM or Ctrl-C stops every browser, saves its
    profile, refunds it, and ends.
    """
    from cdpbridge._local_server import check_installed

    check_installed()
    from cdpbridge.server import Settings, log_to_stderr, serve, settings_table

    if show_settings:
        print(settings_table())
        return
    log_to_stderr()
    serve(Settings.load(config, host=host, port=port, data_dir=data_dir, api_keys=api_key))
