"""`cdpbridge reap`: stop what killed programs have left rented."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Annotated

import typer

from ._output import ProviderOption, console, error_console

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("reap")(_reap)


def _reap(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be stopped.")] = False,
    all_of_this_key: Annotated[
        bool,
        typer.Option(
            "--all-of-this-key",
            help="Also stop what is active for this key and in no journal of this machine. Other machines that use the key lose "
            "their browsers.",
        ),
    ] = False,
    provider: ProviderOption = None,
) -> None:
    """Stop browsers that killed programs have left rented. What a running program owns is never touched."""
    if asyncio.run(_reap_each(dry_run, all_of_this_key, provider)):
        raise typer.Exit(1)


async def _reap_each(dry_run: bool, all_of_this_key: bool, provider: str | None) -> bool:
    """Whether one may still run."""
    from cdpbridge import reap
    from cdpbridge.billing import money_text
    from cdpbridge.rental._reap import ReapOutcome

    done = await reap(provider, all_of_this_key=all_of_this_key, dry_run=dry_run)
    for each in done:
        console.print(str(each), markup=False, soft_wrap=True)
    counted = sum(each.outcome in {ReapOutcome.STOPPED, ReapOutcome.WOULD_STOP} for each in done)
    saved = sum((each.saved for each in done), Decimal(0))
    if not done:
        error_console.print("nothing was left behind")
    else:
        what = "would be stopped" if dry_run else "stopped"
        error_console.print(f"{counted} {what}, {money_text(saved)} USD saved")
    return any(each.outcome is ReapOutcome.FAILED for each in done)
