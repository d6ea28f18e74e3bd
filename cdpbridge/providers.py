"""Where browsers run: `cloud()`, `local()`, `at(base_url)`. All give an `AsyncClient`; swapping the word swaps the place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cdpbridge.api import AsyncClient, Client
from cdpbridge.api._place import Place, find_place
from cdpbridge.errors import ConfigurationError

__all__ = ["LocalClient", "LocalSyncClient", "at", "cloud", "local", "local_sync", "provider"]


def cloud(api_key: str | None = None, **options: Any) -> AsyncClient:
    """Browsers of the Browser Use Cloud.

    Args:
        api_key: Default: `BROWSER_USE_API_KEY`, unless the environment names another server, whose key that is then.
        options: For `AsyncClient`.

    Raises:
        ConfigurationError: There is no key for the cloud.
    """
    place = find_place(os.environ, "cloud", api_key)
    return AsyncClient(place.api_key, place.base_url, **options)


def at(base_url: str, api_key: str | None = None, **options: Any) -> AsyncClient:
    """Browsers of a server that speaks the same API, e.g. one started by `cdpbridge serve`.

    Args:
        base_url: E.g. `https://browsers.example.com/api/v2`.
        api_key: Of this server. Default: `BROWSER_USE_API_KEY`, unless the environment names another server, or the cloud,
            whose key that is then.
        options: For `AsyncClient`.

    Raises:
        ConfigurationError: There is no key for this server, or the address is malformed.
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


class LocalClient(AsyncClient):
    """The client of an embedded server; it starts the server when it is opened, and ends it when it is closed."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._server_settings = _given(settings)
        super().__init__()

    def _place(self, api_key: str | None, base_url: str | None) -> Place:
        """The embedded server, whatever the environment says."""
        return find_place({}, "local", api_key)

    def _settings(self) -> Mapping[str, Any]:
        return self._server_settings

    def address(self) -> dict[str, str]:
        """`base_url` and `api_key` of the running server, for a process that shares it; a password."""
        return {"base_url": self._base_url, "api_key": self._api_key}


def local_sync(
    *, data_dir: Path | str | None = None, config: Path | str | None = None, **settings: Any
) -> LocalSyncClient:
    """`local()` for programs without an event loop: `with local_sync() as client`; see there for the arguments."""
    return LocalSyncClient({"data_dir": data_dir, "config": config} | settings)


class LocalSyncClient(Client):
    """The client of an embedded server, without an event loop; its block starts the server and ends it."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._server_settings = _given(settings)
        super().__init__()

    def _place(self, api_key: str | None, base_url: str | None) -> Place:
        """The embedded server, whatever the environment says."""
        return find_place({}, "local", api_key)

    def _settings(self) -> Mapping[str, Any]:
        return self._server_settings


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def provider(where: AsyncClient | str | None) -> AsyncClient:
    """The client that a user's word, or the environment, stands for: see `cdpbridge.api._place.find_place` for the rule.

    Raises:
        ConfigurationError: The word means nothing, a key is missing, or settings contradict each other.
    """
    if isinstance(where, AsyncClient):
        return where
    if where is not None and not isinstance(where, str):
        raise ConfigurationError(
            f"browsers are rented through an AsyncClient, e.g. cloud(), local() or at(...), a word, or a base URL, not {where!r}"
        )
    place = find_place(os.environ, where, otherwise_local=True)
    return local() if place.is_local else AsyncClient(place.api_key, place.base_url)
