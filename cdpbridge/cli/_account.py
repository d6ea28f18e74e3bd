"""`cdpbridge account`: credits and limits."""

from __future__ import annotations

import typer

from ._output import JsonOption, ProviderOption, console, print_json, with_client

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("account")(_account)


def _account(as_json: JsonOption = False, provider: ProviderOption = None) -> None:
    """Show credits, plan and limits."""
    account = with_client(provider, lambda client: client.billing.account())
    if as_json:
        print_json(account)
        return
    limit = account.concurrent_session_limit or account.rate_limit
    active = "" if account.active_session_count is None else f", {account.active_session_count} active"
    console.print(f"account   {account.name or account.project_id}", markup=False)
    console.print(f"plan      {account.plan_info.plan_name}", markup=False)
    console.print(
        f"credits   {account.total_credits_balance_usd} USD "
        f"(monthly {account.monthly_credits_balance_usd}, additional {account.additional_credits_balance_usd})"
    )
    console.print(f"sessions  {limit} at once{active}")
