"""`cdpbridge completion`: the shell's completion of commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from ._options import Group, argument

__all__ = ["register"]

_SHELLS = ("bash", "zsh", "fish")


def register(app: Group) -> None:
    """Add the command."""
    app.command("completion")(_completion)


@argument("shell", type=click.Choice(_SHELLS), help="Shell to complete in.")
@click.pass_context
def _completion(ctx: click.Context, shell: str) -> None:
    """Print a script that completes commands in SHELL.

    For bash: add `eval "$(cdpbridge completion bash)"` to ~/.bashrc. zsh: the same in ~/.zshrc. fish: save the script as
    ~/.config/fish/completions/cdpbridge.fish.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # click has these three
    print(kind(ctx.find_root().command, {}, "cdpbridge", "_CDPBRIDGE_COMPLETE").source())
