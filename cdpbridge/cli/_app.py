"""The command tree, and how its errors are shown."""

from __future__ import annotations

import sys

import click

from cdpbridge._version import __version__
from cdpbridge.errors import CDPBridgeError

from . import (
    _account,
    _browsers,
    _completion,
    _config,
    _cost,
    _demo,
    _doctor,
    _files,
    _keys,
    _live,
    _open,
    _profile_sync,
    _profiles,
    _projects,
    _reap,
    _run,
    _serve,
    _sessions,
    _tasks,
    _tunnel,
    _worker,
    _workers,
)
from ._options import Group
from ._output import note

__all__ = ["app", "run"]

# As it is listed by `--help`.
_COMMANDS = (
    _demo,
    _open,
    _run,
    _browsers,
    _live,
    _reap,
    _cost,
    _tasks,
    _sessions,
    _profiles,
    _profile_sync,
    _files,
    _account,
    _tunnel,
    _keys,
    _projects,
    _serve,
    _worker,
    _workers,
    _config,
    _doctor,
    _completion,
)
_INTERRUPTED = 130  # as a shell reports a program that SIGINT has ended


class _InOrder(Group):
    """Lists commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return their names."""
        return list(self.commands)


@click.group(
    "cdpbridge",
    cls=_InOrder,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100},
)
@click.version_option(__version__, message="cdpbridge %(version)s")
def app() -> None:
    """Hosted browsers: rent one, drive it over CDP or Playwright, stop it, get the unused minutes back.

    New here? `cdpbridge demo` shows all of it on this machine, without an account; `cdpbridge doctor` says what is missing.
    """


for _command in _COMMANDS:
    _command.register(app)


def run() -> None:
    """Run the command line; errors of ours, and of files that were named, are one line on stderr and status 1."""
    try:
        status = app.main(prog_name="cdpbridge", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        note("cdpbridge: interrupted")
        sys.exit(_INTERRUPTED)
    except CDPBridgeError as error:
        _fail(str(error), getattr(error, "__notes__", ()))
    except OSError as error:
        if error.filename is None:  # no file that a command was given: a fault of ours
            raise
        _fail(f"{error.filename}: {error.strerror}")
    sys.exit(status if isinstance(status, int) else 0)


def _fail(text: str, notes: tuple[str, ...] | list[str] = ()) -> None:
    note(f"cdpbridge: {text}")
    for each in notes:
        note(each)
    sys.exit(1)
