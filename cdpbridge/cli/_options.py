"""Options and arguments that commands share, and the help of arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["Command", "Group", "argument", "json_option", "limit_option", "provider_option"]

F = TypeVar("F", bound=Callable[..., Any])


class _Argument(click.Argument):
    """An argument with a line in the help; click has that since 8.5 only, and frameworks beside us pin older ones."""

    def __init__(self, *declarations: Any, description: str, **attributes: Any) -> None:
        super().__init__(*declarations, **attributes)
        self.description = description

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        """Return its name and description."""
        return self.human_readable_name, self.description


class Command(click.Command):
    """A command whose help has its arguments and its options, each under a heading."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write both."""
        for heading, kind in (("Arguments", click.Argument), ("Options", click.Option)):
            records = [
                record
                for parameter in self.get_params(ctx)
                if isinstance(parameter, kind) and (record := parameter.get_help_record(ctx)) is not None
            ]
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


class Group(click.Group):
    """A group of such commands."""

    command_class = Command


def argument(name: str, *, help: str, **attributes: Any) -> Callable[[F], F]:  # noqa: A002  # as click's own options
    """Declare an argument of a command with a description."""

    def decorate(command: F) -> F:
        # Each time: a decorator of click 8.1.0 forgets its class when it is used again.
        return click.argument(name, cls=_Argument, description=help, **attributes)(command)

    return decorate


provider_option = click.option(
    "--provider",
    help="Where: `cloud`, `local`, or the base URL of a server (its key in BROWSER_USE_API_KEY). Default: "
    "CDPBRIDGE_PROVIDER or CDPBRIDGE_BASE_URL, else the cloud when BROWSER_USE_API_KEY is set, else this machine.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
limit_option = click.option(
    "--limit", type=click.IntRange(min=1), default=100, help="Show at most this number, the newest first."
)
