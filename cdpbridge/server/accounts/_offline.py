"""The operator's commands without a running server: straight into the database of a data folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

from cdpbridge._embedded._folder import Kind
from cdpbridge.server._tenants import Tenants
from cdpbridge.server.data_dir import FolderLock, locked
from cdpbridge.server.settings import Settings
from cdpbridge.server.store import Store

from ._accounts import Accounts

__all__ = ["offline_accounts"]


@asynccontextmanager
async def offline_accounts(settings: Settings) -> AsyncIterator[Accounts]:
    """Open the accounts in `data_dir`, which is locked for this block as a server would lock it.

    Keys of the configuration are left as the last start of the server has made them: this program may have another one.

    Raises:
        ConfigurationError: A server runs there, or the database cannot be used.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(locked(settings.data_dir, FolderLock(Kind.COMMAND)))
        store = await Store.open(
            settings.database(), connections=settings.database_connections, timeout=settings.database_timeout
        )
        stack.push_async_callback(store.close)
        accounts = Accounts(store, settings, Tenants(0), wall=lambda: datetime.now(UTC))
        await accounts.load()
        yield accounts
