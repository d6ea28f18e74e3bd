"""What travels over the REST API for agents: sessions, tasks, shares and files. See `_models` for the rules of reading.

The reference has two views of each object, one for lists and one for itself; the larger one extends the smaller here.
Fields that only newer answers carry (the official SDK 3.x requires some of them) are optional for the reader.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, StrictBool

from ._models import (
    Answer,
    CustomProxy,
    HostPatterns,
    Instant,
    Integer,
    Metadata,
    Request,
    ScreenHeight,
    ScreenWidth,
    UsdText,
)
from ._start_page import start_page

__all__ = [
    "MAX_UPLOAD_BYTES",
    "SDK_LLMS",
    "SUPPORTED_LLMS",
    "UPLOAD_CONTENT_TYPES",
    "AgentSession",
    "AgentSessionItem",
    "AgentSessionStatus",
    "CreateSessionRequest",
    "CreateTaskRequest",
    "CustomProxy",
    "FileView",
    "PresignedUpload",
    "Share",
    "Task",
    "TaskCreated",
    "TaskItem",
    "TaskLogFile",
    "TaskOutputFile",
    "TaskStatus",
    "TaskStatusView",
    "TaskStep",
    "UpdateSessionRequest",
    "UpdateTaskRequest",
    "UploadFileRequest",
]

SUPPORTED_LLMS: Final = (
    "browser-use-llm",
    "gpt-4.1",
    "gpt-4.1-mini",
    "o4-mini",
    "o3",
    "gemini-2.5-flash",
    "gemini-2.5-pro",
    "gemini-flash-latest",
    "gemini-flash-lite-latest",
    "claude-sonnet-4-20250514",
    "gpt-4o",
    "gpt-4o-mini",
    "llama-4-maverick-17b-128e-instruct",
    "claude-3-7-sonnet-20250219",
)
"""Models of the REST reference (schema SupportedLLMs). A server may know more."""

SDK_LLMS: Final = (
    "browser-use-2.0",
    "bu-2-0-mini-preview",
    "gpt-5.5",
    "gpt-5.6-sol",
    "gpt-5.6-terra",
    "gpt-5.6-luna",
    "gemini-3-pro-preview",
    "gemini-3.1-pro-preview",
    "gemini-3-flash-preview",
    "gemini-3.5-flash",
    "claude-sonnet-4-5-20250929",
    "claude-sonnet-5",
    "claude-opus-4-5-20251101",
    "claude-opus-4-7",
    "claude-opus-4-8",
    "claude-opus-5",
    "glm-5.2",
    "minimax-m3",
    "grok-4.6",
    "glm-5.3-flash",
    "deepseek-v4-flash-vision",
)
"""Models that only the official SDK knows (SupportedLLMs of browser-use-sdk 2.0.15 and 3.12.1)."""

UPLOAD_CONTENT_TYPES: Final = (
    "image/jpg",
    "image/jpeg",
    "image/png",
    "image/gif",
    "image/webp",
    "image/svg+xml",
    "application/pdf",
    "application/msword",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/vnd.ms-excel",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "text/plain",
    "text/csv",
    "text/markdown",
)
"""What may be uploaded (REST reference, schema UploadFileRequestContentType)."""

MAX_UPLOAD_BYTES: Final = 10_485_760
"""Largest upload (the published API document of 2026-06, schema UploadFileRequest)."""


class TaskStatus:
    """Values of `TaskItem.status`; open, so compare with these and expect others."""

    CREATED: Final = "created"
    STARTED: Final = "started"
    PAUSED: Final = "paused"
    FINISHED: Final = "finished"
    STOPPED: Final = "stopped"
    FAILED: Final = "failed"

    OVER: Final = frozenset({FINISHED, STOPPED, FAILED})
    """A task with one of these does not change any more."""


class AgentSessionStatus:
    """Values of `AgentSession.status`; open, so compare with these and expect others."""

    ACTIVE: Final = "active"
    STOPPED: Final = "stopped"


# --- answers ----------------------------------------------------------------------------------------------------------


class TaskItem(Answer):
    """A task without its steps, as lists show it.

    Attributes:
        output: What the agent answered; with structured output, JSON text.
        is_success: Whether the task was achieved: the judge's verdict, or the agent's own word when no judge was asked. None
            while that is not known, and when the judge has no verdict.
        judge_verdict: What the judge has said.
        judge_llm: Which model judged.
        judge_error: Why there is no verdict.
        judgement: The judge's whole report, as JSON text. These four are newer than the reference.
        cost: USD, where the server says.
        created_at: Not in every server's answer.
        end_reason: Why it ended, where the server says.
        ignored_fields: Fields of the request that the server did not act on, where it says.
    """

    id: UUID
    session_id: UUID
    llm: str
    task: str
    status: str
    created_at: Instant | None = None
    started_at: Instant | None = None
    finished_at: Instant | None = None
    metadata: dict[str, Any] | None = None
    output: str | None = None
    browser_use_version: str | None = None
    is_success: bool | None = None
    judge_verdict: bool | None = None
    judge_llm: str | None = None
    judge_error: str | None = None
    judgement: str | None = None
    cost: UsdText | None = None
    end_reason: str | None = None
    ignored_fields: list[str] | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended, one way or the other."""
        return self.status in TaskStatus.OVER


class TaskStep(Answer):
    """One step of an agent.

    Attributes:
        number: From 1.
        screenshot_url: Signed address; it ends after a while, so treat it as a password.
        actions: Each as JSON text.
        duration: Seconds, where the server says.
    """

    number: int
    memory: str
    evaluation_previous_goal: str
    next_goal: str
    url: str
    screenshot_url: str | None = Field(default=None, repr=False)
    actions: list[str]
    duration: float | None = None


class FileView(Answer):
    """A file that a task has written."""

    id: UUID
    file_name: str


class Task(TaskItem):
    """A task with its steps and files."""

    steps: list[TaskStep]
    output_files: list[FileView]


class TaskCreated(Answer):
    """What `POST /tasks` answers."""

    id: UUID
    session_id: UUID


class TaskStatusView(Answer):
    """What `GET /tasks/{id}/status` answers; newer than the reference, cheaper to poll than the task."""

    id: UUID
    status: str
    output: str | None = None
    finished_at: Instant | None = None
    is_success: bool | None = None
    cost: UsdText | None = None


class TaskLogFile(Answer):
    """Where a task's log can be had.

    Attributes:
        download_url: Signed address; it ends after a while, so treat it as a password.
    """

    download_url: str = Field(repr=False)


class TaskOutputFile(Answer):
    """Where a task's file can be had.

    Attributes:
        download_url: Signed address; it ends after a while, so treat it as a password.
    """

    id: UUID
    file_name: str
    download_url: str = Field(repr=False)


class AgentSessionItem(Answer):
    """An agent session (the reference's "session") without its tasks, as lists show it.

    Attributes:
        live_url: The page to watch it; a password.
        persist_memory: Whether tasks remember the ones before; not in every server's answer.
        keep_alive: Whether it stays open after a task; not in every server's answer.
        recording_url: Signed address of its video, which ends after a while: a password. None while there is none.
        browser_session_id: The browser that it runs on, where the server says.
        timeout_at: The server stops it then, where it says.
        proxy_country_code: Country of its proxy, where the server says.
        proxy_simulated: True when the country has no proxy on this server, so that traffic goes out directly.
        end_reason: Why it ended, where the server says.
        ignored_fields: Fields of the request that the server did not act on, where it says.
    """

    id: UUID
    status: str
    live_url: str | None = Field(default=None, repr=False)
    started_at: Instant
    finished_at: Instant | None = None
    persist_memory: bool | None = None
    keep_alive: bool | None = None
    proxy_used_mb: UsdText | None = None
    proxy_cost: UsdText | None = None
    recording_url: str | None = Field(default=None, repr=False)
    browser_session_id: UUID | None = None
    timeout_at: Instant | None = None
    proxy_country_code: str | None = None
    proxy_simulated: bool | None = None
    end_reason: str | None = None
    ignored_fields: list[str] | None = None


class AgentSession(AgentSessionItem):
    """An agent session with its tasks.

    Attributes:
        public_share_url: Read-only page for all who have the address.
    """

    tasks: list[TaskItem]
    public_share_url: str | None = Field(default=None, repr=False)


class Share(Answer):
    """A public, read-only view of an agent session.

    Attributes:
        share_token: Part of the address; all who have it may watch.
    """

    share_token: str = Field(repr=False)
    share_url: str = Field(repr=False)
    view_count: int
    last_viewed_at: Instant | None = None


class PresignedUpload(Answer):
    """Where and how a file may be uploaded: one multipart POST with these fields before the file.

    Attributes:
        fields: Signed form fields; the server checks them.
        file_name: Name under which the agent finds it.
        expires_in: Seconds.
        path: Where the browser finds it, for `DOM.setFileInputFiles`, where the server says.
    """

    url: str = Field(repr=False)
    method: str
    fields: dict[str, str] = Field(repr=False)
    file_name: str
    expires_in: int
    path: str | None = Field(default=None, repr=False)


# --- requests ---------------------------------------------------------------------------------------------------------


StartUrl = Annotated[str, AfterValidator(start_page)]


class CreateSessionRequest(Request):
    """Body of `POST /sessions`. Everything below `start_url` is newer than the reference.

    Attributes:
        browser_screen_width: CSS pixels.
        browser_screen_height: CSS pixels.
        keep_alive: Whether the session stays open after a task; it costs money until its time is over or it is stopped.
        allowed_hosts: The only hosts that its browser may reach, as in `CreateBrowserSessionRequest`.
        denied_hosts: Hosts that its browser may not reach.
    """

    profile_id: UUID | None = None
    proxy_country_code: str | None = None
    start_url: StartUrl | None = None
    browser_screen_width: ScreenWidth | None = None
    browser_screen_height: ScreenHeight | None = None
    persist_memory: StrictBool = True
    keep_alive: StrictBool = True
    custom_proxy: CustomProxy | None = None
    enable_recording: StrictBool = False
    block_ads: StrictBool | None = None
    allowed_hosts: HostPatterns | None = None
    denied_hosts: HostPatterns | None = None


class UpdateSessionRequest(Request):
    """Body of `PATCH /sessions/{id}`; `stop` is the only action there is."""

    action: Literal["stop"]


def _says_something(task: str) -> str:
    if not task.strip():
        raise ValueError("say what is to be done, e.g. 'find the price of ...'")
    return task


class CreateTaskRequest(Request):
    """Body of `POST /tasks`. Bounds are those of the published API document of 2026-06; the reference gives none.

    Attributes:
        structured_output: A JSON schema, as text.
        secrets: Placeholder to value; keys may be `domain:placeholder`-like tables of the agent. Never shown.
        op_vault_id: A 1Password vault to take logins from.
        judge: Whether a judge looks at the trajectory and decides `isSuccess`; without one it is the agent's own word.
    """

    task: Annotated[str, Field(min_length=1, max_length=50_000), AfterValidator(_says_something)]
    llm: str = "browser-use-llm"
    start_url: StartUrl | None = None
    max_steps: Annotated[Integer, Field(ge=1, le=10_000)] = 100
    structured_output: str | None = None
    session_id: UUID | None = None
    metadata: Metadata | None = None
    secrets: dict[str, str] | None = Field(default=None, repr=False)
    allowed_domains: list[str] | None = None
    op_vault_id: str | None = None
    highlight_elements: StrictBool = False
    flash_mode: StrictBool = False
    thinking: StrictBool = False
    vision: StrictBool | Literal["auto"] = True
    system_prompt_extension: Annotated[str, Field(max_length=10_000)] = ""
    judge: StrictBool = True
    session_settings: CreateSessionRequest | None = None


class UpdateTaskRequest(Request):
    """Body of `PATCH /tasks/{id}`."""

    action: Literal["stop", "pause", "resume", "stop_task_and_session"]


class UploadFileRequest(Request):
    """Body of `POST /files/.../presigned-url`. An unknown content type is the route's 400, so it is any text here."""

    file_name: Annotated[str, Field(min_length=1, max_length=255)]
    content_type: str
    size_bytes: Annotated[Integer, Field(ge=1, le=MAX_UPLOAD_BYTES)]
