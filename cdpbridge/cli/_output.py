"""Print results, notes, progress, tables and JSON; run work with a client."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import unicodedata
from collections.abc import AsyncIterable, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from pydantic import BaseModel

    from cdpbridge.api import AsyncClient

__all__ = [
    "enter_pressed",
    "first",
    "instant",
    "note",
    "on_terminal",
    "print_json",
    "print_list",
    "print_record",
    "print_rows",
    "progress",
    "say",
    "short",
    "with_client",
]

T = TypeVar("T")
M = TypeVar("M", bound="BaseModel")

_SHORT: Final = 60  # characters of a text in a table
_GAP: Final = "  "
_NARROWEST: Final = 8  # columns of free text that is cut
# Titles of pages and outputs of agents are foreign text: no control sequence of it reaches the terminal.
_CONTROLS: Final = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}


def say(text: object) -> None:
    """Print a result on standard output."""
    with _line.hidden():
        click.echo(str(text).translate(_CONTROLS))


def note(text: object) -> None:
    """Print a note for a person on standard error."""
    with _line.hidden():
        click.echo(str(text).translate(_CONTROLS), err=True)


class _StatusLine:
    """One line at the bottom of a terminal that says what goes on; nothing where standard error is no terminal."""

    def __init__(self) -> None:
        self._text = ""

    def show(self, text: str) -> None:
        self._text = short(text.translate(_CONTROLS))
        self._draw()

    def _draw(self) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{self._text}", nl=False, err=True)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Make place for another line."""
        text, self._text = self._text, ""
        if text:
            self._draw()
        yield
        if text:
            self.show(text)


_line = _StatusLine()


@contextmanager
def progress(text: str) -> Iterator[Callable[[str], Any]]:
    """Show on a terminal what goes on during a block; the yielded function changes the text."""
    _line.show(text)
    try:
        yield _line.show
    finally:
        _line.show("")


def print_json(value: BaseModel | Sequence[BaseModel] | dict[str, Any]) -> None:
    """Print records by the names of their fields in the API."""
    if isinstance(value, dict):
        shown: Any = value
    elif isinstance(value, Sequence):
        shown = [item.model_dump(mode="json", by_alias=True) for item in value]
    else:
        shown = value.model_dump(mode="json", by_alias=True)
    print(json.dumps(shown, indent=2, ensure_ascii=False, default=str))


def print_record(record: BaseModel | dict[str, Any], as_json: bool, text: str) -> None:
    """Print a record as JSON, or the line that says what happened to it."""
    if as_json:
        print_json(record)
    else:
        say(text)


def print_rows(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    nothing: str = "",
    right: Collection[str] = (),
    cut: Collection[str] = (),
) -> None:
    """Print a table, or on standard error that there is nothing.

    On a terminal it is aligned. In a pipe or a file, cells are whole, with a tab between them.

    Args:
        columns: Its head.
        rows: A cell for each column.
        nothing: What to say when there are no rows.
        right: Columns that are aligned to the right: numbers.
        cut: Columns of free text, which are cut where the terminal is too narrow; ids never are.
    """
    if not rows:
        note(nothing)
        return
    cells = [[name.upper() for name in columns], *([" ".join(cell.split()) for cell in row] for row in rows)]
    if not on_terminal():
        for row in cells:
            say("\t".join(row))
        return
    _fit(columns, cells, cut)
    widths = [max(_width(row[index]) for row in cells) for index in range(len(columns))]
    for row in cells:
        padded = [
            f"{' ' * (width - _width(cell))}{cell}"
            if name in right
            else f"{cell}{' ' * (width - _width(cell))}"
            for name, cell, width in zip(columns, row, widths, strict=True)
        ]
        say(_GAP.join(padded).rstrip())


def on_terminal() -> bool:
    """Return True if standard output is a terminal, and no program reads it."""
    return sys.stdout.isatty()


def _fit(columns: Sequence[str], cells: list[list[str]], cut: Collection[str]) -> None:
    """Cut the free text of a table that is wider than the terminal, the longest column first."""
    widths = [max(_width(row[index]) for row in cells) for index in range(len(columns))]
    surplus = sum(widths) + len(_GAP) * (len(columns) - 1) - shutil.get_terminal_size().columns
    for index in sorted(range(len(columns)), key=lambda index: -widths[index]):
        if surplus > 0 and columns[index] in cut:
            left = max(widths[index] - surplus, _NARROWEST)
            surplus -= widths[index] - left
            for row in cells:
                row[index] = _cut(row[index], left)


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    kept = ""
    for character in text:
        if _width(kept + character) >= width:
            break
        kept += character
    return f"{kept}…"


def _width(text: str) -> int:
    """Return the columns of a terminal that `text` takes."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def instant(value: datetime | None) -> str:
    """Return a time as it stands in a table."""
    return "" if value is None else f"{value:%Y-%m-%d %H:%M:%S}"


def short(text: str | None) -> str:
    """Return the beginning of a text, on one line."""
    line = " ".join((text or "").split())
    return line if len(line) <= _SHORT else line[: _SHORT - 1] + "…"


async def first(limit: int, items: AsyncIterable[T]) -> list[T]:
    """Return at most `limit` of `items`."""
    found: list[T] = []
    async for item in items:
        found.append(item)
        if len(found) == limit:
            break
    return found


def print_list(
    found: Sequence[M],
    as_json: bool,
    head: Sequence[str],
    row: Callable[[M], Sequence[str]],
    *,
    nothing: str,
    cut: Collection[str] = (),
) -> None:
    """Print a table with a row for each record, the text `nothing` when there is none, or JSON."""
    if as_json:
        print_json(found)
    else:
        print_rows(head, [row(each) for each in found], nothing=nothing, cut=cut)


def with_client(where: str | None, work: Callable[[AsyncClient], Awaitable[T]]) -> T:
    """Return the result of `work` with the client that `where` names."""
    from cdpbridge.providers import provider

    async def run() -> T:
        async with provider(where) as client:
            return await work(client)

    return asyncio.run(run())


async def enter_pressed() -> None:
    """Wait for a line on standard input, or its end. Not in a thread: that would outlive Ctrl-C."""
    pressed = asyncio.Event()
    loop = asyncio.get_running_loop()
    try:
        loop.add_reader(sys.stdin, pressed.set)
    except OSError:  # a plain file can always be read
        return
    try:
        await pressed.wait()
    finally:
        loop.remove_reader(sys.stdin)
