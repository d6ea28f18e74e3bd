"""`/billing`: credits and limits of the account."""

from __future__ import annotations

from decimal import Decimal

from cdpbridge.api._models import Account, PlanInfo

from ._fields import FieldsRoute
from ._problems import not_found
from ._rest import rest_router
from ._services import ProjectId, ServicesOf

__all__ = ["router"]

router = rest_router("/billing", tags=["Billing"], route_class=FieldsRoute)


@router.get("/account")
async def get_account(services: ServicesOf, project_id: ProjectId) -> Account:
    """Get authenticated account information including credit balances and account details."""
    account = await services.store.account(project_id)
    if account is None:
        raise not_found("Project for a given API key")
    limit, plan = services.accounts.limit(project_id), services.plan(project_id)
    return Account(
        name=account.name,
        monthly_credits_balance_usd=Decimal(0),  # nothing is granted by the month here
        additional_credits_balance_usd=account.balance,
        total_credits_balance_usd=account.balance,
        rate_limit=limit,
        plan_info=PlanInfo(
            plan_name=plan,
            subscription_status="active" if plan == "paid" else None,
            subscription_id=None,
            subscription_current_period_end=None,
            subscription_canceled_at=None,
        ),
        project_id=account.project_id,
        concurrent_session_limit=limit,
        active_session_count=account.active,
        credits_simulated=services.settings.money_simulated and not account.has_own_credits,
        usd_per_hour=services.settings.usd_per_hour,
    )
