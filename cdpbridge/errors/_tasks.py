"""Tasks of agents that failed."""

from __future__ import annotations

from datetime import timedelta

from ._base import CDPBridgeError

__all__ = ["AgentStartFailed", "TaskError", "TaskOutputError", "TaskTimeout"]


class AgentStartFailed(CDPBridgeError):
    """An agent could not be put to work; nothing of it is left."""


class TaskError(CDPBridgeError):
    """An agent's task did not bring what was asked for.

    Attributes:
        task_id: The task.
        session_id: The session it runs in, where known.
    """

    def __init__(self, message: str, *, task_id: object, session_id: object | None = None) -> None:
        super().__init__(f"task {task_id}: {message}")
        self.task_id = task_id
        self.session_id = session_id


class TaskTimeout(TaskError):
    """A task has not ended within the time that was given; its notes say whether it goes on.

    Attributes:
        waited: How long.
    """

    def __init__(self, *, task_id: object, waited: timedelta, session_id: object | None = None) -> None:
        super().__init__(
            f"it has not ended within {waited.total_seconds():g} s", task_id=task_id, session_id=session_id
        )
        self.waited = waited


class TaskOutputError(TaskError):
    """A task has ended without an output of the class that was asked for.

    Attributes:
        output: What the agent answered, if anything.
    """

    def __init__(
        self, message: str, *, task_id: object, session_id: object | None = None, output: str | None
    ) -> None:
        super().__init__(message, task_id=task_id, session_id=session_id)
        self.output = output
