"""`cdpbridge serve`: the embedded server for others to use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._options import Group
from ._output import note, print_rows

if TYPE_CHECKING:
    from cdpbridge.server import Settings

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
@click.option(
    "--engine",
    type=click.Choice(["none", "ray"]),
    help="What starts the workers on which browsers run. Default: nothing, and browsers run on this machine unless `browsers` says else.",
)
@click.option("--ray-address", help="Where Ray is: `host:port` of its head, `auto`, or `ray://host:10001`.")
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings.")
@click.option("--show-settings", is_flag=True, help="Print every setting with its value, and end.")
def _serve(
    host: str | None,
    port: int | None,
    data_dir: Path | None,
    api_key: str | None,
    engine: str | None,
    ray_address: str | None,
    config: Path | None,
    show_settings: bool,
) -> None:
    """Serve browsers of this machine, or of workers, to other programs.

    The API is that of the Browser Use Cloud, version 2.

    Prints `cdpbridge: serving http://HOST:PORT/api/v2` on standard output when it is ready. SIGTERM or Ctrl-C stops every browser, saves its
    profile, refunds it, and ends.
    """
    from cdpbridge._embedded import check_installed

    check_installed()
    from cdpbridge.server import Settings, log_to_stderr, serve

    if ray_address is not None and engine == "none":
        raise click.UsageError("--ray-address goes with --engine ray")
    settings = Settings.load(
        config,
        host=host,
        port=port,
        data_dir=data_dir,
        api_keys=api_key,
        # An engine is for workers: said once is enough.
        browsers=None if engine in {None, "none"} else "workers",
        engine=engine,
        ray_address=ray_address,
    )
    if show_settings:
        _show(settings)
        return
    log_to_stderr()
    made: list[str] = []

    def show_key(key: str) -> None:
        note(f"cdpbridge: API key (shown once): {key}")
        made.append(key)

    def ready(base_url: str) -> None:
        print(f"cdpbridge: serving {base_url}", flush=True)  # the one line that programs wait for
        key = made[0] if made else "...  # a key of yours; a new one: cdpbridge keys create"
        note(f"console   {base_url.removesuffix('/api/v2')}")
        note(f"use it    export CDPBRIDGE_PROVIDER={base_url}")
        note(f"          export BROWSER_USE_API_KEY={key}")

    serve(settings, ready=ready, show_key=show_key)


def _show(settings: Settings) -> None:
    """Print the values in force; secrets as asterisks."""
    values = settings.model_dump(mode="json")
    rows = [
        [
            name,
            json.dumps(value, ensure_ascii=False),
            "set" if name in settings.model_fields_set else "default",
        ]
        for name, value in values.items()
    ]
    print_rows(["setting", "value", ""], rows, cut=("value",))
