"""The command tree, and how its errors are shown."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cdpbridge._version import __version__
from cdpbridge.errors import CDPBridgeError

from . import (
    _account,
    _browsers,
    _cost,
    _demo,
    _doctor,
    _files,
    _keys,
    _open,
    _profile_sync,  # noqa: F401  # adds to the group of _profiles
    _profiles,
    _projects,
    _reap,
    _run,
    _serve,
    _sessions,
    _tasks,
    _tunnel,
)
from ._output import error_console

__all__ = ["app", "run"]

app = typer.Typer(
    name="cdpbridge",
    help="Hosted browsers: rent one, drive it over CDP or Playwright, stop it, get the unused minutes back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # its frames would show keys and addresses
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        print(f"cdpbridge {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end."),
    ] = False,
) -> None:
    pass


_open.register(app)
_run.register(app)
_demo.register(app)
_browsers.register(app)
_reap.register(app)
_cost.register(app)
_tasks.register(app)
_sessions.register(app)
_profiles.register(app)
_files.register(app)
_account.register(app)
_tunnel.register(app)
_keys.register(app)
_projects.register(app)
_doctor.register(app)
_serve.register(app)


def run() -> None:
    """Run the command line; errors of ours, and of files that were named, are one line on stderr and status 1."""
    try:
        app()
    except CDPBridgeError as error:
        error_console.print(f"[bold red]cdpbridge:[/] {_escape(str(error))}", soft_wrap=True, highlight=False)
        for note in getattr(error, "__notes__", ()):
            error_console.print(_escape(note), soft_wrap=True, highlight=False)
        sys.exit(1)
    except OSError as error:
        if error.filename is None:  # no file that a command was given: a fault of ours
            raise
        error_console.print(
            f"[bold red]cdpbridge:[/] {_escape(f'{error.filename}: {error.strerror}')}",
            soft_wrap=True,
            highlight=False,
        )
        sys.exit(1)
    except KeyboardInterrupt:
        error_console.print("cdpbridge: interrupted", highlight=False)
        sys.exit(130)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
