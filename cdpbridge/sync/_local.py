"""`LocalSyncClient`: the blocking client of `local()`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cdpbridge.api import Client
from cdpbridge.api._place import Place, find_place
from cdpbridge.providers import given_settings

__all__ = ["LocalSyncClient"]


class LocalSyncClient(Client):
    """The blocking client of an embedded server: its block starts the server and ends it. Made by `cdpbridge.sync.local`."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._server_settings = given_settings(settings)
        super().__init__()

    def _place(self, api_key: str | None, base_url: str | None) -> Place:
        """Return the embedded server, whatever the environment says."""
        return find_place({}, "local", api_key)

    def _settings(self) -> Mapping[str, Any]:
        return self._server_settings
