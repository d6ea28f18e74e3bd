"""Each REST operation as a value: one function per operation, one file per group of the reference.

`client.send(calls.get_browser(browser_id))` returns the model, `client.send_raw(...)` also status, headers and body. An operation
that has no function yet is a `Call` of your own: `Call("GET", "/browsers/stats", Stats)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdpbridge._on_use import names_on_use

if TYPE_CHECKING:
    from ._base import MAX_PAGE_SIZE, Call, ServerDefault, server_default
    from ._billing import get_account
    from ._browsers import (
        create_browser,
        get_browser,
        get_recording,
        list_browsers,
        list_downloads,
        stop_browser,
    )
    from ._files import create_browser_upload, create_session_upload, get_output_file
    from ._profiles import create_profile, delete_profile, get_profile, list_profiles, update_profile
    from ._sessions import (
        create_session,
        create_share,
        delete_session,
        delete_share,
        get_session,
        get_share,
        list_sessions,
        purge_session,
        stop_session,
    )
    from ._tasks import (
        RunOptions,
        TaskAction,
        TaskOptions,
        create_task,
        get_task,
        get_task_logs,
        get_task_status,
        list_tasks,
        update_task,
    )

__all__ = [
    "MAX_PAGE_SIZE",
    "Call",
    "RunOptions",
    "ServerDefault",
    "TaskAction",
    "TaskOptions",
    "create_browser",
    "create_browser_upload",
    "create_profile",
    "create_session",
    "create_session_upload",
    "create_share",
    "create_task",
    "delete_profile",
    "delete_session",
    "delete_share",
    "get_account",
    "get_browser",
    "get_output_file",
    "get_profile",
    "get_recording",
    "get_session",
    "get_share",
    "get_task",
    "get_task_logs",
    "get_task_status",
    "list_browsers",
    "list_downloads",
    "list_profiles",
    "list_sessions",
    "list_tasks",
    "purge_session",
    "server_default",
    "stop_browser",
    "stop_session",
    "update_profile",
    "update_task",
]

# Loaded on first use: who rents a browser needs none of the models of tasks.
_HOMES: Final = {
    "Call": "_base",
    "MAX_PAGE_SIZE": "_base",
    "RunOptions": "_tasks",
    "ServerDefault": "_base",
    "TaskAction": "_tasks",
    "TaskOptions": "_tasks",
    "create_browser": "_browsers",
    "create_browser_upload": "_files",
    "create_profile": "_profiles",
    "create_session": "_sessions",
    "create_session_upload": "_files",
    "create_share": "_sessions",
    "create_task": "_tasks",
    "delete_profile": "_profiles",
    "delete_session": "_sessions",
    "delete_share": "_sessions",
    "get_account": "_billing",
    "get_browser": "_browsers",
    "get_output_file": "_files",
    "get_profile": "_profiles",
    "get_recording": "_browsers",
    "get_session": "_sessions",
    "get_share": "_sessions",
    "get_task": "_tasks",
    "get_task_logs": "_tasks",
    "get_task_status": "_tasks",
    "list_browsers": "_browsers",
    "list_downloads": "_browsers",
    "list_profiles": "_profiles",
    "list_sessions": "_sessions",
    "list_tasks": "_tasks",
    "purge_session": "_sessions",
    "server_default": "_base",
    "stop_browser": "_browsers",
    "stop_session": "_sessions",
    "update_profile": "_profiles",
    "update_task": "_tasks",
}

__getattr__ = names_on_use(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
