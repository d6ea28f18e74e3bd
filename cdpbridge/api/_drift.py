"""How far what a server sends has moved from our models. Pure.

Nothing of it breaks a program: unknown fields are kept, unknown words stay text. `cdpbridge doctor` shows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from ._models import BrowserSession, BrowserSessionStatus
from ._task_models import (
    SDK_LLMS,
    SUPPORTED_LLMS,
    AgentSessionItem,
    AgentSessionStatus,
    TaskItem,
    TaskStatus,
    TaskStatusView,
)

__all__ = ["Difference", "drift"]

_TASK_STATUSES: Final = TaskStatus.OVER | {TaskStatus.CREATED, TaskStatus.STARTED, TaskStatus.PAUSED}
# Fields whose words are known, by the class that has them first.
_WORDS: Final[Mapping[tuple[type[BaseModel], str], frozenset[str]]] = {
    (BrowserSession, "status"): frozenset({BrowserSessionStatus.ACTIVE, BrowserSessionStatus.STOPPED}),
    (AgentSessionItem, "status"): frozenset({AgentSessionStatus.ACTIVE, AgentSessionStatus.STOPPED}),
    (TaskItem, "status"): _TASK_STATUSES,
    (TaskStatusView, "status"): _TASK_STATUSES,
    (TaskItem, "llm"): frozenset({*SUPPORTED_LLMS, *SDK_LLMS}),
}
Kind = Literal["unknown field", "missing field", "unknown value", "naive time", "invalid"]


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """One difference between an answer and its model.

    Attributes:
        where: Path in the answer, e.g. `"items[].status"`.
        kind: What differs.
        detail: What was found, without values that may be secrets.
    """

    where: str
    kind: Kind
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.kind}" + (f" ({self.detail})" if self.detail else "")


def drift(kind: type[BaseModel], answer: Any) -> list[Difference]:
    """Return each difference once, sorted; an empty list when the answer is as the model says.

    Args:
        kind: Class of the answer, e.g. `Page[Profile]`.
        answer: Its JSON, decoded.
    """
    found = set(_compare(kind, answer, ""))
    try:
        TypeAdapter(kind).validate_python(answer)
    except ValidationError as error:
        for item in error.errors(include_url=False, include_context=False, include_input=False):
            if item["type"] != "missing":
                found.add(Difference(_path(item["loc"]), "invalid", item["msg"]))
    return sorted(found)


def _compare(kind: type[BaseModel], answer: Any, where: str) -> Iterator[Difference]:
    if not isinstance(answer, Mapping):
        yield Difference(where or "answer", "invalid", f"{type(answer).__name__} instead of an object")
        return
    kind.model_rebuild()  # older releases of pydantic know no alias before
    names = {field.alias or name: name for name, field in kind.model_fields.items()}
    for alias, value in answer.items():
        path = f"{where}.{alias}" if where else alias
        if alias not in names:
            yield Difference(path, "unknown field", type(value).__name__)
        else:
            yield from _compare_field(kind, names[alias], value, path)
    for alias in names.keys() - answer.keys():
        required = kind.model_fields[names[alias]].is_required()
        path = f"{where}.{alias}" if where else alias
        yield Difference(path, "missing field", "required" if required else "optional")


def _compare_field(kind: type[BaseModel], name: str, value: Any, path: str) -> Iterator[Difference]:
    for owner, field in _WORDS:
        fits = field == name and issubclass(kind, owner) and isinstance(value, str)
        if fits and value not in _WORDS[owner, field]:
            yield Difference(path, "unknown value", repr(value))
    for part in _parts(kind.model_fields[name].annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            if isinstance(value, list):
                for item in value:
                    yield from _compare(part, item, f"{path}[]")
            elif value is not None:
                yield from _compare(part, value, path)
        elif part is datetime and isinstance(value, str) and _is_naive(value):
            yield Difference(path, "naive time", "read as UTC")


def _is_naive(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is None
    except ValueError:  # no time at all, which is found elsewhere
        return False


def _parts(annotation: Any) -> Iterator[Any]:
    """None` has `Task` and None's.|Yield the classes in an annotation: `list[Task] | None` has `Task` and None's.| None` has `Task` and None's."""
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    if is_model or get_origin(annotation) is None:
        yield annotation
    else:
        for part in get_args(annotation):
            yield from _parts(part)


def _path(loc: tuple[int | str, ...]) -> str:
    path = ""
    for part in loc:
        path += "[]" if isinstance(part, int) else f".{part}" if path else part
    return path or "answer"
