"""The `cdpbridge` command: one file per group of commands, none with logic of its own."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the `cdpbridge` command, and end the process with its status."""
    from ._app import run

    run()
