"""`cdpbridge serve`: the embedded server for others to use."""

from __future__ import annotations

from pathlib import Path

import click

from ._options import Group

__all__ = ["register"]


def register(app: Group) -> None:
    """Add the command."""
    app.command("serve")(_serve)


@click.option("--host", help="Address to listen on. Default: 127.0.0.1.")
@click.option(
    "--port", type=click.IntRange(min=0, max=65535), help="Port; 0 takes a free one. Default: 8700."
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Folder of the database, profiles and running browsers.",
)
@click.option(
    "--api-key",
    envvar="CDPBRIDGE_API_KEY",
    show_envvar=True,
    help="API key of its clients. Without one, and without the setting `api_keys`, a key is made and shown once.",
)
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings.")
@click.option("--show-settings", is_flag=True, help="Print every setting and end.")
def _serve(
    host: str | None,
    port: int | None,
    data_dir: Path | None,
    api_key: str | None,
    config: Path | None,
    show_settings: bool,
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
