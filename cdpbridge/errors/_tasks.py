"""Failed tasks of agents."""

from __future__ import annotations

from datetime import timedelta

from ._base import CDPBridgeError, seconds_text

__all__ = ["AgentStartFailed", "TaskError", "TaskOutputError", "TaskTimeout"]


class AgentStartFailed(CDPBridgeError):
    """An agent's process could not be started; nothing of it is left."""


class TaskError(CDPBridgeError):
    """An agent's task failed, or its result is not as asked.

    Attributes:
        task_id: The task.
        session_id: The session it runs in, where known.
    """

    def __init__(self, message: str, *, task_id: object, session_id: object | None = None) -> None:
        super().__init__(f"task {task_id}: {message}")
        self.task_id = task_id
        self.session_id = session_id


class TaskTimeout(TaskError, TimeoutError):
    """A task has not ended within the timeout of the call; its notes say whether it goes on.

    Attributes:
        waited: The timeout.
    """

    def __init__(self, *, task_id: object, waited: timedelta, session_id: object | None = None) -> None:
        super().__init__(
            f"it has not ended within {seconds_text(waited)}", task_id=task_id, session_id=session_id
        )
        self.waited = waited


class TaskOutputError(TaskError):
    """A task has ended without an output of the requested class.

    Attributes:
        output: The agent's answer, if there is one.
    """

    def __init__(
        self, message: str, *, task_id: object, session_id: object | None = None, output: str | None
    ) -> None:
        super().__init__(message, task_id=task_id, session_id=session_id)
        self.output = output
