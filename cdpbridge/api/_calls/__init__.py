"""Each REST operation as a value: one function an operation, one file a group of the reference."""

from __future__ import annotations

from ._base import IDEMPOTENCY_HEADER, MAX_PAGE_SIZE, Call, ServerChoice, country_code, server_default
from ._billing import get_account
from ._browsers import (
    create_browser,
    get_browser,
    get_recording,
    list_browsers,
    list_downloads,
    recording_address,
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
    TaskAction,
    create_task,
    get_task,
    get_task_logs,
    get_task_status,
    list_tasks,
    schema_text,
    update_task,
)

__all__ = [
    "IDEMPOTENCY_HEADER",
    "MAX_PAGE_SIZE",
    "Call",
    "ServerChoice",
    "TaskAction",
    "country_code",
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
    "recording_address",
    "schema_text",
    "server_default",
    "stop_browser",
    "stop_session",
    "update_profile",
    "update_task",
]
