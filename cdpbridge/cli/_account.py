"""`cdpbridge account`: credits and limits."""

from __future__ import annotations

from ._options import Group, json_option, provider_option
from ._output import print_json, say, with_client

__all__ = ["register"]


def register(app: Group) -> None:
    """Add the command."""
    app.command("account")(_account)


@json_option
@provider_option
def _account(as_json: bool, provider: str | None) -> None:
    """Show credits, plan and limits."""
    account = with_client(provider, lambda client: client.billing.account())
    if as_json:
        print_json(account)
        return
    limit = account.concurrent_session_limit or account.rate_limit
    active = "" if account.active_session_count is None else f", {account.active_session_count} active"
    say(f"account   {account.name or account.project_id}")
    say(f"plan      {account.plan_info.plan_name}")
    simulated = ", simulated" if account.credits_simulated else ""
    say(
        f"credits   {account.total_credits_balance_usd} USD "
        f"(monthly {account.monthly_credits_balance_usd}, additional {account.additional_credits_balance_usd}){simulated}"
    )
    if account.usd_per_hour is not None:
        say(f"price     {account.usd_per_hour:f} USD a browser hour{simulated}")
    say(f"sessions  {limit} at once{active}")
