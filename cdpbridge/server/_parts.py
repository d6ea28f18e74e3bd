"""The parts of a running server: made in one order, ended in the opposite one.

Each part is complete when it is made, and is given only parts that were made before it:

| part             | what it does                                    | it needs                             |
|------------------|-------------------------------------------------|--------------------------------------|
| `profiles`       | saved profiles                                  | the locked data folder               |
| `files`          | uploads, downloads, recordings, signed addresses| the locked data folder               |
| `hosts`          | browser processes                               | profiles, files, registry            |
| `store`          | the database                                    | the locked data folder               |
| `accounts`       | projects, keys, credits                         | store                                |
| `views`          | the live view, shares and recordings, on demand | hosts, store, files                  |
| `rentals`        | starts, charges and stops browsers              | hosts, views, profiles, store        |
| `agency`         | tasks and agent sessions, on demand             | rentals, hosts, views, files, store  |
| `engine`         | starts and replaces workers, where one is set   | store                                |

A part reports to a later one only through a function that came with a call of the later one: `hosts.start(on_exit=, on_limit=)`,
`rentals.create(on_end=)`, `accounts.revoke_key(stop=)`. So no part has a slot that is filled after it was made.

The first three are the `Foundation`, which needs neither the database's nor the web framework's imports. Where browsers run on
workers, `hosts` come after the store, which knows the workers.

The end: agents first, then browsers with their refunds, then what records them, the database, and the lock of the data folder.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import UUID

from cdpbridge._clock import Clock
from cdpbridge.server._agency import Agency
from cdpbridge.server._chores import repeated
from cdpbridge.server._foundation import Foundation
from cdpbridge.server._keeping import Keeping
from cdpbridge.server._metrics import Metrics
from cdpbridge.server._resolver import BrowserResolver
from cdpbridge.server._sweep import Sweep
from cdpbridge.server._tokens import BrowserTokens
from cdpbridge.server._views import Views
from cdpbridge.server.accounts import Accounts
from cdpbridge.server.files import FileQuota, UrlSigner
from cdpbridge.server.hosts import BrowserHosts, saved_before
from cdpbridge.server.profiles import ProfileStore
from cdpbridge.server.rentals import Rentals
from cdpbridge.server.routes import Services, signed_path
from cdpbridge.server.settings import Settings
from cdpbridge.server.store import Store

if TYPE_CHECKING:
    from cdpbridge.server.engine import Engine
    from cdpbridge.server.tasks.agent import Agents

__all__ = ["open_parts"]

logger = logging.getLogger("cdpbridge.server")

_SWEEP_EVERY_SECONDS: Final = 3600.0
_KEEP_EVERY_SECONDS: Final = 2.0
_KEEP_AFTER_A_FAILURE_SECONDS: Final = 30.0


@asynccontextmanager
async def open_parts(
    foundation: Foundation,
    *,
    clock: Clock | None,
    wall: Callable[[], datetime],
    agents: Callable[[Settings], Agents] | None,
    show_key: Callable[[str], object] | None,
) -> AsyncIterator[Services]:
    """Open the parts of a server; leaving the block ends what runs. Arguments as in `create_app`.

    Args:
        foundation: Open, and for longer.
    """
    settings, border = foundation.settings, foundation.border
    profiles, files = foundation.profiles, foundation.files
    isolation, readable = foundation.isolation, foundation.readable
    async with AsyncExitStack() as ends:
        # What is kept.
        store = await Store.open(
            settings.database(), connections=settings.database_connections, timeout=settings.database_timeout
        )
        ends.push_async_callback(store.close)
        accounts = Accounts(store, settings, foundation.tenants, wall=wall)
        await accounts.prepare(show_key or _print_key)
        ends.push_async_callback(accounts.close)
        isolation.check(accounts.projects_with_keys)
        accounts.start()
        if foundation.archives is not None:
            sweeping = repeated(
                Sweep(store, foundation.archives).once,
                "former versions of profiles could not be removed from the storage",
                every=_SWEEP_EVERY_SECONDS,
                after_failure=_SWEEP_EVERY_SECONDS,
            )
            await ends.enter_async_context(sweeping)
        signer = UrlSigner(foundation.secret.key("files"))
        sign = partial(signed_path, signer, wall)

        machines = foundation.hosts or await _on_workers(foundation, store, ends, wall=wall)
        resolver = BrowserResolver(foundation.tokens, machines, store)
        foundation.registry.resolve_with(resolver)

        # What shows and records them.
        tokens = BrowserTokens(foundation.secret.key("live"), "live")
        views = Views(
            settings,
            store,
            machines,
            files,
            border,
            tokens=tokens,
            sign=sign,
            check_runs_nowhere=resolver.check_runs_nowhere,
            wall=wall,
        )
        await views.recover()

        # What rents them.
        metrics = Metrics()
        rentals = Rentals(
            store,
            machines,
            settings,
            forget_profile=partial(_forget, profiles),
            discard_version=partial(profiles.run, profiles.discard),
            find_upload=partial(saved_before, profiles),
            pressure=foundation.pressure,
            metrics=metrics,
            recorders=views,
            readable=readable(settings),
            clock=clock,
            wall=wall,
        )
        ends.push_async_callback(rentals.close)
        await rentals.open()

        # What works in them.
        agency = Agency(
            settings,
            store,
            machines,
            files,
            rentals=rentals,
            views=views,
            agents=agents,
            isolator=isolation.isolator,
            uids=foundation.uids,
            wall=wall,
        )
        ends.push_async_callback(agency.close)
        await agency.recover()
        if files.kept is not None:
            keeping = repeated(
                Keeping(store, files).once,
                "files could not be moved to the storage",
                every=_KEEP_EVERY_SECONDS,
                after_failure=_KEEP_AFTER_A_FAILURE_SECONDS,
            )
            await ends.enter_async_context(keeping)
        engine: Engine | None = None
        if settings.engine != "none":
            from cdpbridge.server.engine import open_engine  # noqa: PLC0415  # most servers have none

            engine = await ends.enter_async_context(
                open_engine(settings, store, own_ports=foundation.own_ports)
            )
        yield Services(
            settings=settings,
            store=store,
            profiles=profiles,
            hosts=machines,
            rentals=rentals,
            views=views,
            agency=agency,
            cdp_tokens=foundation.tokens,
            live_tokens=tokens,
            files=files,
            quota=FileQuota(files, store.owned_by, store.kept_bytes, settings.max_files_mb_per_project),
            signer=signer,
            profile_losses=foundation.profile_losses,
            isolation=isolation.words,
            limits=foundation.limits,
            readable=readable,
            sharing_refusal=isolation.sharing_refusal,
            accounts=accounts,
            wall=wall,
            registry=foundation.registry,
            resolver=resolver,
            pressure=foundation.pressure,
            metrics=metrics,
            border=border,
            engine=engine,
        )


async def _on_workers(
    foundation: Foundation, store: Store, ends: AsyncExitStack, *, wall: Callable[[], datetime]
) -> BrowserHosts:
    """Look for workers. Imported here: most servers have none."""
    from cdpbridge.server.workers import ServerTls, StoreSlots, WorkerHosts  # noqa: PLC0415

    settings = foundation.settings
    assert settings.worker_secret is not None  # the settings are checked
    slots = StoreSlots(store, timeout=timedelta(seconds=settings.queue_timeout_seconds), wall=wall)
    ends.push_async_callback(slots.close)
    slots.open()
    machines = WorkerHosts(
        slots,
        settings.worker_secret.get_secret_value().encode(),
        foundation.registry,
        profiles=foundation.profiles,
        files=foundation.files,
        folder=settings.data_dir / "transfers",
        rules=lambda: settings.network_rules(foundation.tenants.number),
        max_file_bytes=(settings.disk_mb_per_browser or 1024**2) * 1024**2,
        token_of=foundation.tokens.make,
        tls=ServerTls(settings.worker_tls_ca, settings.worker_tls_name),
    )
    await machines.open()
    ends.push_async_callback(machines.close)
    return machines


async def _forget(profiles: ProfileStore, profile_id: UUID) -> None:
    await profiles.run(profiles.delete, profile_id)


def _print_key(key: str) -> None:
    print(f"cdpbridge: API key (shown once): {key}", file=sys.stderr, flush=True)  # noqa: T201  # for the person who starts it
