"""Client of the Browser Use Cloud API v2, for the cloud and for every server that speaks it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from . import calls, webhooks
    from ._async import AsyncClient, AsyncDownloads, AsyncPages, AsyncTaskRun
    from ._drift import Difference, drift
    from ._http import RawResponse
    from ._models import (
        PROXY_COUNTRY_CODES,
        Account,
        BrowserDownload,
        BrowserDownloads,
        BrowserRecording,
        BrowserSession,
        BrowserSessionStatus,
        Page,
        PlanInfo,
        Profile,
        RecordingStill,
    )
    from ._place import DEFAULT_BASE_URL
    from ._results import TaskResult
    from ._server_default import ServerDefault, server_default
    from ._sync import Client, Downloads, Pages, TaskRun
    from ._task_models import (
        MAX_UPLOAD_BYTES,
        SUPPORTED_LLMS,
        UPLOAD_CONTENT_TYPES,
        AgentSession,
        AgentSessionItem,
        AgentSessionStatus,
        CustomProxy,
        FileView,
        PresignedUpload,
        Share,
        Task,
        TaskCreated,
        TaskItem,
        TaskLogFile,
        TaskOutputFile,
        TaskStatus,
        TaskStatusView,
        TaskStep,
    )
    from .calls import Call, RunOptions, TaskOptions

__all__ = [
    "DEFAULT_BASE_URL",
    "MAX_UPLOAD_BYTES",
    "PROXY_COUNTRY_CODES",
    "SUPPORTED_LLMS",
    "UPLOAD_CONTENT_TYPES",
    "Account",
    "AgentSession",
    "AgentSessionItem",
    "AgentSessionStatus",
    "AsyncClient",
    "AsyncDownloads",
    "AsyncPages",
    "AsyncTaskRun",
    "BrowserDownload",
    "BrowserDownloads",
    "BrowserRecording",
    "BrowserSession",
    "BrowserSessionStatus",
    "Call",
    "Client",
    "CustomProxy",
    "Difference",
    "Downloads",
    "FileView",
    "Page",
    "Pages",
    "PlanInfo",
    "PresignedUpload",
    "Profile",
    "RawResponse",
    "RecordingStill",
    "RunOptions",
    "ServerDefault",
    "Share",
    "Task",
    "TaskCreated",
    "TaskItem",
    "TaskLogFile",
    "TaskOptions",
    "TaskOutputFile",
    "TaskResult",
    "TaskRun",
    "TaskStatus",
    "TaskStatusView",
    "TaskStep",
    "calls",
    "drift",
    "server_default",
    "webhooks",
]

# Loaded on first use: the embedded server needs the models and no HTTP client, and `open_browser` a client before the models.
_HOMES: Final = {
    "_async": ("AsyncClient", "AsyncDownloads", "AsyncPages", "AsyncTaskRun"),
    "calls": ("Call", "RunOptions", "TaskOptions"),
    "_drift": ("Difference", "drift"),
    "_models": (
        "PROXY_COUNTRY_CODES",
        "Account",
        "BrowserDownload",
        "BrowserDownloads",
        "BrowserRecording",
        "BrowserSession",
        "BrowserSessionStatus",
        "Page",
        "PlanInfo",
        "Profile",
        "RecordingStill",
    ),
    "_place": ("DEFAULT_BASE_URL",),
    "_results": ("TaskResult",),
    "_server_default": ("ServerDefault", "server_default"),
    "_sync": ("Client", "Downloads", "Pages", "TaskRun"),
    "_http": ("RawResponse",),
}
_MODULES: Final = frozenset({"calls", "webhooks"})
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    return getattr(import_module(f"{__name__}.{_HOME_OF.get(name, '_task_models')}"), name)
