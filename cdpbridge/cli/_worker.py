"""`cdpbridge worker`: browsers of this machine for servers elsewhere."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import click

from ._options import Group

__all__ = ["register"]


def register(app: Group) -> None:
    """Add the command."""
    app.command("worker")(_worker)


@click.option(
    "--server",
    "servers",
    multiple=True,
    required=True,
    help="Address of a server to register with, `http(s)://host[:port]`; may be given again, one is enough.",
)
@click.option("--slots", type=click.IntRange(1, 1000), required=True, help="Browsers that it runs at once.")
@click.option(
    "--listen",
    default="127.0.0.1:8710",
    help="`host:port` to listen on, for servers; port 0 takes a free one.",
)
@click.option("--address", help="`host:port` where servers reach it, if that is another one than `--listen`.")
@click.option("--name", default="", help="For people. Default: the machine's.")
@click.option(
    "--drain",
    type=click.FloatRange(min=0),
    default=0,
    help="Seconds that browsers may run on after SIGTERM; a second one ends them.",
)
@click.option(
    "--alone",
    type=click.FloatRange(min=1),
    default=30,
    help="Seconds without any server after which it ends its browsers.",
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder in which it has its own, `worker`.")
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings of browsers.")
@click.option(
    "--close-user-ports",
    is_flag=True,
    help="Pages reach no port of this machine on which a program of the worker's user listens, e.g. Ray's, unless `private_allowed` names it.",
)
@click.option("--owned", is_flag=True, help="End when standard input does: with the program that started it.")
def _worker(
    *,
    servers: tuple[str, ...],
    slots: int,
    listen: str,
    address: str | None,
    name: str,
    drain: float,
    alone: float,
    data_dir: Path | None,
    config: Path | None,
    close_user_ports: bool,
    owned: bool,
) -> None:
    """Run browsers of this machine for servers with `browsers = "workers"`.

    It needs the secret of its servers, from `CDPBRIDGE_WORKER_SECRET` or the setting `worker_secret`; it is proved and never sent. What
    passes between server and worker is encrypted with the setting `worker_tls_certificate`; without it, use a private network.

    Prints `cdpbridge: worker ID at HOST:PORT` on standard output when it is ready. SIGTERM or Ctrl-C ends it.
    """
    from cdpbridge._embedded import check_installed

    check_installed()
    from cdpbridge.server import Settings, log_to_stderr
    from cdpbridge.server.workers import WorkerLimits, WorkerOptions, run_worker

    settings = Settings.load(config, data_dir=data_dir)
    log_to_stderr()
    run_worker(
        settings,
        WorkerOptions(
            servers,
            listen,
            slots,
            address=address,
            name=name,
            drain=timedelta(seconds=drain),
            close_user_ports=close_user_ports,
            limits=WorkerLimits(alone=timedelta(seconds=alone)),
        ),
        dead_man_fd=sys.stdin.fileno() if owned else None,
    )
