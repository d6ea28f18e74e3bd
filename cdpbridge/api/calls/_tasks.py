"""Calls of `/tasks`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, TypedDict, Unpack
from uuid import UUID

from pydantic import BaseModel

from cdpbridge.api._models import Page
from cdpbridge.api._task_models import Task, TaskCreated, TaskItem, TaskLogFile, TaskStatusView
from cdpbridge.errors import ConfigurationError

from ._base import (
    MAX_PAGE_SIZE,
    Call,
    ServerDefault,
    checked_metadata,
    id_text,
    idempotency,
    instant_text,
    paging,
    without_none,
)

__all__ = [
    "RunOptions",
    "TaskAction",
    "TaskOptions",
    "create_task",
    "get_task",
    "get_task_logs",
    "get_task_status",
    "list_tasks",
    "schema_text",
    "update_task",
]

TaskAction = Literal["stop", "pause", "resume", "stop_task_and_session"]


class TaskOptions(TypedDict, total=False):
    """Options of a task, for `client.tasks.create`, `client.start` and `client.run`. None leaves the choice to the server.

    Attributes:
        llm: Model, e.g. `"browser-use-llm"`.
        start_url: Where the browser goes first.
        max_steps: Steps after which the agent stops.
        structured_output: Schema of the output: a pydantic class, a JSON schema, or its text.
        metadata: Labels, 16 KiB at most.
        secrets: Values that stand for placeholders in the task; the model does not see them.
        allowed_domains: The only hosts that the browser reaches while the task runs, e.g. `["example.com", "*.shop.com"]`.
        op_vault_id: 1Password vault to take logins from.
        highlight_elements: True if elements are marked in the page.
        flash_mode: True if the agent skips evaluating its steps.
        thinking: True if the model thinks before a step.
        vision: True if the model sees screenshots.
        system_prompt_extension: Text behind the agent's own instructions.
        judge: True if a judge decides `is_success`, False if the agent itself does (newer than the reference). A cdpbridge
            server asks a judge by default.
        extra_body: Further fields of the request, by their names in the API.
        idempotency_key: Two requests with one key start one task, on servers that know the header.
    """

    llm: str | None
    start_url: str | None
    max_steps: int | None
    structured_output: str | Mapping[str, Any] | type[BaseModel] | None
    metadata: Mapping[str, str] | None
    secrets: Mapping[str, str] | None
    allowed_domains: Sequence[str] | None
    op_vault_id: str | None
    highlight_elements: bool | None
    flash_mode: bool | None
    thinking: bool | None
    vision: bool | Literal["auto"] | None
    system_prompt_extension: str | None
    judge: bool | None
    extra_body: Mapping[str, Any] | None
    idempotency_key: str | None


class RunOptions(TaskOptions, total=False):
    """Options of `client.start` and `client.run`: those of the task, and of the session it runs in.

    Attributes:
        session_id: Session to run in; it stays open. Default: a session of its own, stopped with the task.
        profile_id: State that its own session starts from.
        proxy_country: Proxy of its own session: two letters, None for no proxy.
        keep_session: True if its own session stays open, e.g. for further tasks; it costs money until it is stopped.
    """

    session_id: UUID | str | None
    profile_id: UUID | str | None
    proxy_country: str | ServerDefault | None
    keep_session: bool


_NAMES: Final = frozenset(TaskOptions.__annotations__)


def list_tasks(
    *,
    status: str | None = None,
    session_id: UUID | str | None = None,
    after: datetime | None = None,
    before: datetime | None = None,
    page_number: int = 1,
    page_size: int = MAX_PAGE_SIZE,
) -> Call[Page[TaskItem]]:
    """Build `GET /tasks`, one page."""
    query = paging(page_number, page_size) | without_none(
        filter_by=status,
        session_id=None if session_id is None else id_text(session_id),
        after=None if after is None else instant_text("after", after),
        before=None if before is None else instant_text("before", before),
    )
    return Call("GET", "/tasks", Page[TaskItem], query=query)


def create_task(
    task: str, *, session_id: UUID | str | None = None, **options: Unpack[TaskOptions]
) -> Call[TaskCreated]:
    """Build `POST /tasks`; what is not given is left to the server.

    Raises:
        ConfigurationError: There is nothing to do, or a schema, an id or metadata is malformed.
        TypeError: There is no such option.
    """
    given: dict[str, Any] = dict(options)
    if unknown := given.keys() - _NAMES:
        raise TypeError(f"a task has no option {min(unknown)!r}; it has {', '.join(sorted(_NAMES))}")
    if not task.strip():
        raise ConfigurationError("a task must say what is to be done, e.g. 'find the price of ...'")
    if isinstance(given.get("allowed_domains"), str):
        raise ConfigurationError("allowed_domains must be a list, e.g. ['example.com'], not one text")
    extra, key = given.pop("extra_body", None), given.pop("idempotency_key", None)
    for name, encode in _ENCODED.items():
        if given.get(name) is not None:
            given[name] = encode(given[name])
    session = None if session_id is None else id_text(session_id)
    return Call(
        "POST",
        "/tasks",
        TaskCreated,
        body=without_none(task=task, session_id=session, **given) | dict(extra or {}),
        headers=idempotency(key),
        repeatable=False,
        slow=True,  # without a session it starts a browser
    )


def get_task(task_id: UUID | str) -> Call[Task]:
    """Build `GET /tasks/{id}`."""
    return Call("GET", f"/tasks/{id_text(task_id)}", Task)


def get_task_status(task_id: UUID | str) -> Call[TaskStatusView]:
    """Build `GET /tasks/{id}/status` (newer than the reference)."""
    return Call("GET", f"/tasks/{id_text(task_id)}/status", TaskStatusView)


def update_task(task_id: UUID | str, action: TaskAction) -> Call[Task]:
    """Build `PATCH /tasks/{id}`."""
    slow = action.startswith("stop")
    return Call("PATCH", f"/tasks/{id_text(task_id)}", Task, body={"action": action}, slow=slow)


def get_task_logs(task_id: UUID | str) -> Call[TaskLogFile]:
    """Build `GET /tasks/{id}/logs`."""
    return Call("GET", f"/tasks/{id_text(task_id)}/logs", TaskLogFile)


def schema_text(schema: str | Mapping[str, Any] | type[BaseModel]) -> str:
    """Return a JSON schema as the API takes it: as text.

    Raises:
        ConfigurationError: It is no JSON object.
    """
    if isinstance(schema, type):
        if not issubclass(schema, BaseModel):
            raise ConfigurationError(f"{schema.__name__} is no pydantic model, so it has no JSON schema")
        return json.dumps(schema.model_json_schema())
    if not isinstance(schema, str):
        return json.dumps(dict(schema))
    try:
        found = json.loads(schema)
    except ValueError as error:
        raise ConfigurationError(f"the schema of the structured output is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ConfigurationError("the schema of the structured output must be a JSON object")
    return schema


# How options that are not JSON values become such.
_ENCODED: Final[Mapping[str, Callable[[Any], Any]]] = {
    "structured_output": schema_text,
    "metadata": checked_metadata,
    "secrets": dict,
    "allowed_domains": list,
}
