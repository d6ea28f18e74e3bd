"""What `_sync` needs of its thread: the names of `_async_io`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cdpbridge._embedded import EmbeddedServer, open_server
from cdpbridge.api._httpx import httpx

if TYPE_CHECKING:
    AnyHTTP = httpx.Client

__all__ = [
    "CANCELLED",
    "Turns",
    "in_thread",
    "monotonic",
    "own_http",
    "sleep",
    "start_server",
    "stop_server",
    "to_the_end",
    "whole_http",
]

T = TypeVar("T")

CANCELLED: Final = KeyboardInterrupt
"""How a caller is cancelled."""

monotonic = time.monotonic
sleep = time.sleep


def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Return the result of a function that waits for a disk; this thread may wait."""
    return function(*arguments)


def to_the_end(work: Callable[..., T], *arguments: Any) -> T:
    """Return the result of `work`; only a signal interrupts it."""
    return work(*arguments)


def start_server(settings: Mapping[str, Any]) -> EmbeddedServer:
    """Join or start an embedded server; it is ready."""
    return _in_a_loop(open_server(settings, meanwhile=_prepare))


def _prepare() -> None:
    """Import what the first request needs, in a thread that has time for it."""
    from cdpbridge.api._http import prepare_http  # noqa: PLC0415  # not before the server starts

    prepare_http()


def own_http(base_url: str, *, is_embedded: bool) -> AnyHTTP:  # noqa: ARG001  # as for a loop
    """Return a client for the connections to a server.

    Raises:
        ConfigurationError: The environment's proxies or certificates cannot be used.
    """
    from cdpbridge.api._http import http_options, readable_environment  # noqa: PLC0415  # not before the server starts

    with readable_environment():
        return httpx.Client(**http_options(base_url))


def whole_http(http: AnyHTTP) -> httpx.Client:
    """Return a client of httpx, for files."""
    return http


def stop_server(server: EmbeddedServer) -> None:
    """Leave it, or end it; what was rented here is stopped first."""
    _in_a_loop(server.stop())


def _in_a_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` in a loop of another thread: this thread may have a running loop, e.g. a notebook's."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(copy_context().run, asyncio.run, work).result()


class Turns:
    """One thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def lock(self) -> threading.Lock:
        """Return the lock."""
        return self._lock
