"""Tasks as answers show them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from cdpbridge.api._task_models import FileView, Task, TaskItem, TaskStep
from cdpbridge.server import store
from cdpbridge.server.tasks._task_states import TaskState

from ._addresses import signed_url
from ._services import Services

__all__ = ["shown_status", "task_item", "task_view"]


def shown_status(task: store.Task) -> str:
    """Return the status that answers show: a task whose agent is asked to stop counts as stopped."""
    return TaskState.STOPPED if task.state == TaskState.STOPPING else task.state


def task_item(task: store.Task) -> TaskItem:
    return TaskItem(**_fields(task))


def task_view(
    request: Request,
    services: Services,
    task: store.Task,
    steps: Sequence[store.TaskStep],
    files: Sequence[store.TaskFile],
) -> Task:
    return Task(
        **_fields(task),
        steps=[
            TaskStep(
                number=step.number,
                memory=step.memory,
                evaluation_previous_goal=step.evaluation_previous_goal,
                next_goal=step.next_goal,
                url=step.url,
                screenshot_url=step.screenshot and signed_url(request, services, step.screenshot),
                actions=step.actions,
                duration=step.duration_seconds,
            )
            for step in steps
        ],
        output_files=[FileView(id=file.id, file_name=file.file_name) for file in files],
    )


def _judgement(judged: dict[str, Any] | None) -> dict[str, Any]:
    if judged is None:
        return {}
    report = {
        "model": judged["model"],
        "independent": judged["independent"],
        "verdict": judged["verdict"],
        "reasoning": judged["reasoning"],
        "failureReason": judged["failure_reason"],
        "error": judged["error"],
        "screenshots": judged["screenshots"],
    }
    return {
        "judgement": json.dumps(report, ensure_ascii=False),
        "judge_verdict": judged["verdict"],
        "judge_llm": judged["model"],
        "judge_error": judged["error"],
    }


def _fields(task: store.Task) -> dict[str, Any]:
    return {
        "id": task.id,
        "session_id": task.session_id,
        "llm": task.llm,
        "task": task.task,
        "status": shown_status(task),
        "created_at": task.created_at,
        "started_at": task.created_at,
        "finished_at": task.finished_at,
        "metadata": task.labels or {},
        # It may be there, and be judged.
        "output": None if task.working else task.output,
        "browser_use_version": task.browser_use_version,
        "is_success": task.is_success,
        **_judgement(task.judgement),
        "end_reason": task.end_reason,
        "ignored_fields": task.ignored_fields or [],
    }
