"""Where browsers run: `cloud()`, `local()`, `at(base_url)`. All give an `AsyncClient`; swapping the word swaps the place."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

from cdpbridge._server_process import ServerProcess
from cdpbridge.api import DEFAULT_BASE_URL, AsyncClient, Client
from cdpbridge.errors import ConfigurationError

__all__ = ["LocalClient", "LocalSyncClient", "at", "cloud", "local", "local_sync", "provider"]

T = TypeVar("T")

_VARIABLE: Final = "CDPBRIDGE_PROVIDER"


def cloud(api_key: str | None = None, **options: Any) -> AsyncClient:
    """Browsers of the Browser Use Cloud.

    Args:
        api_key: Default: `BROWSER_USE_API_KEY`.
        options: For `AsyncClient`.

    Raises:
        ConfigurationError: There is no key.
    """
    return AsyncClient(api_key, os.environ.get("CDPBRIDGE_BASE_URL") or DEFAULT_BASE_URL, **options)


def at(base_url: str, api_key: str | None = None, **options: Any) -> AsyncClient:
    """Browsers of a server that speaks the same API, e.g. one started by `cdpbridge serve`.

    Args:
        base_url: E.g. `https://browsers.example.com/api/v2`.
        api_key: Default: `BROWSER_USE_API_KEY`.
        options: For `AsyncClient`.

    Raises:
        ConfigurationError: There is no key, or the address is malformed.
    """
    return AsyncClient(api_key, base_url, **options)


def local(
    *, data_dir: Path | str | None = None, config: Path | str | None = None, **settings: Any
) -> LocalClient:
    """Browsers on this machine, from an embedded server that lives as long as the client is open.

    Needs the extra `local` and Chromium. One server at a time uses a data folder: programs that run side by side need a
    `data_dir` each, or one `cdpbridge serve` that they share by `at`.

    Args:
        data_dir: Folder of profiles and records. Default: the platform's data folder, so profiles last.
        config: TOML file with settings.
        settings: Any setting of the server, e.g. `proxies={"de": "http://user:password@host:8080"}`; they come before the
            environment's and the file's.
    """
    return LocalClient({"data_dir": data_dir, "config": config} | settings)


class _Embedding:
    """What both clients of an embedded server have in common."""

    _server: ServerProcess | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} local {'closed' if self._server is None else self._server.base_url}>"

    @property
    def server_pid(self) -> int | None:
        """Process id of the server while it runs."""
        return None if self._server is None else self._server.pid


class LocalClient(_Embedding, AsyncClient):
    """The client of an embedded server; it starts the server when it is opened, and ends it when it is closed."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = _given(settings)
        super().__init__(idempotent_creates=True)

    def _set_address(self, api_key: str | None, base_url: str | None) -> None:
        """Both come with the server."""
        self._api_key = self._base_url = ""

    @property
    def server_ended(self) -> bool:
        """Whether the server has ended: it stops its browsers on the way, and Chromium leaves with it in any case."""
        return self._server is None or self._server.ended

    def stop_advice(self, _browser_id: UUID) -> str:
        """See `AsyncClient.stop_advice`."""
        return "it ends with the embedded server, and the next one settles its bill"

    def address(self) -> dict[str, str]:
        """`base_url` and `api_key` of the running server, for a process that shares it; a password."""
        return {"base_url": self._base_url, "api_key": self._api_key}

    async def _prepare(self, stack: AsyncExitStack) -> None:
        server = await ServerProcess.start(self._settings)
        stack.push_async_callback(self._end, server)
        self._server = server
        self._base_url, self._api_key = server.base_url, server.api_key

    async def _end(self, server: ServerProcess) -> None:
        self._server = None
        await server.stop()


def local_sync(
    *, data_dir: Path | str | None = None, config: Path | str | None = None, **settings: Any
) -> LocalSyncClient:
    """`local()` for programs without an event loop: `with local_sync() as client`; see there for the arguments."""
    return LocalSyncClient({"data_dir": data_dir, "config": config} | settings)


class LocalSyncClient(_Embedding, Client):
    """The client of an embedded server, without an event loop; its block starts the server and ends it."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = _given(settings)
        super().__init__(idempotent_creates=True)

    def _set_address(self, api_key: str | None, base_url: str | None) -> None:
        """Both come with the server."""
        self._api_key = self._base_url = ""

    def _prepare(self, stack: ExitStack) -> None:
        server = _in_a_loop(ServerProcess.start(self._settings))
        stack.callback(self._end, server)
        self._server = server
        self._base_url, self._api_key = server.base_url, server.api_key

    def _end(self, server: ServerProcess) -> None:
        self._server = None
        _in_a_loop(server.stop())


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def _in_a_loop(work: Coroutine[Any, Any, T]) -> T:
    """What `work` brings, from a loop in a thread of its own: this one may have a loop that is running, e.g. a notebook's."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def provider(where: AsyncClient | str | None) -> AsyncClient:
    """The client that a user's word, or the environment, stands for.

    Raises:
        ConfigurationError: The word means nothing, or a key is missing.
    """
    if isinstance(where, AsyncClient):
        return where
    source = f"{where!r}"
    if where is None:
        where = os.environ.get(_VARIABLE)
        source = f"{_VARIABLE}={where!r}"
        if not where:
            return cloud() if os.environ.get("BROWSER_USE_API_KEY") else local()
    if where == "cloud":
        return cloud()
    if where == "local":
        return local()
    if where.startswith(("http://", "https://")):
        return at(where)
    raise ConfigurationError(
        f"{source} is no place for browsers; use `cloud`, `local`, or a base URL (http://...)"
    )
