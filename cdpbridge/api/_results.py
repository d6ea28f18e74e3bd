"""The result of `run`: a task that has ended, and its output as an instance of the requested class."""

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
        """Id of the task."""
        return self.task.id

    @property
    def session_id(self) -> UUID:
        """Id of the session it ran in."""
        return self.task.session_id

    @property
    def status(self) -> str:
        """`"finished"`, `"stopped"`, `"failed"`, or what a newer server says."""
        return self.task.status

    @property
    def output(self) -> str | None:
        """The agent's answer."""
        return self.task.output

    @property
    def is_success(self) -> bool | None:
        """True if the task was achieved; None while it is not judged."""
        return self.task.is_success

    @property
    def steps(self) -> list[TaskStep]:
        """The agent's steps."""
        return self.task.steps

    @property
    def output_files(self) -> list[FileView]:
        """Files it has written; `client.files.download` saves them."""
        return self.task.output_files

    @property
    def cost(self) -> Decimal | None:
        """USD, where the server says."""
        return self.task.cost


def read_output(model: type[ModelT], task: Task) -> ModelT:
    """Return the output of a task as an instance of `model`.

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
