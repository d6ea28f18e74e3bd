"""What `run` gives: a task that has ended, and its output as the class that was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from cdpbridge.errors import TaskOutputError

from ._problems import problems_of
from ._task_models import FileView, Task, TaskStep

__all__ = ["TaskResult", "read_output"]

ParsedT = TypeVar("ParsedT")
ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class TaskResult(Generic[ParsedT]):
    """A task that has ended.

    Attributes:
        task: The whole record.
        live_url: Where it could be watched; a password while the session lives.
        parsed: The output as an instance of `output_model`; None when none was asked for.
    """

    task: Task
    live_url: str | None = field(repr=False)
    parsed: ParsedT

    @property
    def id(self) -> UUID:
        """Of the task."""
        return self.task.id

    @property
    def session_id(self) -> UUID:
        """Of the session it ran in."""
        return self.task.session_id

    @property
    def status(self) -> str:
        """`"finished"`, `"stopped"`, `"failed"`, or what a newer server says."""
        return self.task.status

    @property
    def output(self) -> str | None:
        """What the agent answered."""
        return self.task.output

    @property
    def is_success(self) -> bool | None:
        """Whether the task was achieved, None while nobody has judged it."""
        return self.task.is_success

    @property
    def steps(self) -> list[TaskStep]:
        """What the agent did."""
        return self.task.steps

    @property
    def output_files(self) -> list[FileView]:
        """What it has written; `client.files.download` brings them."""
        return self.task.output_files

    @property
    def cost(self) -> Decimal | None:
        """USD, where the server says."""
        return self.task.cost


def read_output(model: type[ModelT], task: Task) -> ModelT:
    """The output of a task as an instance of `model`.

    Raises:
        TaskOutputError: There is none, or it does not fit.
    """
    if task.output is None:
        raise TaskOutputError(
            f"it is {task.status} and has no output", task_id=task.id, session_id=task.session_id, output=None
        )
    try:
        return model.model_validate_json(task.output)
    except ValidationError as error:
        raise TaskOutputError(
            f"its output is no {model.__name__} ({problems_of(error, whole='output')})",
            task_id=task.id,
            session_id=task.session_id,
            output=task.output,
        ) from error
