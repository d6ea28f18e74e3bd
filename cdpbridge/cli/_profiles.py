"""`cdpbridge profiles`: saved browser state."""

from __future__ import annotations

import typer

__all__ = ["profiles", "register"]

profiles = typer.Typer(no_args_is_help=True, help="Profiles: browser state that is kept between rentals.")


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(profiles, name="profiles")
