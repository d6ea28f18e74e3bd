"""`create_app`: the REST API, the gateway's HTTP side, and what they stand on."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from fastapi import FastAPI
from starlette.types import ASGIApp

from cdpbridge._clock import Clock
from cdpbridge._version import __version__
from cdpbridge.api.admin import ADMIN_PATH
from cdpbridge.chromium import uses_browser_uids
from cdpbridge.server import gateway
from cdpbridge.server._accounts import Accounts
from cdpbridge.server._browser_uids import prepare_uids
from cdpbridge.server._lock import locked, tightened
from cdpbridge.server._metrics import Metrics
from cdpbridge.server._operator_file import operator_file
from cdpbridge.server._reach import Reach
from cdpbridge.server._session_record import SessionRecord
from cdpbridge.server._settings import Settings
from cdpbridge.server.console import SIGN_IN_PATH, ConsoleCookie, SignIns, Snapshots, console_router
from cdpbridge.server.files import FileQuota, FileStore, SharedFolders, UrlSigner, signing_key
from cdpbridge.server.gateway import Registry
from cdpbridge.server.hosts import BrowserHosts, Builds, LocalHosts
from cdpbridge.server.hosts._browser import BrowserOptions
from cdpbridge.server.limits import BodyLimit, Border, ForwardedPeers
from cdpbridge.server.live import Live, LiveTokens, Outcome, SavedFiles
from cdpbridge.server.live import router as live_router
from cdpbridge.server.profiles import ProfileStore
from cdpbridge.server.proxy import BlockList
from cdpbridge.server.recording import Recordings
from cdpbridge.server.rentals import Pressure, Rentals, utc_now
from cdpbridge.server.routes import (
    BASE_PATH,
    FILES_PATH,
    Authentication,
    KnownHost,
    SafeHeaders,
    Services,
    Timing,
    admin_routes,
    api_router,
    external_base,
    health,
    install_problems,
    profile_script,
    public_files,
    signed_path,
)
from cdpbridge.server.store import Store
from cdpbridge.server.tasks._agent_sessions import AgentSessions, Shares
from cdpbridge.server.tasks._tasks import Tasks
from cdpbridge.server.tasks.agent import AgentProcesses, Agents

__all__ = ["create_app"]

logger = logging.getLogger("cdpbridge.server")


class _App(FastAPI):
    """FastAPI with what has to stand in front of its own answers to errors, too."""

    def __init__(self, border: Border, registry: Registry, **options: Any) -> None:
        self._border = border
        self._registry = registry
        super().__init__(**options)

    def build_middleware_stack(self) -> ASGIApp:
        limits = self._border.limits
        app: ASGIApp = BodyLimit(
            super().build_middleware_stack(),
            most=limits.body_bytes,
            paths={SIGN_IN_PATH: limits.sign_in_bytes, FILES_PATH: None},
            own=gateway.FILE_CONTENT_PATH,
        )
        app = KnownHost(app, self._registry)
        app = ForwardedPeers(app, self._border.peers)
        return SafeHeaders(app)


def create_app(
    settings: Settings,
    *,
    registry: Registry | None = None,
    border: Border | None = None,
    clock: Clock | None = None,
    wall: Callable[[], datetime] = utc_now,
    hosts: Callable[[ProfileStore, Registry], BrowserHosts] | None = None,
    agents: Callable[[Settings], Agents] | None = None,
    show_key: Callable[[str], object] | None = None,
    own_ports: Collection[int] = (),
) -> FastAPI:
    """The server as an ASGI application. WebSockets need the gateway's protocol class, so use `serve` to run it.

    Args:
        settings: From `Settings.load`.
        registry: The gateway's table of addresses; default: a new one.
        border: Limits of what peers may do; default: new ones.
        clock: Where deadlines come from; default: the event loop.
        wall: Where the dates in answers come from.
        hosts: Makes the machines that browsers run on; default: this one.
        agents: Makes what runs agents; default: browser-use in processes of its own.
        own_ports: Ports that the server listens on, which no browser with a forwarding proxy may reach.
        show_key: Called once with the API key that is made when there is none; default: printed on stderr.
    """
    registry = registry or Registry()
    registry.allow_hosts(settings.served_names)
    border = border or Border.of(trusted_proxies=settings.trusted_proxies)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.enter_context(locked(settings.data_dir))
            await asyncio.to_thread(tightened, settings.data_dir)
            stack.callback(_remove_empty, settings.runtime_folder)
            store = await Store.open(settings.database())
            stack.push_async_callback(store.close)
            accounts = Accounts(store, settings, wall=wall)
            await accounts.prepare(show_key or _print_key)
            stack.push_async_callback(accounts.close)
            accounts.start()
            profiles = ProfileStore(
                settings.data_dir / "profiles", max_bytes=settings.max_profile_mb * 1024**2
            )
            stack.callback(profiles.close)
            files = _file_store(settings)
            losses: tuple[str, ...] = ()
            if hosts is None:
                builds = Builds.found(settings.browser_build, settings.browser_path)
                machines = _local_hosts(
                    settings, accounts, builds, files, profiles, registry=registry, own_ports=own_ports
                )
                losses = builds.profile_losses
            else:
                machines = hosts(profiles, registry)
            pressure, metrics = Pressure(settings, border.connections), Metrics()
            shares = Shares(store, wall=wall)
            tokens = LiveTokens.load(settings.data_dir / "live-key")
            signer = UrlSigner(signing_key(settings.data_dir / "signing.key"))
            sign = partial(signed_path, signer, wall)
            live = Live(
                machines.connection,
                partial(_outcome, store),
                tokens,
                shares=shares,
                saved=SavedFiles(files, sign),
                record=lambda browser_id: SessionRecord(store, recordings, sign).messages(browser_id),
                border=border,
            )
            shares.on_delete = partial(_cut_share, live)
            recordings = Recordings(
                store,
                live,
                files,
                per_second=settings.recording_frames_per_second,
                max_mb=settings.recording_max_mb,
            )
            await recordings.recover()
            rentals = Rentals(
                store,
                machines,
                settings,
                forget_profile=partial(_forget, profiles),
                pressure=pressure,
                metrics=metrics,
                recorders=recordings,
                clock=clock,
                wall=wall,
            )
            accounts.on_revoke = rentals.stop
            stack.push_async_callback(rentals.close)
            await rentals.open()
            at_work = (agents or AgentProcesses)(settings)
            tasks = Tasks(store, rentals, at_work, files, Reach(machines), wall=wall)
            stack.push_async_callback(tasks.close)
            await tasks.open()
            app.state.services = Services(
                settings=settings,
                store=store,
                profiles=profiles,
                hosts=machines,
                rentals=rentals,
                live=live,
                tasks=tasks,
                agent_sessions=AgentSessions(store, rentals, tasks, files, shares),
                shares=shares,
                recordings=recordings,
                files=files,
                quota=FileQuota(files, store.browsers_of, settings.max_files_mb_per_project),
                signer=signer,
                profile_losses=losses,
                accounts=accounts,
                wall=wall,
                registry=registry,
                pressure=pressure,
                metrics=metrics,
                border=border,
            )
            app.state.snapshots = Snapshots(
                settings,
                store,
                accounts=accounts,
                hosts=machines,
                registry=registry,
                rentals=rentals,
                live=live,
                agents=tasks.agents,
                files=files,
                recordings=recordings,
                wall=wall,
            )
            address = getattr(app.state, "local_address", None)
            if address is not None:  # an application inside another server has none
                accounts.accept_local(stack.enter_context(operator_file(settings.data_dir, address)).key)
            yield

    app = _App(
        border,
        registry,
        title="cdpbridge",
        version=__version__,
        description="Browser Use Cloud API v2 over Chromium on this machine.",
        lifespan=lifespan,
        openapi_url="/openapi.json",
        docs_url=None,  # its page loads scripts from a foreign host
        redoc_url=None,
        redirect_slashes=False,
    )
    cookie = ConsoleCookie(SignIns(time.monotonic), external_base)
    app.add_middleware(Authentication, prefix=BASE_PATH, cookie=cookie)
    app.add_middleware(Authentication, prefix=ADMIN_PATH, cookie=cookie, admin=True)
    app.add_middleware(Timing, prefix=BASE_PATH)
    install_problems(app)
    app.include_router(api_router())
    app.include_router(admin_routes)
    app.include_router(health)
    app.include_router(profile_script)
    app.include_router(
        console_router(cookie, lambda request: request.app.state.snapshots, external_base, border)
    )
    app.include_router(public_files)
    app.include_router(gateway.router(registry, external_base, border=border))
    app.include_router(live_router(lambda: app.state.services.live))
    app.state.registry = registry
    return app


async def _forget(profiles: ProfileStore, profile_id: UUID) -> None:
    await profiles.run(profiles.delete, profile_id)


async def _cut_share(live: Live, token: str, _browser_id: UUID) -> None:
    await live.cut_share(token)


async def _outcome(store: Store, browser_id: UUID) -> Outcome | None:
    browser = await store.rental(browser_id)
    if browser is None or not browser.over:
        return None
    used = None
    if browser.started_at is not None and browser.finished_at is not None:
        used = browser.finished_at - browser.started_at
    return Outcome(browser.reason, used, browser.refunded)


def _file_store(settings: Settings) -> FileStore:
    shared = SharedFolders(settings.runtime_folder) if uses_browser_uids() else None
    return FileStore(settings.data_dir / "files", shared)


def _remove_empty(runtime: Path) -> None:
    """Leave no folder outside `data_dir` when no browser is left in it."""
    for folder in (runtime / "tasks", runtime / "browsers", runtime):
        with suppress(OSError):  # not there, not empty, or `data_dir`
            folder.rmdir()


def _block_list(settings: Settings) -> BlockList:
    found = BlockList.read(settings.block_lists)
    if found:
        logger.info("block lists: %d hosts; %d lines are about no whole host", len(found), found.unused)
    return found


def _local_hosts(
    settings: Settings,
    accounts: Accounts,
    builds: Builds,
    files: FileStore,
    profiles: ProfileStore,
    *,
    registry: Registry,
    own_ports: Collection[int],
) -> BrowserHosts:
    uids = prepare_uids(settings, builds)
    if not settings.chromium_sandbox:
        logger.warning(
            "chromium_sandbox = false: browsers run with --no-sandbox, so a page that breaks into its renderer has all that "
            "the browser has"
        )
    options = BrowserOptions(
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
        block_list=_block_list(settings),
        own_ports=set(own_ports),
        max_disk_bytes=settings.disk_mb_per_browser * 1024**2 or None,
    )
    return LocalHosts(
        settings.runtime_folder / "browsers",
        profiles,
        registry,
        options,
        concurrent_starts=settings.concurrent_starts,
        queue_timeout=timedelta(seconds=settings.queue_timeout_seconds),
        former_roots=[settings.data_dir / "browsers"],
        rules=lambda: accounts.network_rules,
    )


def _print_key(key: str) -> None:
    print(f"cdpbridge: API key (shown once): {key}", file=sys.stderr, flush=True)  # noqa: T201  # for the person who starts it
