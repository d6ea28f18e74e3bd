"""`run_worker`: a worker as a process. Binds its port, says when it is ready, and leaves in order."""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

from cdpbridge._concurrency import loop_factory
from cdpbridge.chromium import uses_browser_uids
from cdpbridge.errors import ConfigurationError
from cdpbridge.server._local_browsers import local_browsers
from cdpbridge.server._serve import process_settings, stop_signal
from cdpbridge.server.data_dir import FolderLock, locked, tightened
from cdpbridge.server.files import FileStore, SharedFolders
from cdpbridge.server.gateway import Registry
from cdpbridge.server.limits import Border, Limits, raise_descriptor_limit
from cdpbridge.server.objects import ObjectStorage
from cdpbridge.server.profiles import Archives, ProfileStore
from cdpbridge.server.proxy import Rules, UserPorts
from cdpbridge.server.rentals import Pressure
from cdpbridge.server.settings import Settings

from ._browsers import WorkerBrowsers, WorkerLimits
from ._dial import host_and_port
from ._port import WorkerPort
from ._register import Registrar, Registration
from ._tls import AuthorityFile, WorkerTls
from ._transfers import WorkerTransfers

__all__ = ["WorkerOptions", "run_worker"]

logger = logging.getLogger("cdpbridge.worker")

_TOKEN_BYTES: Final = 32
# What servers have asked for at its end: the reports.
_FAREWELL_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Options of a worker besides the settings of its browsers.

    Attributes:
        servers: Addresses of servers to register with, `http(s)://host[:port]`.
        listen: `host:port` to listen on; port 0 takes a free one.
        address: `host:port` where servers reach it; default: `listen`.
        slots: How many browsers it runs at once.
        name: For people.
        drain: How long browsers may run on when it is to end.
        close_user_ports: Browsers reach no port of this machine on which a program of the worker's user listens.
        limits: Of time.
    """

    servers: Sequence[str]
    listen: str
    slots: int
    address: str | None = None
    name: str = ""
    drain: timedelta = timedelta(0)
    close_user_ports: bool = False
    limits: WorkerLimits = field(default_factory=WorkerLimits)


def run_worker(
    settings: Settings,
    options: WorkerOptions,
    *,
    ready: Callable[[UUID, str], object] | None = None,
    dead_man_fd: int | None = None,
) -> None:
    """Run browsers for servers until SIGTERM or SIGINT.

    Args:
        settings: Of its browsers, its folder, and `worker_secret`.
        options: As above.
        ready: Called with its id and address; default: one line on stdout.
        dead_man_fd: A pipe or socket; the worker ends when its other end closes, e.g. because the parent died.

    Raises:
        ConfigurationError: There is no secret, the address is taken, there is no Chromium, ...
    """
    if settings.worker_secret is None:
        raise ConfigurationError("a worker needs the secret of its servers; set CDPBRIDGE_WORKER_SECRET")
    if not 1 <= options.slots <= 1000:
        raise ConfigurationError(f"a worker has 1 to 1000 slots, not {options.slots}")
    # A server may have its own beside it.
    settings = settings.model_copy(update={"data_dir": settings.data_dir / "worker"})
    with process_settings():
        raise_descriptor_limit()
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_run(settings, options, ready or _print_ready, dead_man_fd))


def _print_ready(worker_id: UUID, address: str) -> None:
    print(f"cdpbridge: worker {worker_id} at {address}", flush=True)  # noqa: T201  # the one line that programs wait for


async def _run(
    settings: Settings,
    options: WorkerOptions,
    ready: Callable[[UUID, str], object],
    dead_man_fd: int | None,
) -> None:
    async with AsyncExitStack() as ends:
        stop = await ends.enter_async_context(stop_signal(dead_man_fd))
        worker_id = uuid4()
        serving = _serving(settings, options, worker_id, stop)
        address, browsers, registrar = await ends.enter_async_context(serving)
        ready(worker_id, address)
        await stop.wait()
        stop.clear()
        browsers.drain()
        registrar.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(options.drain.total_seconds()):
                drained = asyncio.ensure_future(browsers.drained())
                again = asyncio.ensure_future(stop.wait())
                try:
                    await asyncio.wait({drained, again}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    drained.cancel()
                    again.cancel()
        await browsers.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                while browsers.kept():  # noqa: ASYNC110  # servers take them
                    await asyncio.sleep(_POLL_SECONDS)
        await registrar.end()


@asynccontextmanager
async def _serving(
    settings: Settings, options: WorkerOptions, worker_id: UUID, stop: asyncio.Event
) -> AsyncIterator[tuple[str, WorkerBrowsers, Registrar]]:
    """Run a worker; leaving the block ends it. `stop` is set when a part of it has failed."""
    assert settings.worker_secret is not None  # see `run_worker`
    secret = settings.worker_secret.get_secret_value().encode()
    tls = None
    if settings.worker_tls_certificate is not None:
        tls = WorkerTls(settings.worker_tls_certificate, settings.worker_tls_key)
    authority = AuthorityFile(settings.worker_tls_ca)
    async with AsyncExitStack() as ends:
        ends.enter_context(locked(settings.data_dir, FolderLock()))
        await asyncio.to_thread(tightened, settings.data_dir)
        listening = ends.enter_context(_bound(options.listen))
        port = listening.getsockname()[1]
        # Nothing that waited here for a server is wanted any more: this is another worker to them.
        folder = settings.data_dir / "transfers"
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        profiles = ProfileStore(
            settings.data_dir / "profiles",
            max_bytes=settings.max_profile_mb * 1024**2,
            archives=Archives(ObjectStorage(folder.as_uri())),
            max_cache_bytes=settings.profile_cache_mb * 1024**2,
            max_ready_bytes=settings.ready_profiles_mb * 1024**2,
            alone=False,
        )
        ends.callback(profiles.close)
        confined = uses_browser_uids() or settings.isolation != "none"
        files = FileStore(
            settings.data_dir / "files", SharedFolders(settings.runtime_folder) if confined else None
        )
        await asyncio.to_thread(_remove_files, files)
        registry = Registry()
        pressure = Pressure(settings, Border.of(Limits()).connections)
        # Until a server says what its rules are, nothing private is reached.
        rules = [Rules(private=False)]
        local = await local_browsers(
            settings,
            profiles,
            registry,
            files,
            own_ports=UserPorts([port]) if options.close_user_ports else {port},
            token_of=lambda _browser_id: secrets.token_urlsafe(_TOKEN_BYTES),
            rules=lambda: rules[0],
            strain=pressure.reason,
        )
        # It does not know how many projects its servers have.
        local.isolation.check(2)
        ends.push_async_callback(local.hosts.close)
        await local.hosts.recover([])
        transfers = WorkerTransfers(
            profiles,
            folder,
            files,
            max_bytes=max(settings.max_profile_mb, settings.max_upload_mb_per_browser) * 1024**2 * 2,
        )
        browsers = WorkerBrowsers(
            local.hosts,
            registry,
            options.slots,
            readable=local.readable(settings),
            uploads_of=files.uploads,
            limits=options.limits,
            forget=transfers.forget,
        )
        ends.push_async_callback(browsers.close)
        accepting = WorkerPort(
            worker_id,
            secret,
            local.hosts,
            browsers,
            transfers,
            obey=lambda given: rules.__setitem__(0, given),
            tls=tls,
        )
        ends.push_async_callback(accepting.close)
        address = options.address or _address(options.listen, port)
        name = options.name or socket.gethostname()
        registration = Registration(worker_id, name, address, options.slots, tls=tls is not None)
        registrar = Registrar(options.servers, secret, registration, authority)
        for work in (
            accepting.serve(listening),
            browsers.look(),
            registrar.keep(),
        ):
            task = asyncio.get_running_loop().create_task(work)
            task.add_done_callback(lambda _task: stop.set())
            ends.push_async_callback(_cancelled, task)
        yield address, browsers, registrar


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("a part of the worker has failed", exc_info=error)


def _bound(listen: str) -> socket.socket:
    host, port = host_and_port(listen)
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}: {error}; correct `--listen`") from error
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setblocking(False)
        made.bind(place)
    except OSError as error:
        made.close()
        raise ConfigurationError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another port, or 0 for a free one"
        ) from error
    return made


def _address(listen: str, port: int) -> str:
    host, _ = host_and_port(listen)
    if host in {"0.0.0.0", "::"}:  # noqa: S104  # it is looked for, and replaced
        host = socket.gethostname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _remove_files(files: FileStore) -> None:
    """Remove what browsers of an earlier worker have left: no server asks for it any more."""
    for browser_id in files.owners("browsers"):
        files.remove(browser_id=browser_id)
