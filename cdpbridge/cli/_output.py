"""What commands share: where they rent, how they show progress, tables and JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from pydantic import BaseModel

    from cdpbridge.api import AsyncClient

__all__ = [
    "JsonOption",
    "LimitOption",
    "ProviderOption",
    "console",
    "error_console",
    "first",
    "instant",
    "print_json",
    "print_list",
    "print_rows",
    "progress",
    "short",
    "with_client",
]

T = TypeVar("T")
M = TypeVar("M", bound="BaseModel")

console = Console(highlight=False)
error_console = Console(stderr=True, highlight=False)

ProviderOption = Annotated[
    str | None,
    typer.Option(
        "--provider",
        help="Where: `cloud`, `local`, or the base URL of a server (its key in BROWSER_USE_API_KEY). Default: "
        "CDPBRIDGE_PROVIDER or CDPBRIDGE_BASE_URL, else the cloud when BROWSER_USE_API_KEY is set, else this machine.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
LimitOption = Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")]

_WIDTH = 60


@contextmanager
def progress(text: str) -> Iterator[Callable[[str], Any]]:
    """A spinner on stderr, where a person watches; its function changes the text."""
    with error_console.status(escape(text)) as status:
        yield lambda text: status.update(escape(text))


def print_json(value: BaseModel | Sequence[BaseModel] | dict[str, Any]) -> None:
    """The records by their names on the wire."""
    if isinstance(value, dict):
        shown: Any = value
    elif isinstance(value, Sequence):
        shown = [item.model_dump(mode="json", by_alias=True) for item in value]
    else:
        shown = value.model_dump(mode="json", by_alias=True)
    print(json.dumps(shown, indent=2, ensure_ascii=False, default=str))


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[str]], *, nothing: str) -> None:
    """A table, or on stderr that there is nothing."""
    from rich.table import Table

    if not rows:
        error_console.print(nothing)
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)


def instant(value: datetime | None) -> str:
    """A time in a table."""
    return "" if value is None else f"{value:%Y-%m-%d %H:%M:%S}"


def short(text: str | None) -> str:
    """The beginning of a text, on one line."""
    line = " ".join((text or "").split())
    return line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"


async def first(limit: int, items: AsyncIterable[T]) -> list[T]:
    """So many of `items` at most."""
    found: list[T] = []
    async for item in items:
        found.append(item)
        if len(found) == limit:
            break
    return found


def print_list(
    found: Sequence[M], as_json: bool, head: Sequence[str], row: Callable[[M], Sequence[str]], *, nothing: str
) -> None:
    """A table with a row each, the text `nothing` when there is none, or JSON."""
    if as_json:
        print_json(found)
    else:
        print_rows(head, [row(each) for each in found], nothing=nothing)


def with_client(where: str | None, work: Callable[[AsyncClient], Awaitable[T]]) -> T:
    """What `work` brings, with the client that a user's word stands for."""
    from cdpbridge.providers import provider

    async def run() -> T:
        async with provider(where) as client:
            return await work(client)

    return asyncio.run(run())
