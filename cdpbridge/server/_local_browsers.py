"""`LocalBrowsers`: browsers of this machine as the settings want them, for a server and for a worker."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from cdpbridge.chromium import UidPool
from cdpbridge.server.files import FileStore
from cdpbridge.server.gateway import Registry
from cdpbridge.server.hosts import (
    BrowserOptions,
    Builds,
    CgroupPool,
    Isolator,
    LocalHosts,
    Prepared,
    UsageReader,
    find_cgroups,
    prepare_isolation,
    prepare_uids,
    readable_paths,
)
from cdpbridge.server.limits import read_machine
from cdpbridge.server.profiles import ProfileStore
from cdpbridge.server.proxy import BlockList, Rules
from cdpbridge.server.settings import Settings

__all__ = ["LOOKED_AT", "LocalBrowsers", "local_browsers", "nothing_more"]

logger = logging.getLogger("cdpbridge.server")

# What browsers use is looked at for all together, twice in the time in which each is asked once, but not more often than this.
_USAGE_SECONDS: Final = 1.0
LOOKED_AT: Final = "looked at with each health check"
"""How browsers are kept to their limits where no control groups can be made."""

# A browser with 100 pages that compute without end held up the start of others for seconds on two processors, with any share of them:
# measured, `benchmarks/bad_tenant.py`. More pages than this gain nothing by a process each.
_RENDERERS_PER_CPU: Final = 4
_LEAST_RENDERERS: Final = 8


@dataclass(frozen=True, slots=True)
class LocalBrowsers:
    """What runs browsers on this machine.

    Attributes:
        isolation: Whether and how they are isolated.
        limits: How they are kept to their limits.
        uids: Where isolated programs take their users from; None without.
        readable: What isolated ones may read of this machine, by the settings.
        profile_losses: What their profiles do not keep.
    """

    hosts: LocalHosts
    isolation: Prepared
    limits: str
    uids: UidPool | None
    readable: Callable[[Settings], tuple[Path, ...]]
    profile_losses: tuple[str, ...]


async def local_browsers(
    settings: Settings,
    profiles: ProfileStore,
    registry: Registry,
    files: FileStore,
    *,
    own_ports: set[int],
    token_of: Callable[[UUID], str],
    rules: Callable[[], Rules],
    strain: Callable[[], str | None],
) -> LocalBrowsers:
    """Look for Chromium, test what isolates it here, and make what runs it.

    Args:
        settings: Of browsers.
        profiles: Where profiles come from and go to.
        registry: The table of addresses.
        files: Where downloads go.
        own_ports: Ports of this process, closed to browsers; theirs are added.
        token_of: What a browser's address is made of.
        rules: What browsers may reach that start from now on.
        strain: Why the machine should start no browser.

    Raises:
        ConfigurationError: There is no Chromium, or what the settings want is not possible here.
    """
    builds = Builds.found(settings.browser_build, settings.browser_path)
    uids = prepare_uids(settings, builds)
    isolation = await prepare_isolation(settings, builds, uids)
    readable = nothing_more if isolation.isolator is None else readable_paths
    limits, cgroups = LOOKED_AT, None
    if isolation.isolator is not None:
        limits, cgroups = await asyncio.to_thread(_cgroups)
        logger.info("limits of browsers: %s", limits)
    options = _browser_options(
        settings,
        builds,
        files,
        uids=uids,
        isolator=isolation.isolator,
        cgroups=cgroups,
        own_ports=own_ports,
        token_of=token_of,
    )
    hosts = LocalHosts(
        settings.runtime_folder / "browsers",
        profiles,
        registry,
        options,
        concurrent_starts=settings.concurrent_starts,
        queue_timeout=timedelta(seconds=settings.queue_timeout_seconds),
        former_roots=[settings.data_dir / "browsers"],
        rules=rules,
        warm_browsers=settings.ready_browsers,
        usual_proxy=_usual_proxy(settings),
        usual_readable=readable(settings),
        strain=strain,
    )
    return LocalBrowsers(hosts, isolation, limits, uids, readable, builds.profile_losses)


def nothing_more(_settings: Settings) -> tuple[Path, ...]:
    """Where browsers are not isolated, they read what their user may."""
    return ()


def _browser_options(
    settings: Settings,
    builds: Builds,
    files: FileStore,
    *,
    uids: UidPool | None,
    isolator: Isolator | None,
    cgroups: CgroupPool | None,
    own_ports: set[int],
    token_of: Callable[[UUID], str],
) -> BrowserOptions:
    if not settings.chromium_sandbox:
        logger.warning(
            "chromium_sandbox = false: browsers run with --no-sandbox, so a page that breaks into its renderer has all that "
            "the browser has"
        )
    cpus = read_machine(settings.runtime_folder, settings.data_dir, Path("/")).cpus
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
        own_ports=own_ports,
        max_disk_bytes=settings.disk_mb_per_browser * 1024**2 or None,
        max_memory_bytes=settings.memory_mb_per_browser * 1024**2 or None,
        max_processes=settings.max_processes_per_browser or None,
        max_renderers=_most_renderers(cpus),
        usage=UsageReader(valid_seconds=max(_USAGE_SECONDS, settings.health_check_seconds / 2)),
        token_of=token_of,
        cgroups=cgroups,
        processors=cpus,
    )


def _most_renderers(cpus: float) -> int:
    return max(_LEAST_RENDERERS, _RENDERERS_PER_CPU * math.ceil(cpus))


def _cgroups() -> tuple[str, CgroupPool | None]:
    """Return how limits are kept, and where control groups are made, without what killed servers have left there."""
    found = find_cgroups()
    if not isinstance(found, CgroupPool):
        return f"{LOOKED_AT}: {found}", None
    found.sweep()
    return f"{found}, and {LOOKED_AT}", found


def _usual_proxy(settings: Settings) -> str | None:
    """Return the proxy of orders that name none."""
    country = settings.default_proxy_country
    return None if country is None else settings.proxies[country].get_secret_value()


def _block_list(settings: Settings) -> BlockList:
    found = BlockList.read(settings.block_lists)
    if found:
        logger.info("block lists: %d hosts; %d lines are about no whole host", len(found), found.unused)
    return found
