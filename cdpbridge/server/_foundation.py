"""What a server has before its database: the locked data folder, and what keeps files and runs browsers.

Nothing here needs SQLAlchemy or FastAPI, whose imports are most of a start's CPU: the embedded server starts its first browser here,
and imports them while Chromium starts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cdpbridge.chromium import UidPool, uses_browser_uids
from cdpbridge.server._local_browsers import LOOKED_AT, LocalBrowsers, local_browsers, nothing_more
from cdpbridge.server._tenants import Tenants
from cdpbridge.server._tokens import BrowserTokens
from cdpbridge.server.data_dir import FolderLock, Secret, locked, tightened
from cdpbridge.server.files import FileStore, KeptFiles, SharedFolders
from cdpbridge.server.gateway import Registry
from cdpbridge.server.hosts import BrowserHosts, Prepared
from cdpbridge.server.limits import Border
from cdpbridge.server.profiles import Archives, ProfileStore
from cdpbridge.server.rentals import Pressure
from cdpbridge.server.settings import Settings

if TYPE_CHECKING:
    from cdpbridge.server.objects import ObjectStorage

__all__ = ["Foundation", "HostsOf", "open_foundation"]

logger = logging.getLogger("cdpbridge.server")

HostsOf = Callable[[ProfileStore, Registry], BrowserHosts]
"""Makes the machines that browsers run on."""


@dataclass(frozen=True, slots=True)
class Foundation:
    """Parts of a server, see `_parts`, and what they have in common.

    Attributes:
        own_ports: Ports that the server listens on.
        registry: The gateway's table of addresses.
        secret: All keys derive from it.
        tokens: Of browsers' addresses.
        archives: Profiles in object storage; None without.
        tenants: Accounts keep it up to date.
        hosts: None where browsers run on workers: the database says which there are.
        isolation: How the browsers of `hosts` are isolated.
        limits: How browsers are kept to their limits.
        uids: Where isolated programs take their users from; None without.
        readable: Returns what browsers may read of this machine besides their own.
        profile_losses: The parts of a profile that are not kept here.
    """

    settings: Settings
    own_ports: Collection[int]
    registry: Registry
    border: Border
    secret: Secret
    tokens: BrowserTokens
    archives: Archives | None
    profiles: ProfileStore
    files: FileStore
    tenants: Tenants
    pressure: Pressure
    hosts: BrowserHosts | None
    isolation: Prepared
    limits: str
    uids: UidPool | None
    readable: Callable[[Settings], tuple[Path, ...]]
    profile_losses: tuple[str, ...]


@asynccontextmanager
async def open_foundation(
    settings: Settings,
    *,
    registry: Registry,
    border: Border,
    own_ports: Collection[int] = (),
    lock: FolderLock | None = None,
    hosts: HostsOf | None = None,
    order_follows: bool = False,
) -> AsyncIterator[Foundation]:
    """Open it; leaving the block ends what runs.

    Args:
        registry: The gateway's table of addresses.
        border: Limits of what peers may do.
        own_ports: Ports that the server listens on, which no browser may reach.
        lock: How it holds the data folder; default: as `cdpbridge serve` does.
        hosts: Default: this machine.
        order_follows: An order without a profile comes as soon as the server serves.

    Raises:
        ConfigurationError: Another server uses the data folder, there is no Chromium, ...
    """
    async with AsyncExitStack() as ends:
        ends.enter_context(locked(settings.data_dir, lock))
        await asyncio.to_thread(tightened, settings.data_dir)
        ends.callback(_remove_empty, settings.runtime_folder)

        # What is kept.
        secret = _secret(settings)
        tokens = BrowserTokens(secret.key("cdp"), "cdp")
        storage = await _open_storage(settings)
        archives = None if storage is None else Archives(storage)
        profiles = ProfileStore(
            settings.data_dir / "profiles",
            max_bytes=settings.max_profile_mb * 1024**2,
            archives=archives,
            max_cache_bytes=settings.profile_cache_mb * 1024**2,
            max_ready_bytes=settings.ready_profiles_mb * 1024**2,
            alone=not settings.database_is_shared,
        )
        ends.callback(profiles.close)
        confined = uses_browser_uids() or settings.isolation != "none"
        shared_folders = SharedFolders(settings.runtime_folder) if confined else None
        files = FileStore(settings.data_dir / "files", shared_folders, _kept_files(settings, storage))

        # What runs browsers.
        tenants = Tenants(len(settings.api_keys))
        pressure = Pressure(settings, border.connections, partial(profiles.run, profiles.release_ready))
        local: LocalBrowsers | None = None
        if hosts is None and settings.browsers == "here":
            local = await local_browsers(
                settings,
                profiles,
                registry,
                files,
                own_ports=set(own_ports),
                token_of=tokens.make,
                rules=lambda: settings.network_rules(tenants.number),
                strain=pressure.reason,
            )
            ends.push_async_callback(local.hosts.close)
            if order_follows and settings.starts_ahead:
                local.hosts.start_ahead(local.readable(settings))
        machines = local.hosts if local is not None else None if hosts is None else hosts(profiles, registry)
        yield Foundation(
            settings=settings,
            own_ports=own_ports,
            registry=registry,
            border=border,
            secret=secret,
            tokens=tokens,
            archives=archives,
            profiles=profiles,
            files=files,
            tenants=tenants,
            pressure=pressure,
            hosts=machines,
            isolation=Prepared(None, "unknown" if hosts else "by the workers")
            if local is None
            else local.isolation,
            limits=LOOKED_AT if local is None else local.limits,
            uids=None if local is None else local.uids,
            readable=nothing_more if local is None else local.readable,
            profile_losses=() if local is None else local.profile_losses,
        )


def _secret(settings: Settings) -> Secret:
    if settings.secret_key is None:
        return Secret.kept_in(settings.data_dir / "signing.key")
    return Secret(settings.secret_key.get_secret_value().encode())


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
    from cdpbridge.server.routes import DOWNLOAD_AGE  # noqa: PLC0415  # it loads the web framework

    return KeptFiles(storage, presigned_age=DOWNLOAD_AGE if settings.storage_presigned else None)


def _remove_empty(runtime: Path) -> None:
    """Leave no folder outside `data_dir` when no browser is left in it."""
    for folder in (runtime / "tasks", runtime / "browsers", runtime):
        with suppress(OSError):  # absent, not empty, or `data_dir`
            folder.rmdir()
