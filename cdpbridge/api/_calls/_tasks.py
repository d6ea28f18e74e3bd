"""Calls of `/tasks`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel

from cdpbridge.api._models import Page
from cdpbridge.api._task_models import Task, TaskCreated, TaskItem, TaskLogFile, TaskStatusView
from cdpbridge.errors import ConfigurationError

from ._base import (
    MAX_PAGE_SIZE,
    Call,
    checked_metadata,
    id_text,
    idempotency,
    instant_text,
    paging,
    without_none,
)

__all__ = [
    "TaskAction",
    "create_task",
    "get_task",
    "get_task_logs",
    "get_task_status",
    "list_tasks",
    "schema_text",
    "update_task",
]

TaskAction = Literal["stop", "pause", "resume", "stop_task_and_session"]


def list_tasks(
    *,
    status: str | None = None,
    session_id: UUID | str | None = None,
    after: datetime | None = None,
    before: datetime | None = None,
    page_number: int = 1,
    page_size: int = MAX_PAGE_SIZE,
) -> Call[Page[TaskItem]]:
    query = paging(page_number, page_size) | without_none(
        filter_by=status,
        session_id=None if session_id is None else id_text(session_id),
        after=None if after is None else instant_text("after", after),
        before=None if before is None else instant_text("before", before),
    )
    return Call("GET", "/tasks", Page[TaskItem], query=query)


def create_task(
    task: str,
    *,
    session_id: UUID | str | None = None,
    llm: str | None = None,
    start_url: str | None = None,
    max_steps: int | None = None,
    structured_output: str | Mapping[str, Any] | type[BaseModel] | None = None,
    metadata: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    allowed_domains: Sequence[str] | None = None,
    op_vault_id: str | None = None,
    highlight_elements: bool | None = None,
    flash_mode: bool | None = None,
    thinking: bool | None = None,
    vision: bool | Literal["auto"] | None = None,
    system_prompt_extension: str | None = None,
    judge: bool | None = None,
    extra_body: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> Call[TaskCreated]:
    """`POST /tasks`; what is not given is left to the server.

    Raises:
        ConfigurationError: There is nothing to do, or a schema, an id or metadata is malformed.
    """
    if not task.strip():
        raise ConfigurationError("a task must say what is to be done, e.g. 'find the price of ...'")
    if isinstance(allowed_domains, str):
        raise ConfigurationError("allowed_domains must be a list, e.g. ['example.com'], not one text")
    body = without_none(
        task=task,
        session_id=None if session_id is None else id_text(session_id),
        llm=llm,
        start_url=start_url,
        max_steps=max_steps,
        structured_output=None if structured_output is None else schema_text(structured_output),
        metadata=checked_metadata(metadata),
        secrets=None if secrets is None else dict(secrets),
        allowed_domains=None if allowed_domains is None else list(allowed_domains),
        op_vault_id=op_vault_id,
        highlight_elements=highlight_elements,
        flash_mode=flash_mode,
        thinking=thinking,
        vision=vision,
        system_prompt_extension=system_prompt_extension,
        judge=judge,
    )
    return Call(
        "POST",
        "/tasks",
        TaskCreated,
        body=body | dict(extra_body or {}),
        headers=idempotency(idempotency_key),
        repeatable=False,
        slow=True,  # without a session it starts a browser
    )


def get_task(task_id: UUID | str) -> Call[Task]:
    return Call("GET", f"/tasks/{id_text(task_id)}", Task)


def get_task_status(task_id: UUID | str) -> Call[TaskStatusView]:
    return Call("GET", f"/tasks/{id_text(task_id)}/status", TaskStatusView)


def update_task(task_id: UUID | str, action: TaskAction) -> Call[Task]:
    slow = action.startswith("stop")
    return Call("PATCH", f"/tasks/{id_text(task_id)}", Task, body={"action": action}, slow=slow)


def get_task_logs(task_id: UUID | str) -> Call[TaskLogFile]:
    return Call("GET", f"/tasks/{id_text(task_id)}/logs", TaskLogFile)


def schema_text(schema: str | Mapping[str, Any] | type[BaseModel]) -> str:
    """A JSON schema as the API takes it: as text.

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
