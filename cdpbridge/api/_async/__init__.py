"""The client for an event loop. What stands here is written by hand; `_sync` is generated from it."""

from __future__ import annotations

from ._client import AsyncClient
from ._pages import AsyncDownloads, AsyncPages
from ._runs import AsyncTaskRun

__all__ = ["AsyncClient", "AsyncDownloads", "AsyncPages", "AsyncTaskRun"]
