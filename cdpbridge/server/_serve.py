"""`serve`: the server as a process. Binds the socket, says when it is ready, and leaves in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from cdpbridge._concurrency import in_thread, loop_factory
from cdpbridge.errors import ConfigurationError
from cdpbridge.server._foundation import HostsOf, open_foundation
from cdpbridge.server._programs import Programs
from cdpbridge.server.data_dir import FolderLock, says_it_ends
from cdpbridge.server.gateway import Registry
from cdpbridge.server.limits import Border, Limits, raise_descriptor_limit
from cdpbridge.server.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["process_settings", "serve", "serving", "stop_signal"]

logger = logging.getLogger("cdpbridge.server")

_BACKLOG: Final = 2048
# What is below `data_dir` is for the server's user alone: keys, cookies, downloads.
_UMASK: Final = 0o077
_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def serve(
    settings: Settings,
    *,
    ready: Callable[[str], object] | None = None,
    show_key: Callable[[str], object] | None = None,
    dead_man_fd: int | None = None,
    limits: Limits | None = None,
    lock: FolderLock | None = None,
    programs: Programs | None = None,
    order_follows: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT, then stop every browser, refund it, and return.

    Args:
        ready: Called with the base URL, e.g. `http://127.0.0.1:8700/api/v2`; default: one line on stdout.
        show_key: Called once with the API key that is made when there is none; default: printed on stderr.
        dead_man_fd: A pipe or socket; the server stops when its other end closes, e.g. because the parent died.
        limits: Of peers; default: those in `Limits`.
        lock: How it holds the data folder.
        programs: Those that share it; it ends some seconds after the last of them.
        order_follows: It is started for an order that comes at once: an embedded one starts a browser for that meanwhile.

    Raises:
        ConfigurationError: The address is taken, another server uses the data folder, there is no Chromium, it is called in
            a thread, ...
    """
    if threading.current_thread() is not threading.main_thread():
        raise ConfigurationError(
            "serve() handles signals, so it runs in the main thread of a program; in another thread, rent from `local()`, "
            "which starts the server in a process of its own"
        )
    with process_settings():
        raise_descriptor_limit()
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(
                _serve(
                    settings,
                    ready or print_ready,
                    dead_man_fd,
                    programs,
                    show_key=show_key,
                    limits=limits,
                    lock=lock or FolderLock(),
                    order_follows=order_follows,
                )
            )


@contextmanager
def process_settings() -> Iterator[None]:
    """Set the umask of the server; at the end, restore it and the signal handlers of the program that called."""
    handlers = {number: signal.getsignal(number) for number in _STOP_SIGNALS}
    mask = os.umask(_UMASK)
    try:
        yield
    finally:
        os.umask(mask)
        for number, handler in handlers.items():
            # None: it was not set from Python, and cannot be set again.
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)


def print_ready(base_url: str) -> None:
    print(f"cdpbridge: serving {base_url}", flush=True)  # noqa: T201  # the one line a parent process waits for


async def _serve(
    settings: Settings,
    ready: Callable[[str], object],
    dead_man_fd: int | None,
    programs: Programs | None,
    *,
    lock: FolderLock,
    **options: Any,
) -> None:
    async with AsyncExitStack() as ends:
        if programs is not None:
            # Last: a program that has left last sees its connection end when the data folder is free.
            ends.callback(programs.close)
        stop = await ends.enter_async_context(stop_signal(dead_man_fd))
        app, base_url = await ends.enter_async_context(serving(settings, lock=lock, **options))
        ends.callback(says_it_ends, settings.data_dir, lock)
        if programs is not None:
            await ends.enter_async_context(programs.joining(app.state.services, base_url, stop))
        ready(base_url)
        stopping = asyncio.create_task(stop.wait())
        broken = asyncio.create_task(app.state.ended.wait())
        try:
            await asyncio.wait({broken, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            broken.cancel()


@asynccontextmanager
async def serving(
    settings: Settings,
    *,
    limits: Limits | None = None,
    lock: FolderLock | None = None,
    hosts: HostsOf | None = None,
    order_follows: bool = False,
    **options: Any,
) -> AsyncIterator[tuple[FastAPI, str]]:
    """Run a server in this event loop and give its base URL; leaving the block stops its browsers, then the server.

    Args:
        settings: From `Settings.load`.
        limits: Of peers; default: those in `Limits`.
        lock: How it holds the data folder; default: as `cdpbridge serve` does.
        hosts: Makes the machines that browsers run on; default: this one.
        order_follows: See `serve`.
        options: For `create_app`.

    Raises:
        ConfigurationError: See `serve`.
    """
    registry = Registry()
    border = Border.of(limits, trusted_proxies=settings.trusted_proxies)
    with _bound(settings) as listening:
        own_ports = [listening.getsockname()[1]]
        async with open_foundation(
            settings,
            registry=registry,
            border=border,
            own_ports=own_ports,
            lock=lock,
            hosts=hosts,
            order_follows=order_follows,
        ) as foundation:
            # The loop goes on: a browser that was started ahead needs it.
            listener = await in_thread(_import_listener)
            from cdpbridge.server.routes import BASE_PATH  # noqa: PLC0415  # loaded with it

            async with listener.listen(
                foundation, listening, local_address=_local_address(listening), **options
            ) as app:
                yield app, f"{settings.public_url or _address(listening)}{BASE_PATH}"


def _import_listener() -> Any:
    from cdpbridge.server._fastapi import import_fastapi  # noqa: PLC0415  # when the first browser starts

    import_fastapi()
    return import_module("cdpbridge.server._listener")


@contextmanager
def _bound(settings: Settings) -> Iterator[socket.socket]:
    """Open a listening socket; it is bound here so that port 0 works and a taken one is a ConfigurationError."""
    try:
        found = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {settings.host}: {error}; correct `host`") from error
    with listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(address)
            listening.listen(_BACKLOG)
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {settings.host} port {settings.port}: {error.strerror}; "
                "choose another `port`, or 0 for a free one"
            ) from error
        yield listening


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _local_address(listening: socket.socket) -> str:
    """Return how programs of this machine reach us, whatever is in front for the others."""
    address = _address(listening)
    return address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


@asynccontextmanager
async def stop_signal(dead_man_fd: int | None) -> AsyncIterator[asyncio.Event]:
    """Give an event that is set by SIGTERM, SIGINT, or the end of the process that holds the other end of the pipe."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def asked(number: int) -> None:
        if stop.is_set():
            logger.warning("asked again to stop; browsers are being shut down, this takes some seconds")
        logger.info("%s: stopping", signal.Signals(number).name)
        stop.set()

    def dead_man_moved() -> None:
        assert dead_man_fd is not None  # it is being watched
        try:
            if os.read(dead_man_fd, 4096):
                return
        except BlockingIOError:
            return
        except OSError as error:
            logger.info("the owner's pipe failed: %s", error)
        loop.remove_reader(dead_man_fd)
        stop.set()

    if dead_man_fd is not None:
        _check_pipe(dead_man_fd)
    try:
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, asked, number)
        if dead_man_fd is not None:
            loop.add_reader(dead_man_fd, dead_man_moved)
        yield stop
    finally:
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)
        if dead_man_fd is not None:
            loop.remove_reader(dead_man_fd)


def _check_pipe(descriptor: int) -> None:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError as error:
        raise ConfigurationError(f"dead_man_fd {descriptor} is not open; pass it to the process") from error
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)):
        raise ConfigurationError(
            f"dead_man_fd {descriptor} must be a pipe or a socket; a file never tells of the owner's end"
        )
