"""The client for an event loop. What stands here is written by hand; `_sync` is generated from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdpbridge._on_use import names_on_use

if TYPE_CHECKING:
    from ._client import AsyncClient
    from ._pages import AsyncDownloads, AsyncPages
    from ._runs import AsyncTaskRun

__all__ = ["AsyncClient", "AsyncDownloads", "AsyncPages", "AsyncTaskRun"]

_HOMES: Final = {
    "AsyncClient": "_client",
    "AsyncDownloads": "_pages",
    "AsyncPages": "_pages",
    "AsyncTaskRun": "_runs",
}
__getattr__ = names_on_use(__name__, _HOMES)
