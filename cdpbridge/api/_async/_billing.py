"""`client.billing`."""

from __future__ import annotations

from cdpbridge.api import calls
from cdpbridge.api._models import Account

from ._group import AsyncGroup

__all__ = ["AsyncBilling"]


class AsyncBilling(AsyncGroup):
    """`/billing`."""

    async def account(self) -> Account:
        """Get credits and limits."""
        return await self._requests.send(calls.get_account())
