"""`cdpbridge reap`: stop what killed programs have left rented."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING

import click

from ._options import Group, json_option, provider_option
from ._output import note, print_json, say

if TYPE_CHECKING:
    from cdpbridge import ReapResult

__all__ = ["register"]


def register(app: Group) -> None:
    """Add the command."""
    app.command("reap")(_reap)


@click.option("--dry-run", is_flag=True, help="Only show what would be stopped.")
@click.option(
    "--all-of-this-key",
    is_flag=True,
    help="Also stop what is active for this key and in no journal of this machine. Other machines that use the key lose their browsers.",
)
@json_option
@provider_option
def _reap(dry_run: bool, all_of_this_key: bool, as_json: bool, provider: str | None) -> None:
    """Stop browsers that killed programs have left rented."""
    if asyncio.run(_reap_each(dry_run, all_of_this_key, as_json, provider)):
        raise click.exceptions.Exit(1)


def _plain(result: ReapResult) -> dict[str, object]:
    return {
        "browserId": None if result.browser_id is None else str(result.browser_id),
        "outcome": str(result.outcome),
        "label": None if result.entry is None else result.entry.label,
        "savedUsd": f"{result.saved:f}",
        "simulated": result.simulated,
        "reason": result.reason,
    }


async def _reap_each(dry_run: bool, all_of_this_key: bool, as_json: bool, provider: str | None) -> bool:
    """Stop them; return True if one may still run."""
    from cdpbridge import reap
    from cdpbridge.billing import money_text
    from cdpbridge.rental._reap import ReapOutcome

    done = await reap(provider, all_of_this_key=all_of_this_key, dry_run=dry_run)
    if as_json:
        print_json({"results": [_plain(each) for each in done]})
    else:
        for each in done:
            say(str(each))
    counted = sum(each.outcome in {ReapOutcome.STOPPED, ReapOutcome.WOULD_STOP} for each in done)
    saved = sum((each.saved for each in done if not each.simulated), Decimal(0))
    simulated = sum((each.saved for each in done if each.simulated), Decimal(0))
    if not done:
        note("nothing was left behind")
    else:
        what = "would be stopped" if dry_run else "stopped"
        text = f"{counted} {what}, {money_text(saved)} USD saved"
        note(f"{text}, and {money_text(simulated)} simulated USD" if simulated else text)
    return any(each.outcome is ReapOutcome.FAILED for each in done)
