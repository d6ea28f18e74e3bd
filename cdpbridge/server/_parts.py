"""The parts of a running server: made in one order, ended in the opposite one.

Each part is complete when it is made, and is given only parts that were made before it:

| part             | what it does                                    | it needs                             |
|------------------|-------------------------------------------------|--------------------------------------|
| `store`          | the database                                    | the locked data folder               |
| `accounts`       | projects, keys, credits                         | store                                |
| `profiles`       | saved profiles                                  | the data folder                      |
| `files`          | uploads, downloads, recordings, signed addresses| the data folder                      |
| `hosts`          | browser processes                               | profiles, files, registry, accounts  |
| `views`          | the live view, shares and recordings, on demand | hosts, store, files                  |
| `rentals`        | starts, charges and stops browsers              | hosts, views, profiles, store        |
| `agency`         | tasks and agent sessions, on demand             | rentals, hosts, views, files, store  |

A part reports to a later one only through a function that came with a call of the later one: `hosts.start(on_exit=, on_limit=)`,
`rentals.create(on_end=)`, `accounts.revoke_key(stop=)`. So no part has a slot that is filled after it was made.

The end: agents first, then browsers with their refunds, then what records them, the database, and the lock of the data folder.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

from cdpbridge._clock import Clock
from cdpbridge.chromium import UidPool, uses_browser_uids
from cdpbridge.server._agency import Agency
from cdpbridge.server._chores import repeated
from cdpbridge.server._keeping import Keeping
from cdpbridge.server._metrics import Metrics
from cdpbridge.server._sweep import Sweep
from cdpbridge.server._views import Views
from cdpbridge.server.accounts import Accounts
from cdpbridge.server.data_dir import FolderLock, locked, tightened
from cdpbridge.server.files import FileQuota, FileStore, KeptFiles, SharedFolders, UrlSigner, signing_key
from cdpbridge.server.gateway import Registry
from cdpbridge.server.hosts import (
    BrowserHosts,
    BrowserOptions,
    Builds,
    Isolator,
    LocalHosts,
    Prepared,
    prepare_isolation,
    prepare_uids,
    readable_paths,
    saved_before,
)
from cdpbridge.server.limits import Border
from cdpbridge.server.live import LiveTokens
from cdpbridge.server.profiles import Archives, ProfileStore
from cdpbridge.server.proxy import BlockList
from cdpbridge.server.rentals import Pressure, Rentals
from cdpbridge.server.routes import DOWNLOAD_AGE, Services, signed_path
from cdpbridge.server.settings import Settings
from cdpbridge.server.store import Store

if TYPE_CHECKING:
    from cdpbridge.server.objects import ObjectStorage
    from cdpbridge.server.tasks.agent import Agents

__all__ = ["open_parts"]

logger = logging.getLogger("cdpbridge.server")

_SWEEP_EVERY_SECONDS: Final = 3600.0
_KEEP_EVERY_SECONDS: Final = 2.0
_KEEP_AFTER_A_FAILURE_SECONDS: Final = 30.0


@asynccontextmanager
async def open_parts(
    settings: Settings,
    *,
    registry: Registry,
    border: Border,
    clock: Clock | None,
    wall: Callable[[], datetime],
    hosts: Callable[[ProfileStore, Registry], BrowserHosts] | None,
    agents: Callable[[Settings], Agents] | None,
    show_key: Callable[[str], object] | None,
    own_ports: Collection[int],
    lock: FolderLock | None,
) -> AsyncIterator[Services]:
    """Open the parts of a server; leaving the block ends what runs. Arguments as in `create_app`."""
    async with AsyncExitStack() as ends:
        ends.enter_context(locked(settings.data_dir, lock))
        await asyncio.to_thread(tightened, settings.data_dir)
        ends.callback(_remove_empty, settings.runtime_folder)

        # What is kept.
        store = await Store.open(
            settings.database(), connections=settings.database_connections, timeout=settings.database_timeout
        )
        ends.push_async_callback(store.close)
        accounts = Accounts(store, settings, wall=wall)
        await accounts.prepare(show_key or _print_key)
        ends.push_async_callback(accounts.close)
        accounts.start()
        storage = await _open_storage(settings)
        archives = None if storage is None else Archives(storage)
        profiles = ProfileStore(
            settings.data_dir / "profiles",
            max_bytes=settings.max_profile_mb * 1024**2,
            archives=archives,
            max_cache_bytes=settings.profile_cache_mb * 1024**2,
            alone=store.one_writer,
        )
        ends.callback(profiles.close)
        if archives is not None:
            sweeping = repeated(
                Sweep(store, archives).once,
                "former versions of profiles could not be removed from the storage",
                every=_SWEEP_EVERY_SECONDS,
                after_failure=_SWEEP_EVERY_SECONDS,
            )
            await ends.enter_async_context(sweeping)
        confined = uses_browser_uids() or settings.isolation != "none"
        shared_folders = SharedFolders(settings.runtime_folder) if confined else None
        files = FileStore(settings.data_dir / "files", shared_folders, _kept_files(settings, storage))
        signer = UrlSigner(settings.derived_key("files") or signing_key(settings.data_dir / "signing.key"))
        sign = partial(signed_path, signer, wall)

        # What runs browsers.
        pressure = Pressure(settings, border.connections)
        losses: tuple[str, ...] = ()
        isolation = Prepared(None, "unknown")
        readable: Callable[[Settings], tuple[Path, ...]] = _nothing_more
        if hosts is not None:
            machines = hosts(profiles, registry)
        else:
            builds = Builds.found(settings.browser_build, settings.browser_path)
            uids = prepare_uids(settings, builds)
            isolation = await prepare_isolation(settings, builds, uids, projects=accounts.projects_with_keys)
            isolator = isolation.isolator
            if isolator is not None:
                readable = readable_paths
            options = _browser_options(
                settings, builds, files, uids=uids, isolator=isolator, own_ports=own_ports
            )
            machines = LocalHosts(
                settings.runtime_folder / "browsers",
                profiles,
                registry,
                options,
                concurrent_starts=settings.concurrent_starts,
                queue_timeout=timedelta(seconds=settings.queue_timeout_seconds),
                former_roots=[settings.data_dir / "browsers"],
                rules=lambda: accounts.network_rules,
                warm_browsers=settings.ready_browsers,
                usual_proxy=_usual_proxy(settings),
                usual_readable=readable(settings),
                strain=pressure.reason,
            )
            ends.push_async_callback(machines.close)
            losses = builds.profile_losses

        # What shows and records them.
        live_key = settings.derived_key("live")
        tokens = LiveTokens(live_key) if live_key else LiveTokens.load(settings.data_dir / "live-key")
        views = Views(settings, store, machines, files, border, tokens=tokens, sign=sign, wall=wall)
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
            pressure=pressure,
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
            settings, store, machines, files, rentals=rentals, views=views, agents=agents, wall=wall
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
        yield Services(
            settings=settings,
            store=store,
            profiles=profiles,
            hosts=machines,
            rentals=rentals,
            views=views,
            agency=agency,
            live_tokens=tokens,
            files=files,
            quota=FileQuota(files, store.owned_by, store.kept_bytes, settings.max_files_mb_per_project),
            signer=signer,
            profile_losses=losses,
            isolation=isolation.words,
            readable=readable,
            sharing_refusal=isolation.sharing_refusal,
            accounts=accounts,
            wall=wall,
            registry=registry,
            pressure=pressure,
            metrics=metrics,
            border=border,
        )


def _nothing_more(_settings: Settings) -> tuple[Path, ...]:
    """Where browsers are not isolated, they read what their user may."""
    return ()


async def _open_storage(settings: Settings) -> ObjectStorage | None:
    if settings.storage_url is None:
        return None
    from cdpbridge.server.objects import ObjectStorage  # noqa: PLC0415  # obstore is an extra

    options = {name: value.get_secret_value() for name, value in settings.storage_options.items()}
    storage = ObjectStorage(settings.storage_url, options)
    await asyncio.to_thread(storage.check)
    return storage


def _kept_files(settings: Settings, storage: ObjectStorage | None) -> KeptFiles | None:
    if storage is None:
        return None
    return KeptFiles(storage, presigned_age=DOWNLOAD_AGE if settings.storage_presigned else None)


async def _forget(profiles: ProfileStore, profile_id: UUID) -> None:
    await profiles.run(profiles.delete, profile_id)


def _remove_empty(runtime: Path) -> None:
    """Leave no folder outside `data_dir` when no browser is left in it."""
    for folder in (runtime / "tasks", runtime / "browsers", runtime):
        with suppress(OSError):  # absent, not empty, or `data_dir`
            folder.rmdir()


def _browser_options(
    settings: Settings,
    builds: Builds,
    files: FileStore,
    *,
    uids: UidPool | None,
    isolator: Isolator | None,
    own_ports: Collection[int],
) -> BrowserOptions:
    if not settings.chromium_sandbox:
        logger.warning(
            "chromium_sandbox = false: browsers run with --no-sandbox, so a page that breaks into its renderer has all that "
            "the browser has"
        )
    return BrowserOptions(
        builds=builds,
        args=tuple(settings.browser_args),
        start_timeout=settings.start_timeout,
        stop_timeout=settings.stop_timeout,
        export_every=timedelta(seconds=settings.cookie_export_seconds),
        health_every=timedelta(seconds=settings.health_check_seconds),
        health_timeout=timedelta(seconds=settings.health_timeout_seconds),
        files=files,
        sandbox=settings.chromium_sandbox,
        uids=uids,
        isolation=isolator,
        # Browsers that have the user's own home find them there.
        certificates=settings.user_fonts_and_certificates and (isolator is not None or uids is not None),
        block_list=_block_list(settings),
        own_ports=set(own_ports),
        max_disk_bytes=settings.disk_mb_per_browser * 1024**2 or None,
        max_memory_bytes=settings.memory_mb_per_browser * 1024**2 or None,
        max_processes=settings.max_processes_per_browser or None,
    )


def _usual_proxy(settings: Settings) -> str | None:
    """Return the proxy of orders that name none."""
    country = settings.default_proxy_country
    return None if country is None else settings.proxies[country].get_secret_value()


def _block_list(settings: Settings) -> BlockList:
    found = BlockList.read(settings.block_lists)
    if found:
        logger.info("block lists: %d hosts; %d lines are about no whole host", len(found), found.unused)
    return found


def _print_key(key: str) -> None:
    print(f"cdpbridge: API key (shown once): {key}", file=sys.stderr, flush=True)  # noqa: T201  # for the person who starts it
