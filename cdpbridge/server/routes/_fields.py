"""Nothing of a request is dropped in silence: fields that no code here acts on are named, misspelt ones are refused.

A body's fields and an address's parameters are compared with what the route declares, before FastAPI looks at them. Pure
functions find the names; `FieldsRoute` is the thin part that reads the request and writes the header.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from typing import Annotated, Any, Final, get_args, get_origin
from urllib.parse import quote

from fastapi import Depends
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from cdpbridge.api._models import IGNORED_FIELDS_HEADER

__all__ = ["FieldsRoute", "IgnoredFields", "Unused", "misspelling", "unknown_fields"]

# Fields of the newer cloud (the published API document of 2026-06, browser-use-sdk 3.12.1). They are known words: named as
# ignored as long as the models do not have them, and never taken for a misspelling of another. By the names of the models,
# which are loaded with their routes.
_NEWER: Final[Mapping[str, tuple[str, ...]]] = {
    "CreateBrowserSessionRequest": ("allowResizing", "extensionIds", "pdfRendererEnabled", "solveCaptchas"),
    "CreateSessionRequest": ("metadata", "task"),
    "ProfileCreateRequest": ("userId",),
    "ProfileUpdateRequest": ("userId",),
    "CreateTaskRequest": ("judgeGroundTruth", "judgeLlm", "skillIds", "thinkingLevel"),
}
# Of an unknown name, in a header and in a record.
_SHOWN_CHARACTERS: Final = 100
_SHOWN_FIELDS: Final = 50
# Bodies of routes that take none; a larger one is not read for the sake of its names.
_STRAY_BODY_BYTES: Final = 65_536


def misspelling(name: str, known: Collection[str]) -> str | None:
    """Return the known name that `name` was probably meant to be: other case, underscores, or a typing error or two."""
    folded = _folded(name)
    for each in known:
        if _folded(each) == folded:
            return each
    if len(name) > _SHOWN_CHARACTERS:
        return None
    found = [(_distance(folded, _folded(each)), each) for each in known]
    near = [(distance, each) for distance, each in found if distance <= _allowed(folded, _folded(each))]
    return min(near)[1] if near else None


def _folded(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _allowed(first: str, second: str) -> int:
    """Typing errors that two names may be apart: short words are too near to each other for more than one."""
    length = min(len(first), len(second))
    return 0 if length < 3 else 1 if length < 8 else 2


def _distance(first: str, second: str) -> int:
    """Optimal string alignment: insertions, deletions, replacements, and neighbours that were exchanged."""
    before: list[int] = []
    row = list(range(len(second) + 1))
    for place, letter in enumerate(first, 1):
        before, last, row = row, before, [place]
        for other, wanted in enumerate(second, 1):
            cost = min(before[other] + 1, row[-1] + 1, before[other - 1] + (letter != wanted))
            if place > 1 and other > 1 and letter == second[other - 2] and first[place - 2] == wanted:
                cost = min(cost, last[other - 2] + 1)
            row.append(cost)
    return row[-1]


def unknown_fields(model: type[BaseModel], body: Any) -> Iterator[tuple[tuple[str, ...], str | None]]:
    """Each field of `body` that `model` does not have: its path, and the name it was probably meant to be."""
    if not isinstance(body, Mapping):
        return
    fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
    newer = _NEWER.get(model.__name__, ())
    for name, value in body.items():
        if name in fields:
            for inner in _models_in(fields[name]):
                for path, meant in unknown_fields(inner, value):
                    yield (name, *path), meant
        else:
            yield (name,), None if name in newer else misspelling(name, (*fields, *newer))


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is not None:
        for part in get_args(annotation):
            yield from _models_in(part)


class Unused:
    """Fields of one request that nothing here acts on.

    Attributes:
        names: Paths with dots, e.g. `"sessionSettings.metadata"`, in their order; a long list ends with how many more.
    """

    def __init__(self, *, strict: bool) -> None:
        self.names: list[str] = []
        self._strict = strict
        self._more = 0

    def add(self, *path: str, where: str = "body") -> None:
        """Note a field.

        Raises:
            RequestValidationError: The setting `strict_fields` is on.
        """
        if self._strict:
            raise RequestValidationError(
                [
                    {
                        "loc": (where, *path),
                        "msg": "this server does not act on this field; remove it, or turn the setting `strict_fields` off",
                        "type": "extra_forbidden",
                    }
                ]
            )
        name = ".".join(part[:_SHOWN_CHARACTERS] for part in path)
        if name in self.names:
            return
        if len(self.names) < _SHOWN_FIELDS:
            self.names.append(name)
            return
        self._more += 1

    @property
    def record(self) -> list[str] | None:
        """For the record of what was made; None when there are none."""
        more = [f"({self._more} more)"] if self._more else []
        return [*self.names, *more] or None

    def below(self, field: str) -> list[str] | None:
        """Return those inside of one field, without its name."""
        start = f"{field}."
        return [name.removeprefix(start) for name in self.names if name.startswith(start)] or None

    @property
    def header(self) -> str:
        """The same as a header's value: percent-encoded, with commas between."""
        return ", ".join(quote(name, safe=".()[] ") for name in self.record or ())


class FieldsRoute(APIRoute):
    """A route that names the fields it does not act on in the header `X-Cdpbridge-Ignored-Fields`; 422 for misspelt ones."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, with the look at the fields in front."""
        handle = super().get_route_handler()
        parameters = set(_parameters(self.dependant))
        model = next(
            (
                found
                for field in self.dependant.body_params
                for found in _models_in(field.field_info.annotation)
            ),
            None,
        )

        async def handler(request: Request) -> Response:
            unused = request.state.unused = Unused(strict=request.app.state.services.settings.strict_fields)
            for name in dict.fromkeys(request.query_params.keys()):
                if name not in parameters:
                    _note(unused, (name,), misspelling(name, parameters), "query")
            for path, meant in await _of_body(request, model):
                _note(unused, path, meant, "body")
            response = await handle(request)
            if unused.names:
                response.headers[IGNORED_FIELDS_HEADER] = unused.header
            return response

        return handler


def _note(unused: Unused, path: tuple[str, ...], meant: str | None, where: str) -> None:
    if meant is not None:
        text = f"there is no such field; did you mean {meant!r}?"
        raise RequestValidationError([{"loc": (where, *path), "msg": text, "type": "extra_forbidden"}])
    unused.add(*path, where=where)


def _parameters(dependant: Dependant) -> Iterator[str]:
    for field in dependant.query_params:
        yield field.alias
    for inner in dependant.dependencies:
        yield from _parameters(inner)


async def _of_body(
    request: Request, model: type[BaseModel] | None
) -> list[tuple[tuple[str, ...], str | None]]:
    if model is None and not _is_stray(request):
        return []
    if not await request.body():
        return []
    try:
        body = await request.json()
    except (ValueError, RecursionError):  # FastAPI says what is wrong with it
        return []
    if model is None:
        return [((name,), None) for name in body] if isinstance(body, Mapping) else []
    return list(unknown_fields(model, body))


def _is_stray(request: Request) -> bool:
    """Return True if a route without a body was sent one that is worth a look."""
    length = request.headers.get("content-length", "")
    return (
        request.method in {"POST", "PATCH", "PUT", "DELETE"}
        and length.isdecimal()
        and int(length) <= _STRAY_BODY_BYTES
    )


async def _unused(request: Request) -> Unused:
    unused: Unused = request.state.unused
    return unused


IgnoredFields = Annotated[Unused, Depends(_unused)]
